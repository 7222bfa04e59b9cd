// The weights of a tile, as the weighted verbs read them, and weight_sums: sum w and sum w^2.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

// w, or NaN where it is negative: then no sum with it is finite.
inline Vec not_negative(Vec w) {
  return choose(positive(splat(0) - w), splat(__builtin_nan("")), w);
}

template <class T>
void weight_sums_of_rows(const WeightSumsTile& t) {
  // One weight a row: the weights are a single run then.
  const std::ptrdiff_t rows = t.weights.per_row ? 1 : t.rows;
  const std::ptrdiff_t cols = t.weights.per_row ? t.rows : t.cols;
  const double times = t.weights.per_row ? static_cast<double>(t.cols) : 1;
  const TileWeights<T, false> weights(t.weights);
  RowSums sums;
  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    add_run(cols, sums, [&](std::ptrdiff_t j, auto lanes, Vec& w, Vec& w2) BNPP_INLINE_LAMBDA {
      w = not_negative(weights.at(i, j, lanes));
      w2 = w * w;
    });
  }
  sums.flush();
  *t.sum = times * rounded(sum_lanes(sums.s1.hi, sums.s1.lo));
  *t.sum_squares = times * rounded(sum_lanes(sums.s2.hi, sums.s2.lo));
}

template <class T>
void weight_sums_of_cols(const WeightSumsTile& tile) {
  const WeightSumsTile t = tile;  // a copy no store can alias
  const TileWeights<T, false> weights(t.weights);
  for_each_piece(t, kSharedColumns, [&](const Piece& piece) BNPP_INLINE_LAMBDA {
    ColumnSums sums;
    sum_columns<kRowsSummed<1>>(t.rows, piece.cols, sums,
                                [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& w, Vec& w2)
                                    BNPP_INLINE_LAMBDA {
                                      w = not_negative(weights.at(i, piece.begin + j, lanes));
                                      w2 = w * w;
                                    });
    for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
      const std::ptrdiff_t j = c * t.repeat;
      t.sum[piece.channel + c] = rounded(channel_sum(sums.hi1 + j, sums.lo1 + j, t.repeat));
      t.sum_squares[piece.channel + c] = rounded(channel_sum(sums.hi2 + j, sums.lo2 + j, t.repeat));
    }
  });
}

}  // namespace

template <class T, Layout layout>
void weight_sums(const WeightSumsTile& t) {
  if constexpr (layout == Layout::rows) return weight_sums_of_rows<T>(t);
  weight_sums_of_cols<T>(t);
}

#define BNPP_UNIT(name, type)                                           \
  template void weight_sums<type, Layout::rows>(const WeightSumsTile&); \
  template void weight_sums<type, Layout::cols>(const WeightSumsTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
