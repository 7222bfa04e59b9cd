// The weights of a tile, as the weighted verbs read them, and weight_sums: sum w and sum w^2.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

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

// w, or NaN where it is negative: then no sum with it is finite.
inline Vec not_negative(Vec w) {
  return choose(positive(splat(0) - w), splat(__builtin_nan("")), w);
}

template <class T>
void weight_sums_rows(const WeightSumsTile& t) {
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
void weight_sums_cols(const WeightSumsTile& tile) {
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
}  // namespace bnpp::BNPP_ISA
