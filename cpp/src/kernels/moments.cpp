// moments: s1 = sum (x - K) and s2 = sum (x - K)^2, about a shift K near the values.
//
// K is representable in x's dtype, so equal values give differences of exactly 0, and it is a mean
// of some of the tile's own values, so s2 exceeds M2 by a bounded factor only, whatever the data.
// Where that factor is not small (K came from outliers), and always in float64, a second pass over
// the tile, in the cache by now, takes the first one's mean for K. K is 0 where that is near enough
// to the values: then there is nothing to subtract, and the squares are exact.
//
// Plain sums run over a few dozen terms only; then they join an exact pair hi + lo. So the sums of
// parts of the data add up to those of the whole.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class T, bool about_zero>
inline void sum_rows(const MomentsTile& t, double shift) {
  const Vec k = splat(shift);
  const auto from_shift = [&](const T* x, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec v = load(x, lanes);
    if constexpr (about_zero) return v;
    return first_of(v - k, lanes, splat(0));
  };
  // a * a + b * b
  const auto squares = [&](Vec a, Vec b) BNPP_INLINE_LAMBDA {
    return about_zero ? plus_exact_product(b, b, a * a) : a * a + b * b;
  };
  RowSums sums;
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    const T* x = static_cast<const T*>(t.x) + i * t.x_stride;
    const T* const end = x + t.cols;
    const T* const run = x;
    for (; end - x >= 4 * kLanes; x += 4 * kLanes) {
      for (int k = 0; k < 4; ++k) foresee(t.rows, run, x - run + k * kLanes, t.x_stride);
      const Vec a = from_shift(x, Full{}), b = from_shift(x + kLanes, Full{});
      const Vec ab = a + b, ab2 = squares(a, b);
      const Vec c = from_shift(x + 2 * kLanes, Full{}), d = from_shift(x + 3 * kLanes, Full{});
      sums.add(ab + (c + d), ab2 + squares(c, d));
    }
    for (; end - x >= kLanes; x += kLanes) {
      const Vec d = from_shift(x, Full{});
      sums.add(d, d * d);
    }
    if (x < end) {
      const Vec d = from_shift(x, Some{end - x});
      sums.add(d, d * d);
    }
  }
  sums.flush();
  put_sums(t.sums, 0, shift, sum_lanes(sums.s1.hi, sums.s1.lo), sum_lanes(sums.s2.hi, sums.s2.lo));
}

template <class T>
void moments_of_rows(const MomentsTile& t) {
  const auto sum = [&](double shift) {
    if (sizeof(T) == sizeof(double) || shift != 0) return sum_rows<T, false>(t, shift);
    sum_rows<T, true>(t, 0);
  };
  sum(shift_apart(static_cast<const T*>(t.x), Apart(t.rows, t.cols, t.x_stride)));
  const auto n = static_cast<double>(t.rows * t.cols);
  if (poor_shift<T>(*t.sums.s1, *t.sums.s2, n)) {
    sum(as_shift<T>(*t.sums.shift + *t.sums.s1 / n));
  }
}

template <class T>
inline void first_column_shifts(const MomentsTile& t, const T* x, const Piece& piece,
                                ColumnSums& sums) {
  if (t.repeat > 1) {
    const Apart where(t.rows, t.repeat, t.x_stride);
    for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
      const double shift = shift_apart(x + c * t.repeat, where);
      for (std::ptrdiff_t k = 0; k < t.repeat; ++k) sums.shift[c * t.repeat + k] = shift;
    }
    return;
  }
  const std::ptrdiff_t n = t.rows < kShiftRows ? t.rows : kShiftRows;
  const Vec share = splat(1.0 / static_cast<double>(n));
  for_each_vector(piece.cols, [&](std::ptrdiff_t j, auto lanes) {
    const Vec first = load(x + j, lanes);
    Vec rest = splat(0), square = splat(0);
    for (std::ptrdiff_t i = 1; i < n; ++i) {
      const Vec d = load(x + t.rows * i / n * t.x_stride + j, lanes) - first;
      rest = rest + d;
      square = square + d * d;
    }
    store(sums.shift + j, shift_of<T>(first + rest * share, square * share), lanes);
  });
}

// The sums of a piece's columns about the shifts in `columns`. With `gaps` the tile has `n` rows of
// memory for each of its own.
template <class T, bool gaps = false>
BNPP_INLINE void sum_piece(const MomentsTile& t, const Piece& piece, ColumnSums& columns,
                           std::ptrdiff_t n = 1) {
  const T* x = static_cast<const T*>(t.x) + piece.begin;
  constexpr std::ptrdiff_t at_once = kRowsSummed<1>;
  const std::ptrdiff_t beyond = rows_ahead<T>(t.x_stride, n * at_once) * t.x_stride;
  const auto sum = [&](auto zero, auto ahead) BNPP_INLINE_LAMBDA {
    constexpr bool about_zero = decltype(zero)::value;
    const auto differences = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& d, Vec& same)
                                 BNPP_INLINE_LAMBDA {
                                   const T* at = x + i * t.x_stride + j;
                                   if constexpr (decltype(ahead)::value) prefetch(at + beyond);
                                   d = load(at, lanes);
                                   if constexpr (!about_zero)
                                     d = d - load(columns.shift + j, lanes);
                                   same = d;
                                 };
    sum_columns<at_once, gaps>(t.rows, piece.cols, columns, products<about_zero>(differences), n);
  };
  // About 0 wherever it can be: the bits of those columns are the same either way.
  with_flag(sizeof(T) < sizeof(double) && all_zero(columns.shift.at, piece.cols),
            [&](auto zero) { with_flag(t.ahead, [&](auto ahead) { sum(zero, ahead); }); });
}

// Where a channel is one column.
inline void put_columns(const BlockSums& sums, const Piece& piece, const ColumnSums& columns) {
  const double* const from[] = {columns.shift.at, columns.hi1.at, columns.lo1.at, columns.hi2.at,
                                columns.lo2.at};
  double* const to[] = {sums.shift, sums.s1, sums.s1_low, sums.s2, sums.s2_low};
  for (int field = 0; field < 5; ++field) {
    for_each_vector(piece.cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
      store(to[field] + piece.channel + j, load(from[field] + j, lanes), lanes);
    });
  }
}

// The sums of a piece's channels about the shifts in `columns`.
template <class T>
BNPP_INLINE void sum_channels(const MomentsTile& t, const Piece& piece, ColumnSums& columns) {
  sum_piece<T>(t, piece, columns);
  if (t.repeat == 1) return put_columns(t.sums, piece, columns);
  for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
    const std::ptrdiff_t j = c * t.repeat;
    put_sums(t.sums, piece.channel + c, columns.shift[j],
             channel_sum(columns.hi1 + j, columns.lo1 + j, t.repeat),
             channel_sum(columns.hi2 + j, columns.lo2 + j, t.repeat));
  }
}

// The same again, about the means that the first sums gave.
template <class T>
inline void sum_channels_again(const MomentsTile& t, const Piece& piece, double n) {
  ColumnSums columns;
  for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
    const std::ptrdiff_t at = piece.channel + c;
    const double shift = as_shift<T>(t.sums.shift[at] + t.sums.s1[at] / n);
    for (std::ptrdiff_t k = 0; k < t.repeat; ++k) columns.shift[c * t.repeat + k] = shift;
  }
  sum_channels<T>(t, piece, columns);
}

// The sums of the columns of `rows` rows, each of which is `n` of a tile's narrow ones from row
// `first` on, about the shifts in `columns`.
template <class T>
BNPP_INLINE void sum_joined(const MomentsTile& t, std::ptrdiff_t first, std::ptrdiff_t rows,
                            std::ptrdiff_t n, ColumnSums& columns) {
  const Piece whole = {0, n * t.cols, 0, n * t.cols};
  MomentsTile part = t;
  part.x = static_cast<const T*>(t.x) + first * t.x_stride;
  part.rows = rows;
  if (t.x_stride != t.cols) return sum_piece<T, true>(part, whole, columns, n);
  part.x_stride = n * t.x_stride;
  sum_piece<T>(part, whole, columns);
}

// The sums of a tile of narrow rows about the shifts of their columns.
template <class T>
void sum_narrow(const MomentsTile& t, std::ptrdiff_t joined, ColumnSums& columns) {
  repeat_columns(columns.shift.at, t.cols, joined, columns.shift.at);
  sum_joined<T>(t, 0, t.rows / joined, joined, columns);
  if (const std::ptrdiff_t left = t.rows % joined; left > 0) {
    ColumnSums rest;
    repeat_columns(columns.shift.at, t.cols, left, rest.shift.at);
    sum_joined<T>(t, t.rows - left, 1, left, rest);
    add_pairs(columns.hi1.at, columns.lo1.at, rest.hi1.at, rest.lo1.at, left * t.cols);
    add_pairs(columns.hi2.at, columns.lo2.at, rest.hi2.at, rest.lo2.at, left * t.cols);
  }
  fold_pairs(columns.hi1.at, columns.lo1.at, t.cols, joined);
  fold_pairs(columns.hi2.at, columns.lo2.at, t.cols, joined);
  put_columns(t.sums, {0, t.cols, 0, t.cols}, columns);
}

template <class T>
void moments_narrow(const MomentsTile& t, std::ptrdiff_t joined) {
  const auto n = static_cast<double>(t.rows);
  ColumnSums columns;
  first_column_shifts(t, static_cast<const T*>(t.x), {0, t.cols, 0, t.cols}, columns);
  sum_narrow<T>(t, joined, columns);
  bool again = false;
  for (std::ptrdiff_t c = 0; c < t.cols; ++c) {
    if (!poor_shift<T>(t.sums.s1[c], t.sums.s2[c], n)) continue;
    columns.shift[c] = as_shift<T>(t.sums.shift[c] + t.sums.s1[c] / n);
    again = true;
  }
  if (again) sum_narrow<T>(t, joined, columns);
}

template <class T>
void moments_of_cols(const MomentsTile& tile) {
  const MomentsTile t = tile;  // a copy no store can alias
  const std::ptrdiff_t joined = t.narrow ? rows_joined(t.rows, t.cols) : 1;
  if (joined > 1) return moments_narrow<T>(t, joined);
  const auto n = static_cast<double>(t.rows * t.repeat);
  // With thousands of channels a few have a poor shift: only the vectors they are in go twice.
  const std::ptrdiff_t vector = t.repeat < kLanes ? kLanes / t.repeat : 1;
  for_each_piece(t, kSharedColumns, [&](const Piece& piece) BNPP_INLINE_LAMBDA {
    ColumnSums columns;
    first_column_shifts(t, static_cast<const T*>(t.x) + piece.begin, piece, columns);
    sum_channels<T>(t, piece, columns);
    if (!some_poor_shift<T>(t.sums, piece.channel, piece.channels, n)) return;
    for (std::ptrdiff_t c = 0; c < piece.channels; c += vector) {
      const std::ptrdiff_t left = piece.channels - c, channels = left < vector ? left : vector;
      bool again = false;
      for (std::ptrdiff_t k = piece.channel + c; k < piece.channel + c + channels; ++k) {
        again = again || poor_shift<T>(t.sums.s1[k], t.sums.s2[k], n);
      }
      if (again) {
        sum_channels_again<T>(
            t, {piece.begin + c * t.repeat, channels * t.repeat, piece.channel + c, channels}, n);
      }
    }
  });
}

}  // namespace

template <class T, Layout layout>
void moments(const MomentsTile& t) {
  if constexpr (layout == Layout::rows) return moments_of_rows<T>(t);
  moments_of_cols<T>(t);
}

#define BNPP_UNIT(name, type)                                    \
  template void moments<type, Layout::rows>(const MomentsTile&); \
  template void moments<type, Layout::cols>(const MomentsTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
