// Group and instance normalization against the formula, and the same bits for every instruction set
// and thread count, whichever way the threads share the work.
#include <cmath>

#include "check.h"

namespace {

using bnpp::dense;

struct Shape {
  std::int64_t n, c, s, groups;
};

template <class T>
std::vector<T> everything(const Shape& shape, bool channels_last, bool fused) {
  const auto size = static_cast<std::size_t>(shape.n * shape.c * shape.s);
  const std::vector<T> x = normal<T>(size, 1e3), r = normal<T>(size, 0, 2),
                       dy = normal<T>(size, 0, 3);
  const std::vector<T> gamma = normal<T>(static_cast<std::size_t>(shape.c), 1, 4),
                       beta = normal<T>(static_cast<std::size_t>(shape.c), 0, 5);
  std::vector<T> y(size), dx(size), dresidual(size), dgamma(gamma.size()), dbeta(gamma.size());
  const auto view = [&](auto* data) {
    return channels_last ? dense(data, {shape.n, shape.s, shape.c})
                         : dense(data, {shape.n, shape.c, shape.s});
  };
  bnpp::GroupNormArgs args;
  args.x = view(x.data());
  args.y = view(y.data());
  args.gamma = dense(gamma.data(), {shape.c});
  args.beta = dense(beta.data(), {shape.c});
  args.axis = channels_last ? -1 : 1;
  args.groups = shape.groups;
  if (fused) {
    args.activation = bnpp::Activation::relu;
    args.residual = view(r.data());
  }
  const bnpp::GroupNormSaved saved = bnpp::group_norm(args);

  bnpp::GroupNormGrads grads;
  grads.dy = view(dy.data());
  grads.dx = view(dx.data());
  grads.dgamma = dense(dgamma.data(), {shape.c});
  grads.dbeta = dense(dbeta.data(), {shape.c});
  if (fused) grads.dresidual = view(dresidual.data());
  bnpp::group_norm_backward(saved, grads);

  std::vector<T> all = y;
  for (const auto* part : {&dx, &dresidual, &dgamma, &dbeta}) {
    all.insert(all.end(), part->begin(), part->end());
  }
  return all;
}

template <class T>
void same_bits_everywhere() {
  const Shape shapes[] = {
      {3, 6, 7, 2}, {2, 8, 300, 4}, {40, 4, 1, 2}, {2, 2, 40000, 1}, {5, 60, 49, 60}};
  bnpp::set_min_work(1);
  for (const Shape& shape : shapes) {
    for (const bool channels_last : {false, true}) {
      for (const bool fused : {false, true}) {
        if (shape.s == 1 && shape.groups == shape.c) continue;
        std::vector<T> first;
        for (const std::string& isa : bnpp::usable_isas()) {
          bnpp::set_isa(isa);
          for (const int threads : {1, 2, 5}) {
            bnpp::set_thread_limit(threads);
            bnpp::set_stream_above(threads == 2 ? 0 : std::int64_t{1} << 60);
            const std::vector<T> all = everything<T>(shape, channels_last, fused);
            if (first.empty()) first = all;
            CHECK(same_bits(all, first));
          }
        }
      }
    }
  }
  bnpp::set_thread_limit(0);
}

void matches_the_formula() {
  constexpr std::int64_t n = 3, c = 4, s = 50, groups = 2, m = c / groups * s;
  const std::vector<float> x = normal<float>(n * c * s, 1e5);
  std::vector<float> y(x.size());
  bnpp::GroupNormArgs args;
  args.x = dense(x.data(), {n, c, s});
  args.y = dense(y.data(), {n, c, s});
  args.groups = groups;
  const bnpp::GroupNormSaved saved = bnpp::group_norm(args);
  CHECK(saved.count == m && saved.mean.size() == n * groups);
  for (std::size_t g = 0; g < n * groups; ++g) {  // a group of a sample is a run of memory
    double mean = 0, var = 0;
    for (std::size_t i = g * m; i < (g + 1) * m; ++i) mean += x[i] / double(m);
    for (std::size_t i = g * m; i < (g + 1) * m; ++i) var += std::pow(x[i] - mean, 2) / double(m);
    CHECK(std::abs(saved.mean[g] - mean) < 1e-9 * mean);
    for (std::size_t i = g * m; i < (g + 1) * m; ++i) {
      const double expected = (x[i] - mean) / std::sqrt(var + 1e-5);
      CHECK(std::abs(y[i] - expected) <= 1.2e-7 * std::abs(expected) + 1e-9);
    }
  }
}

void refuses() {
  std::vector<float> x(12), y(12);
  bnpp::GroupNormArgs args;
  args.x = dense(x.data(), {2, 3, 2});
  args.y = dense(y.data(), {2, 3, 2});
  args.groups = 2;
  CHECK(throws<bnpp::ValueError>([&] { bnpp::group_norm(args); }, "groups is 2, but"));
  args.axis = 0;
  CHECK(
      throws<bnpp::ValueError>([&] { bnpp::instance_norm(args); }, "axis is 0, where the samples"));
  CHECK(throws<bnpp::ValueError>([&] { bnpp::group_norm_backward({}, {}); }, "saved is empty"));
}

}  // namespace

int main() {
  matches_the_formula();
  refuses();
  same_bits_everywhere<float>();
  same_bits_everywhere<double>();
  return failures != 0;
}
