// Weights of elements: what is of weight 0 never touches a statistic, whatever its x (it is
// selected away, not multiplied by 0), and has no part in a backward's sums where its x is not
// finite.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// What weights of a tensor of T are read as: float64 where it is, else float32.
template <class T>
using Weight = typename Arithmetic<MapVec<T>>::Number;

// v where the weight is above 0 or x is finite, else 0.
inline Vec if_there(Vec weight, Vec x, Vec v) {
  const Mask finite = positive(splat(1) - (x - x)), used = positive(weight);
  return choose(used, v, choose(finite, v, splat(0)));
}

// The weights of a tile of T, row by row.
template <class T>
struct WeightRows {
  using W = Weight<T>;
  const W* w;
  std::ptrdiff_t stride;
  bool per_row;

  explicit WeightRows(const WeightsTile& t)
      : w(static_cast<const W*>(t.w)), stride(t.per_row ? 1 : t.w_stride), per_row(t.per_row) {}

  BNPP_INLINE const W* row(std::ptrdiff_t i) const { return w + i * stride; }
  // Those of kPartLanes columns, 0 where there is none.
  template <class Lanes>
  BNPP_INLINE Part at(const W* row, std::ptrdiff_t j, Lanes lanes) const {
    return per_row ? first_of(spread(static_cast<double>(*row)), lanes) : load_part(row + j, lanes);
  }
  // Of the first `lanes` elements of a row from column j on.
  template <class Lanes>
  BNPP_INLINE Vec vector(const W* row, std::ptrdiff_t j, Lanes lanes) const {
    return per_row ? splat(static_cast<double>(*row)) : load(row + j, lanes);
  }
  bool one_run(std::ptrdiff_t cols) const { return !per_row && stride == cols; }
  void go_on(std::ptrdiff_t n, std::ptrdiff_t first) {
    w = row(first);
    stride *= n;
  }
};

}  // namespace
}  // namespace bnpp::BNPP_ISA
