// weight_sums: sum w and sum w^2, not finite where a weight is negative.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class W>
struct WeightValues : SumsOf<W, 0> {
  static constexpr bool kMayBeExact = sizeof(W) < sizeof(double);
  const W* w;

  bool exact(std::ptrdiff_t) const { return true; }
  const W* row(std::ptrdiff_t i) const { return w + i * this->stride; }
  BNPP_INLINE void foresee(std::ptrdiff_t i, std::ptrdiff_t j) const { prefetch(row(i) + j); }
  // NaN for a negative weight: then no sum with it is finite.
  template <bool exact, class Lanes>
  BNPP_INLINE void terms(const W* row, std::ptrdiff_t j, Lanes lanes, const Numbers<0>&, Part& u,
                         Part& v) const {
    u = load_part(row + j, lanes);
    u = choose(positive(spread(0) - u), spread(__builtin_nan("")), u);
    v = u;
  }
  bool one_run() const { return this->stride == this->cols; }
  WeightValues every(std::ptrdiff_t n, std::ptrdiff_t first) const {
    WeightValues part = *this;
    part.w = row(first);
    part.stride *= n;
    return part;
  }
};

}  // namespace

template <class T, Layout layout>
void weight_sums(const WeightSumsTile& tile) {
  using W = Weight<T>;
  WeightSumsTile t = as_columns<layout>(tile);
  double times = 1;
  if (t.weights.per_row) {  // one weight a row: the weights are a single run then
    times = static_cast<double>(t.cols);
    t.cols = t.repeat = t.rows;
    t.rows = 1;
  }
  WeightValues<W> s;
  s.rows = t.rows;
  s.cols = t.cols;
  s.repeat = t.repeat;
  s.stride = t.weights.w_stride;
  s.ahead = false;
  s.in_columns = t.repeat < kLanes && t.repeat < t.cols;
  s.w = static_cast<const W*>(t.weights.w);
  sum_tile(s, false, t.sum, t.sum_squares);
  if (times == 1) return;
  *t.sum *= times;
  *t.sum_squares *= times;
}

#define BNPP_UNIT(name, type)                                           \
  template void weight_sums<type, Layout::rows>(const WeightSumsTile&); \
  template void weight_sums<type, Layout::cols>(const WeightSumsTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
