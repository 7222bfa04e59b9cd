// moments: s1 = sum (x - K) and s2 = sum (x - K)^2, about a shift K near the values.
// K is a mean of a few of the tile's own values, so sum (x - K)^2 exceeds M2 by a bounded factor only,
// whatever the data; and it is rounded to x's dtype, so that equal values give differences of exactly 0.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Values whose mean is the shift of a column; a row takes one vector.
constexpr std::ptrdiff_t kShiftRows = 8;

template <class T>
inline T row_shift(const T* x, std::ptrdiff_t cols) {
  const std::ptrdiff_t n = cols < kLanes ? cols : kLanes;
  const Vec first = splat(static_cast<double>(x[0]));
  const Vec values = n < kLanes ? load(x, Some{n}, x[0]) : load(x);
  const Vec shift = splat(x[0] + sum(values - first) / static_cast<double>(n));
  T lanes[kLanes];
  store(lanes, finite_or_zero(round_to<T>(shift)));
  return lanes[0];
}

template <class T>
void moments_rows(const MomentsTile& t) {
  const T* x = static_cast<const T*>(t.x);
  const T shift = row_shift(x, t.cols);
  const Vec k = splat(static_cast<double>(shift));
  Vec s1 = splat(0), s2 = splat(0);
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) {
      const Vec d = load(x + i * t.x_stride + j, lanes, shift) - k;
      s1 = s1 + d;
      s2 = s2 + d * d;
    });
  }
  *t.shift = static_cast<double>(shift);
  *t.s1 = sum(s1);
  *t.s2 = sum(s2);
}

template <class T>
void moments_cols(const MomentsTile& tile) {
  const MomentsTile t = tile;  // a copy no store can alias
  const T* x = static_cast<const T*>(t.x);
  const std::ptrdiff_t n = t.rows < kShiftRows ? t.rows : kShiftRows;
  const Vec share = splat(1.0 / static_cast<double>(n));
  for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) {
    const Vec first = load(x + j, lanes);
    Vec rest = splat(0);
    for (std::ptrdiff_t i = 1; i < n; ++i) rest = rest + (load(x + i * t.x_stride + j, lanes) - first);
    store(t.shift + j, finite_or_zero(round_to<T>(first + rest * share)), lanes);
  });
  accumulate_columns(t.rows, t.cols, t.s1, t.s2,
                     [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& d, Vec& d2) {
                       d = load(x + i * t.x_stride + j, lanes) - load(t.shift + j, lanes);
                       d2 = d * d;
                     });
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
