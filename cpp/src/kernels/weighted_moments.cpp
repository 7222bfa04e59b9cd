// weighted_moments: s1 = sum w (x - K) and s2 = sum w (x - K)^2, about a shift K near the values
// that have weight; what has none may be anything, NaN too.
//
// As moments, with K the weighted mean of a few of the tile's values, and a second pass where that
// proves poor.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

// w * (x - K) and w * (x - K)^2.
BNPP_INLINE void weighted_terms(Vec x, Vec shift, Vec w, Vec& d, Vec& d2) {
  const Vec difference = choose(positive(w), x - shift, splat(0));
  d = w * difference;
  d2 = d * difference;
}

// The weighted mean of the start of the first run that has weight there, of the first few.
template <class T, bool per_row>
inline double weighted_run_shift(const WeightedMomentsTile& t, std::ptrdiff_t column,
                                 std::ptrdiff_t cols) {
  const T* x = static_cast<const T*>(t.tile.x) + column;
  const TileWeights<T, per_row> weights(t.weights);
  const std::ptrdiff_t n = cols < kLanes ? cols : kLanes;
  for (std::ptrdiff_t i = 0; i < t.tile.rows && (per_row || i < kShiftRows);
       ++i, x += t.tile.x_stride) {
    if constexpr (per_row) {
      if (weights.of_row(i) > 0) return shift_apart(x, Apart(1, cols, 0));
    } else {
      const Vec w = weights.at(i, column, Some{n});
      const double total = sum(w);
      Vec d, d2;
      weighted_terms(load(x, Some{n}), splat(0), w, d, d2);
      if (total > 0) return as_shift<T>(sum(d) / total);
    }
  }
  return 0;
}

template <class T, bool per_row>
inline void sum_weighted_rows(const WeightedMomentsTile& tile, double shift) {
  const MomentsTile& t = tile.tile;
  const TileWeights<T, per_row> weights(tile.weights);
  const Vec k = splat(shift);
  RowSums sums;
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    if (per_row && !(weights.of_row(i) > 0)) continue;
    const T* run = static_cast<const T*>(t.x) + i * t.x_stride;
    add_run(t.cols, sums, [&](std::ptrdiff_t j, auto lanes, Vec& d, Vec& d2) BNPP_INLINE_LAMBDA {
      foresee(t.rows, run, j, t.x_stride);
      // Lanes that are not there weigh nothing.
      const Vec w = first_of(weights.at(i, j, lanes), lanes, splat(0));
      weighted_terms(load(run + j, lanes), k, w, d, d2);
    });
  }
  sums.flush();
  put_sums(t.sums, 0, shift, sum_lanes(sums.s1.hi, sums.s1.lo), sum_lanes(sums.s2.hi, sums.s2.lo));
}

template <class T, bool per_row>
void weighted_moments_of_rows(const WeightedMomentsTile t) {
  sum_weighted_rows<T, per_row>(t, weighted_run_shift<T, per_row>(t, 0, t.tile.cols));
  const BlockSums& sums = t.tile.sums;
  if (*t.count > 0 && poor_shift<T>(*sums.s1, *sums.s2, *t.count)) {
    sum_weighted_rows<T, per_row>(t, as_shift<T>(*sums.shift + *sums.s1 / *t.count));
  }
}

// The rows of a tile in layout cols: with one weight a row only those that are listed.
template <bool per_row>
BNPP_INLINE std::ptrdiff_t row_of(const WeightedMomentsTile& t, std::ptrdiff_t i) {
  if constexpr (per_row) return t.start[i / kRowsListed] + i % kRowsListed;
  return i;
}
template <class T, bool per_row>
inline void first_weighted_shifts(const WeightedMomentsTile& tile, const Piece& piece,
                                  ColumnSums& sums) {
  const MomentsTile& t = tile.tile;
  const TileWeights<T, per_row> weights(tile.weights);
  if (t.repeat > 1) {
    for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
      const std::ptrdiff_t column = piece.begin + c * t.repeat;
      double shift = 0;
      if constexpr (per_row) {
        const T* x = static_cast<const T*>(t.x) + column;
        std::ptrdiff_t k = 0;
        while (k < t.rows && !(weights.of_row(row_of<true>(tile, k)) > 0)) ++k;
        if (k < t.rows) {
          shift = shift_apart(x + row_of<true>(tile, k) * t.x_stride, Apart(1, t.repeat, 0));
        }
      } else {
        shift = weighted_run_shift<T, false>(tile, column, t.repeat);
      }
      for (std::ptrdiff_t k = 0; k < t.repeat; ++k) sums.shift[c * t.repeat + k] = shift;
    }
    return;
  }
  const T* x = static_cast<const T*>(t.x) + piece.begin;
  const std::ptrdiff_t n = t.rows < kShiftRows ? t.rows : kShiftRows;
  for_each_vector(piece.cols, [&](std::ptrdiff_t j, auto lanes) {
    Vec sum = splat(0), total = splat(0);
    for (std::ptrdiff_t k = 0; k < n; ++k) {
      const std::ptrdiff_t i = row_of<per_row>(tile, t.rows * k / n);
      const Vec w = weights.at(i, piece.begin + j, lanes);
      Vec d, d2;
      weighted_terms(load(x + i * t.x_stride + j, lanes), splat(0), w, d, d2);
      sum = sum + d;
      total = total + w;
    }
    store(sums.shift + j, as_shift<T>(sum / total), lanes);  // 0 / 0 gives 0
  });
}

// The sums of a piece's channels about the shifts in `columns`.
template <class T, bool per_row>
BNPP_INLINE void sum_weighted_channels(const WeightedMomentsTile& tile, const Piece& piece,
                                       ColumnSums& columns) {
  const MomentsTile& t = tile.tile;
  const TileWeights<T, per_row> weights(tile.weights);
  const T* x = static_cast<const T*>(t.x) + piece.begin;
  constexpr std::ptrdiff_t at_once = kRowsSummed < per_row ? 1 : 2 > ;
  sum_columns<at_once>(
      t.rows, piece.cols, columns,
      [&](std::ptrdiff_t k, std::ptrdiff_t j, auto lanes, Vec& d, Vec& d2) BNPP_INLINE_LAMBDA {
        const std::ptrdiff_t i = row_of<per_row>(tile, k);
        const T* at = x + i * t.x_stride + j;
        prefetch(at + at_once * t.x_stride);
        const Vec w = weights.at(i, piece.begin + j, lanes);
        weighted_terms(load(at, lanes), load(columns.shift + j, lanes), w, d, d2);
      });
  for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
    const std::ptrdiff_t j = c * t.repeat;
    put_sums(t.sums, piece.channel + c, columns.shift[j],
             channel_sum(columns.hi1 + j, columns.lo1 + j, t.repeat),
             channel_sum(columns.hi2 + j, columns.lo2 + j, t.repeat));
  }
}

// Channels [c, c + channels) of a piece once more, about the means that the first sums gave.
template <class T, bool per_row>
inline void sum_weighted_channels_again(const WeightedMomentsTile& tile, const Piece& piece) {
  const MomentsTile& t = tile.tile;
  ColumnSums columns;
  for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
    const std::ptrdiff_t at = piece.channel + c;
    const double shift =
        as_shift<T>(t.sums.shift[at] + t.sums.s1[at] / tile.count[at * tile.count_step]);
    for (std::ptrdiff_t k = 0; k < t.repeat; ++k) columns.shift[c * t.repeat + k] = shift;
  }
  sum_weighted_channels<T, per_row>(tile, piece, columns);
}

template <class T, bool per_row>
void weighted_moments_of_cols(const WeightedMomentsTile t) {
  const BlockSums& sums = t.tile.sums;
  const std::ptrdiff_t repeat = t.tile.repeat;
  const std::ptrdiff_t vector = repeat < kLanes ? kLanes / repeat : 1;
  for_each_piece(t.tile, kSharedColumns, [&](const Piece& piece) BNPP_INLINE_LAMBDA {
    ColumnSums columns;
    first_weighted_shifts<T, per_row>(t, piece, columns);
    sum_weighted_channels<T, per_row>(t, piece, columns);
    for (std::ptrdiff_t c = 0; c < piece.channels; c += vector) {
      const std::ptrdiff_t left = piece.channels - c, channels = left < vector ? left : vector;
      bool again = false;
      for (std::ptrdiff_t k = piece.channel + c; k < piece.channel + c + channels; ++k) {
        const double n = t.count[k * t.count_step];
        again = again || (n > 0 && poor_shift<T>(sums.s1[k], sums.s2[k], n));
      }
      if (again) {
        sum_weighted_channels_again<T, per_row>(
            t, {piece.begin + c * repeat, channels * repeat, piece.channel + c, channels});
      }
    }
  });
}

}  // namespace

template <class T, Layout layout>
void weighted_moments(const WeightedMomentsTile& t) {
  with_flag(t.weights.per_row, [&](auto per_row) {
    constexpr bool of_rows = decltype(per_row)::value;
    if constexpr (layout == Layout::rows) return weighted_moments_of_rows<T, of_rows>(t);
    weighted_moments_of_cols<T, of_rows>(t);
  });
}

#define BNPP_UNIT(name, type)                                                     \
  template void weighted_moments<type, Layout::rows>(const WeightedMomentsTile&); \
  template void weighted_moments<type, Layout::cols>(const WeightedMomentsTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
