// Weights of elements: what is of weight 0 never touches a statistic, whatever its x (it is
// selected away, not multiplied by 0), and has no part in a backward's sums where its x is not
// finite.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

template <class T>
struct WeightOf {
  using type = float;
};
template <>
struct WeightOf<double> {
  using type = double;
};
// What weights of a tensor of T are read as.
template <class T>
using Weight = typename WeightOf<T>::type;

// v where the weight is above 0 or x is finite, else 0.
inline Vec if_there(Vec weight, Vec x, Vec v) {
  const Mask finite = positive(splat(1) - (x - x)), used = positive(weight);
  return choose(used, v, choose(finite, v, splat(0)));
}

// The weights of the vectors of a tile of T: at(row, column, lanes).
template <class T, bool per_row>
struct TileWeights {
  using W = Weight<T>;
  const W* w;
  std::ptrdiff_t stride;

  explicit TileWeights(const WeightsTile& t) : w(static_cast<const W*>(t.w)), stride(t.w_stride) {}

  template <class Lanes>
  BNPP_INLINE Vec at(std::ptrdiff_t i, std::ptrdiff_t j, Lanes lanes) const {
    if constexpr (per_row) return splat(of_row(i));
    return load(w + i * stride + j, lanes);
  }
  BNPP_INLINE double of_row(std::ptrdiff_t i) const { return static_cast<double>(w[i]); }
};

// Adds the terms of a run, four vectors at a time as a tree: terms(j, lanes, &first, &second).
template <class Terms>
BNPP_INLINE void add_run(std::ptrdiff_t cols, RowSums& sums, Terms terms) {
  const auto four = [&](std::ptrdiff_t v, std::ptrdiff_t j, Full lanes, Vec& a, Vec& b)
                        BNPP_INLINE_LAMBDA { terms(j + v * kLanes, lanes, a, b); };
  std::ptrdiff_t j = 0;
  Vec a, b;
  for (; j + 4 * kLanes <= cols; j += 4 * kLanes) {
    add_terms<4>(0, j, Full{}, a, b, four);
    sums.add(a, b);
  }
  for_each_vector(cols - j, [&](std::ptrdiff_t k, auto lanes) BNPP_INLINE_LAMBDA {
    terms(j + k, lanes, a, b);
    sums.add(a, b);
  });
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
