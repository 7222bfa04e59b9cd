// moments: s1 = sum (x - K) and s2 = sum (x - K)^2, about a shift K near the values.
//
// K is representable in x's dtype, so equal values give differences of exactly 0, and it is a mean
// of some of the tile's own values, so s2 exceeds M2 by a bounded factor only, whatever the data.
// Where that factor is not small (K came from outliers), and always in float64, a second pass over
// the tile, in the cache by now, takes the first one's mean for K.
//
// Plain sums run over a few dozen terms only; then they join an exact pair hi + lo. So the sums of
// parts of the data add up to those of the whole.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Additions to a plain sum; each adds one vector, or four that were added as a tree.
constexpr int kAddsAPart = 8;
constexpr std::ptrdiff_t kRowsAPart = kAddsAPart * kRowsAtOnce;
// Values whose mean is the shift of a column; a row takes one vector.
constexpr std::ptrdiff_t kShiftRows = 8;

// Whether the sums of n values deserve a second pass.
template <class T>
inline bool poor_shift(const BlockSums& sums, double n) {
  return sizeof(T) == sizeof(double) || sums.s1.hi * sums.s1.hi > 0.5 * n * sums.s2.hi;
}

struct LaneSum {
  Vec hi = splat(0), lo = splat(0);
  BNPP_INLINE void add(Vec v) {
    Vec error;
    hi = two_sum(hi, v, error);
    lo = lo + error;
  }
};

// v as a shift: rounded to T, and 0 where that is Inf or NaN.
template <class T>
inline Vec as_shift(Vec v) {
  return finite_or_zero(round_to<T>(v));
}
template <class T>
inline double as_shift(double v) {
  double lanes[kLanes];
  store(lanes, as_shift<T>(splat(v)));
  return lanes[0];
}

template <class T>
inline double first_row_shift(const T* x, std::ptrdiff_t cols) {
  const std::ptrdiff_t n = cols < kLanes ? cols : kLanes;
  const double first = static_cast<double>(x[0]);
  const Vec values = n < kLanes ? load(x, Some{n}, x[0]) : load(x);
  return as_shift<T>(first + sum(values - splat(first)) / static_cast<double>(n));
}

// The plain sums of kAddsAPart terms, and the pairs they join.
struct RowSums {
  Vec part1 = splat(0), part2 = splat(0);
  int adds = 0;
  LaneSum s1, s2;

  BNPP_INLINE void add(Vec d, Vec d2) {
    part1 = part1 + d;
    part2 = part2 + d2;
    if (++adds == kAddsAPart) flush();
  }
  BNPP_INLINE void flush() {
    s1.add(part1);
    s2.add(part2);
    part1 = part2 = splat(0);
    adds = 0;
  }
};

template <class T>
inline BlockSums sum_rows(const MomentsTile& t, double shift) {
  const Vec k = splat(shift);
  RowSums sums;
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    const T* x = static_cast<const T*>(t.x) + i * t.x_stride;
    const T* const end = x + t.cols;
    const T* const run = x;
    for (; end - x >= 4 * kLanes; x += 4 * kLanes) {
      for (int k = 0; k < 4; ++k) foresee(t.rows, run, x - run + k * kLanes, t.x_stride);
      const Vec a = load(x) - k, b = load(x + kLanes) - k;
      const Vec ab = a + b, ab2 = a * a + b * b;
      const Vec c = load(x + 2 * kLanes) - k, d = load(x + 3 * kLanes) - k;
      sums.add(ab + (c + d), ab2 + (c * c + d * d));
    }
    for (; end - x >= kLanes; x += kLanes) {
      const Vec d = load(x) - k;
      sums.add(d, d * d);
    }
    if (x < end) {
      const Vec d = load(x, Some{end - x}, static_cast<T>(shift)) - k;
      sums.add(d, d * d);
    }
  }
  sums.flush();
  return {shift, sum_lanes(sums.s1.hi, sums.s1.lo), sum_lanes(sums.s2.hi, sums.s2.lo)};
}

template <class T>
void moments_rows(const MomentsTile& t) {
  BlockSums sums = sum_rows<T>(t, first_row_shift(static_cast<const T*>(t.x), t.cols));
  const auto n = static_cast<double>(t.rows * t.cols);
  if (poor_shift<T>(sums, n)) sums = sum_rows<T>(t, as_shift<T>(sums.shift + sums.s1.hi / n));
  *t.sums = sums;
}

// The sums of the columns of one piece, as vectors over the columns.
struct ColumnSums {
  Columns shift, hi1, lo1, hi2, lo2;
};

template <class T>
inline void first_column_shifts(const MomentsTile& t, const T* x, const Piece& piece,
                                ColumnSums& sums) {
  if (t.repeat > 1) {
    for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
      const double shift = first_row_shift(x + c * t.repeat, t.repeat);
      for (std::ptrdiff_t k = 0; k < t.repeat; ++k) sums.shift[c * t.repeat + k] = shift;
    }
    return;
  }
  const std::ptrdiff_t n = t.rows < kShiftRows ? t.rows : kShiftRows;
  const Vec share = splat(1.0 / static_cast<double>(n));
  for_each_vector(piece.cols, [&](std::ptrdiff_t j, auto lanes) {
    const Vec first = load(x + j, lanes);
    Vec rest = splat(0);
    for (std::ptrdiff_t i = 1; i < n; ++i)
      rest = rest + (load(x + i * t.x_stride + j, lanes) - first);
    store(sums.shift + j, as_shift<T>(first + rest * share), lanes);
  });
}

template <class Lanes>
inline void join(double* hi, double* lo, const double* part, Lanes lanes) {
  Vec error;
  store(hi, two_sum(load(hi, lanes), load(part, lanes), error), lanes);
  store(lo, load(lo, lanes) + error, lanes);
}

// Two sums a column: plain ones over kRowsAPart rows, which then join the pairs.
template <class Term>
BNPP_INLINE void sum_columns(std::ptrdiff_t rows, std::ptrdiff_t cols, ColumnSums& sums,
                             Term term) {
  Columns part1, part2;
  for (std::ptrdiff_t j = 0; j < cols; ++j) {
    sums.hi1[j] = sums.lo1[j] = sums.hi2[j] = sums.lo2[j] = 0;
  }
  for (std::ptrdiff_t first = 0; first < rows; first += kRowsAPart) {
    const std::ptrdiff_t left = rows - first;
    accumulate_columns(left < kRowsAPart ? left : kRowsAPart, cols, part1.at, part2.at,
                       [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& a, Vec& b)
                           BNPP_INLINE_LAMBDA { term(first + i, j, lanes, a, b); });
    for_each_vector(cols, [&](std::ptrdiff_t j, auto lanes) {
      join(sums.hi1 + j, sums.lo1 + j, part1 + j, lanes);
      join(sums.hi2 + j, sums.lo2 + j, part2 + j, lanes);
    });
  }
}

// The sum of a channel's `repeat` columns.
inline PairSum channel_sum(const double* hi, const double* lo, std::ptrdiff_t repeat) {
  if (repeat == 1) return {*hi, *lo};
  LaneSum total;
  for_each_vector(repeat, [&](std::ptrdiff_t k, auto lanes) {
    total.add(load(hi + k, lanes));
    total.lo = total.lo + load(lo + k, lanes);
  });
  return sum_lanes(total.hi, total.lo);
}

template <class T>
void moments_cols(const MomentsTile& tile) {
  const MomentsTile t = tile;  // a copy no store can alias
  const double n = static_cast<double>(t.rows * t.repeat);
  for (Piece piece = piece_at(t, 0); piece.channels > 0; piece = next_piece(t, piece)) {
    ColumnSums columns;
    BlockSums* sums = t.sums + piece.channel;
    const T* x = static_cast<const T*>(t.x) + piece.begin;
    first_column_shifts(t, x, piece, columns);
    const auto differences = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& d, Vec& d2)
                                 BNPP_INLINE_LAMBDA {
                                   const T* at = x + i * t.x_stride + j;
                                   prefetch(at + kRowsAtOnce * t.x_stride);
                                   d = load(at, lanes) - load(columns.shift + j, lanes);
                                   d2 = d * d;
                                 };
    bool again = true;
    for (int pass = 1; again; ++pass) {
      again = false;
      sum_columns(t.rows, piece.cols, columns, differences);
      for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
        const std::ptrdiff_t j = c * t.repeat;
        sums[c] = {columns.shift[j], channel_sum(columns.hi1 + j, columns.lo1 + j, t.repeat),
                   channel_sum(columns.hi2 + j, columns.lo2 + j, t.repeat)};
        if (pass == 2 || !poor_shift<T>(sums[c], n)) continue;
        again = true;
        const double shift = as_shift<T>(sums[c].shift + sums[c].s1.hi / n);
        for (std::ptrdiff_t k = 0; k < t.repeat; ++k) columns.shift[j + k] = shift;
      }
    }
  }
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
