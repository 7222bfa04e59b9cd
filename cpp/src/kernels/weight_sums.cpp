// weight_sums: sum w and sum w^2, not finite where a weight is negative.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class W>
struct WeightValues : ValueSumsOf<W, 0> {
  explicit WeightValues(const WeightSumsTile& t)
      : ValueSumsOf<W, 0>(
            sums_of<W, 0>(t, false, t.weights.w_stride, nullptr, 0, t.cols / t.repeat),
            t.weights.w) {}

  bool exact(std::ptrdiff_t) const { return true; }
  // NaN for a negative weight: then no sum with it is finite.
  template <bool exact, class Lanes>
  BNPP_INLINE void terms(const W* row, std::ptrdiff_t j, Lanes lanes, const Numbers<0>&, Part& u,
                         Part& v) const {
    u = load_part(row + j, lanes);
    u = choose(positive(spread(0) - u), spread(__builtin_nan("")), u);
    v = u;
  }
};

}  // namespace

template <class T, Layout layout>
void weight_sums(const WeightSumsTile& tile) {
  WeightSumsTile t = as_columns<layout>(tile);
  double times = 1;
  if (t.weights.per_row) {  // one weight a row: the weights are a single run then
    times = static_cast<double>(t.cols);
    t.cols = t.repeat = t.rows;
    t.rows = 1;
  }
  sum_tile(WeightValues<Weight<T>>(t), false, t.sum, t.sum_squares);
  if (times == 1) return;
  *t.sum *= times;
  *t.sum_squares *= times;
}

#define BNPP_UNIT(name, type)                                           \
  template void weight_sums<type, Layout::rows>(const WeightSumsTile&); \
  template void weight_sums<type, Layout::cols>(const WeightSumsTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
