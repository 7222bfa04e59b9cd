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

// The first x that has a weight.
template <class T>
inline double first_weighted(const T* x, const Weight<T>* w, std::ptrdiff_t cols) {
  for (std::ptrdiff_t j = 0; j < cols; ++j) {
    if (w[j] > 0) return as_shift<T>(to_double(x[j]));
  }
  return 0;
}

// The sums of row i about a shift.
template <class T>
inline void sum_weighted_row(const RowWeightedMomentsTile& t, std::ptrdiff_t i, double shift) {
  const T* x = static_cast<const T*>(t.x) + i * t.x_stride;
  const Weight<T>* w = static_cast<const Weight<T>*>(t.weights) + i * t.weights_stride;
  const Vec k = splat(shift);
  RowSums sums;
  LaneSum total;
  for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec weight = load(w + j, lanes);
    const Vec d = choose(positive(weight), load(x + j, lanes) - k, splat(0)), wd = weight * d;
    sums.add(wd, wd * d);
    total.add(weight);
  });
  sums.flush();
  put_sums(t.sums, i, shift, sum_lanes(sums.s1.hi, sums.s1.lo), sum_lanes(sums.s2.hi, sums.s2.lo));
  t.weight[i] = sum_lanes(total.hi, total.lo).hi;
}

// Twice, the second time about the mean: the first value may be an outlier.
template <class T>
void weighted_moments(const RowWeightedMomentsTile& t) {
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    const T* x = static_cast<const T*>(t.x) + i * t.x_stride;
    const Weight<T>* w = static_cast<const Weight<T>*>(t.weights) + i * t.weights_stride;
    sum_weighted_row<T>(t, i, first_weighted(x, w, t.cols));
    if (!(t.weight[i] > 0)) continue;
    sum_weighted_row<T>(t, i, as_shift<T>(t.sums.shift[i] + t.sums.s1[i] / t.weight[i]));
  }
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
