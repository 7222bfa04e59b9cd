// Contract 3: the moments of parts, merged in any order, are the moments of the whole.
#include <cmath>

#include "check.h"

namespace {

constexpr std::int64_t kRows = 5000, kChannels = 3;

bnpp::ChannelMoments of_rows(const std::vector<float>& x, std::int64_t begin, std::int64_t end,
                             std::size_t channel) {
  return bnpp::moments(
      bnpp::dense(x.data() + begin * kChannels, {end - begin, kChannels}))[channel];
}

bool close(double a, double b) { return std::abs(a - b) <= 2.3e-16 * std::abs(a); }

void merges() {
  const std::vector<float> x = normal<float>(kRows * kChannels, 1e4);
  for (std::size_t c = 0; c < kChannels; ++c) {
    const bnpp::ChannelMoments whole = of_rows(x, 0, kRows, c), a = of_rows(x, 0, 17, c),
                               b = of_rows(x, 17, 3000, c), d = of_rows(x, 3000, kRows, c);
    for (const bnpp::ChannelMoments& m :
         {merge(merge(a, b), d), merge(d, merge(a, b)), merge(merge(d, a), b)}) {
      CHECK(m.count == kRows);
      CHECK(close(m.mean, whole.mean));
      CHECK(close(m.m2, whole.m2));
    }
  }
}

void nothing_is_neutral() {
  const bnpp::ChannelMoments nothing, something{3, 2, 0, 5, 0};
  CHECK(merge(nothing, something).m2 == 5);
  CHECK(merge(something, nothing).mean == 2);
  CHECK(bnpp::moments(bnpp::dense<const float>(nullptr, {0, 4})).size() == 4);
}

void weights_of_rows() {
  const std::vector<float> x = normal<float>(kRows * kChannels, 1e4),
                           some(x.begin(), x.begin() + 300);
  std::vector<float> weights(kRows);
  for (std::size_t i = 0; i < 100; ++i) weights[i] = 2;
  const bnpp::ConstTensor rows = bnpp::dense(weights.data(), {kRows, 1});
  const auto weighted = bnpp::moments(bnpp::dense(x.data(), {kRows, kChannels}), 1, rows);
  const auto plain = bnpp::moments(bnpp::dense(some.data(), {100, kChannels}));
  for (std::size_t c = 0; c < kChannels; ++c) {
    CHECK(weighted[c].count == 200);
    CHECK(weighted[c].squared_weights == 400);
    CHECK(plain[c].squared_weights == 100);
    CHECK(close(weighted[c].mean, plain[c].mean));
    CHECK(close(weighted[c].m2, 2 * plain[c].m2));
  }
}

}  // namespace

int main() {
  merges();
  weights_of_rows();
  nothing_is_neutral();
  return failures != 0;
}
