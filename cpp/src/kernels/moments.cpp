// moments: s1 = sum (x - K) and s2 = sum (x - K)^2, about a shift K near the values.
//
// K is representable in x's dtype, so equal values give differences of exactly 0, and it is a mean
// of some of the tile's own values, so s2 exceeds M2 by a bounded factor only, whatever the data.
// Where that factor is not small (K came from outliers), and always in float64, a second pass over
// the tile, in the cache by now, takes the first one's mean for K. K is 0 where that is near enough
// to the values: then there is nothing to subtract, and the squares are exact.
//
// The sums are pairs hi + lo, so those of parts of the data add up to those of the whole.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class T>
struct Values : ValueSumsOf<T, 1> {
  // Of n channels from c on, about the shifts in t.sums.
  Values(const MomentsTile& t, std::ptrdiff_t c, std::ptrdiff_t n)
      : ValueSumsOf<T, 1>(sums_of<T, 1>(t, t.ahead, t.x_stride, &t.sums.shift, c, n),
                          static_cast<const T*>(t.x) + c * t.repeat) {}

  bool exact(std::ptrdiff_t channels) const { return all_zero(this->numbers[0], channels); }
  template <bool exact, class Lanes>
  BNPP_INLINE void terms(const T* row, std::ptrdiff_t j, Lanes lanes, const Numbers<1>& k, Part& u,
                         Part& v) const {
    u = load_part(row + j, lanes);
    if constexpr (!exact) u = u - k.p[0];
    v = u;
  }
};

// The shifts of all channels of a tile.
template <class T>
void find_shifts(const MomentsTile& t) {
  const T* x = static_cast<const T*>(t.x);
  const std::ptrdiff_t repeat = t.repeat;
  if (repeat > 1) {
    const Apart where(t.rows, repeat, t.x_stride);
    for (std::ptrdiff_t c = 0; c < t.cols / repeat; ++c) {
      t.sums.shift[c] = shift_apart(x + c * repeat, where);
    }
    return;
  }
  const std::ptrdiff_t n = t.rows < kShiftRows ? t.rows : kShiftRows;
  const Vec share = splat(1.0 / static_cast<double>(n));
  for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec first = load(x + j, lanes);
    Vec rest = splat(0), square = splat(0);
    for (std::ptrdiff_t i = 1; i < n; ++i) {
      const Vec d = load(x + t.rows * i / n * t.x_stride + j, lanes) - first;
      rest = rest + d;
      square = square + d * d;
    }
    store(t.sums.shift + j, shift_of<T>(first + rest * share, square * share), lanes);
  });
}

// Values whose mean is the shift of a row.
constexpr std::ptrdiff_t kRowShiftValues = 4;
// A row's shift may be 0 where the square of the mean is at most so much of the mean square about
// its first value.
constexpr double kRowNearZero = 2;
// The part of n * sum (x - K)^2 that (sum (x - K))^2 may be: M2 is the rest, with four bits less.
constexpr double kRowShiftPart = 15.0 / 16;

// 0 where that is near enough to them; see shift_of.
template <class T>
inline double row_shift(const T* x, std::ptrdiff_t cols) {
  const std::ptrdiff_t n = cols < kRowShiftValues ? cols : kRowShiftValues;
  const double first = to_double(*x), share = 1 / static_cast<double>(n);
  double rest = 0, square = 0;
  for (std::ptrdiff_t j = 1; j < n; ++j) {
    const double d = to_double(x[j]) - first;
    rest += d;
    square += d * d;
  }
  const double mean = first + rest * share;
  return mean * mean <= kRowNearZero * square * share ? 0 : as_shift<T>(mean);
}

}  // namespace

template <class T, Layout layout>
void moments(const MomentsTile& tile) {
  const MomentsTile t = as_columns<layout>(tile);
  const std::ptrdiff_t channels = t.cols / t.repeat;
  const auto sum = [&](std::ptrdiff_t c, std::ptrdiff_t n) {
    sum_tile(Values<T>(t, c, n), t.narrow, pairs_of(t.sums, c));
  };
  find_shifts<T>(t);
  sum(0, channels);
  again_about_means<T>(
      t.sums, channels, t.narrow ? channels : kLanes / t.repeat,
      [&](std::ptrdiff_t) { return static_cast<double>(t.rows * t.repeat); }, sum);
}

// Of every row, one number a row.
template <class T>
void row_moments(const MomentsTile& t) {
  const T* x = static_cast<const T*>(t.x);
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    t.sums.shift[i] = row_shift(x + i * t.x_stride, t.cols);
  }
  const auto sum = [&](std::ptrdiff_t first, std::ptrdiff_t rows) {
    MomentsTile part = t;
    part.x = x + first * t.x_stride;
    part.rows = rows;
    part.repeat = t.cols;
    part.sums.shift += first;
    sum_rows(Values<T>(part, 0, 1), pairs_of(t.sums, first));
  };
  sum(0, t.rows);
  again_about_means<T>(
      t.sums, t.rows, 1, [&](std::ptrdiff_t) { return static_cast<double>(t.cols); }, sum,
      kRowShiftPart);
}

#define BNPP_UNIT(name, type)                                    \
  template void moments<type, Layout::rows>(const MomentsTile&); \
  template void moments<type, Layout::cols>(const MomentsTile&); \
  template void row_moments<type>(const MomentsTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
