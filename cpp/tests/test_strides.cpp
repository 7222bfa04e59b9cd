// Any strides give the values and bits of the dense array they show.
#include "check.h"

namespace {

using bnpp::dense;

constexpr std::int64_t kN = 6, kC = 5, kS = 37;

std::vector<float> dense_result(const std::vector<float>& x) {
  std::vector<float> y(x.size());
  bnpp::BatchNormArgs args;
  args.x = dense(x.data(), {kN, kC, kS});
  args.y = dense(y.data(), {kN, kC, kS});
  bnpp::batch_norm(args);
  return y;
}

// x in a buffer whose elements lie `gap` apart, the batch reversed, from an odd address if asked
// for.
void with_gaps(std::int64_t gap, bool reversed, std::size_t offset) {
  const std::vector<float> x = normal<float>(kN * kC * kS, 10);
  std::vector<char> memory(static_cast<std::size_t>(kN * kC * kS * gap) * sizeof(float) + offset);
  bnpp::Tensor view = dense(reinterpret_cast<float*>(memory.data() + offset), {kN, kC, kS});
  for (int d = 0; d < 3; ++d) view.strides[d] *= gap;
  if (reversed) {
    view.data = static_cast<char*>(view.data) + (kN - 1) * view.strides[0];
    view.strides[0] = -view.strides[0];
  }
  const auto at = [&](std::int64_t n, std::int64_t c, std::int64_t s) {
    return static_cast<char*>(view.data) + n * view.strides[0] + c * view.strides[1] +
           s * view.strides[2];
  };
  const auto each = [&](auto visit) {
    for (std::int64_t n = 0; n < kN; ++n)
      for (std::int64_t c = 0; c < kC; ++c)
        for (std::int64_t s = 0; s < kS; ++s)
          visit(at(n, c, s), static_cast<std::size_t>((n * kC + c) * kS + s));
  };
  each([&](char* to, std::size_t i) { std::memcpy(to, &x[i], sizeof(float)); });
  bnpp::BatchNormArgs args;
  args.x = view;
  args.y = view;  // in place
  bnpp::batch_norm(args);
  std::vector<float> y(x.size());
  each([&](char* from, std::size_t i) { std::memcpy(&y[i], from, sizeof(float)); });
  CHECK(same_bits(y, dense_result(x)));
}

}  // namespace

int main() {
  for (const std::int64_t gap : {1, 3}) {
    for (const bool reversed : {false, true}) {
      for (const std::size_t offset : {0, 1}) with_gaps(gap, reversed, offset);
    }
  }
  return failures != 0;
}
