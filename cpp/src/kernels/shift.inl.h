// The shift K about which sums of values are taken, and whether it proved a good one.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Values whose mean is the shift of a column; a row takes one vector.
constexpr std::ptrdiff_t kShiftRows = 8;

// K may be 0 where that is at most so many (squared) standard deviations from the first values.
// Sums about 0 are good to twice that and more: in all M2 has four bits less than float64.
constexpr double kNearZero = 2;
// Whether the sums of n values about K deserve a second pass.
template <class T>
inline bool poor_shift(double shift, double s1, double s2, double n) {
  return sizeof(T) == sizeof(double) || s1 * s1 > (shift == 0 ? 15.0 / 16 : 0.5) * n * s2;
}
// Whether one of these channels may have such a shift; if not, none has.
template <class T>
inline bool some_poor_shift(const BlockSums& sums, std::ptrdiff_t begin, std::ptrdiff_t channels,
                            double n) {
  if constexpr (sizeof(T) == sizeof(double)) return true;
  const Vec half = splat(0.5 * n);
  unsigned poor = 0;
  for_each_vector(channels, [&](std::ptrdiff_t c, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec s1 = load(sums.s1 + begin + c, lanes), s2 = load(sums.s2 + begin + c, lanes);
    poor |= to_bits(positive(s1 * s1 - half * s2));
  });
  return poor != 0;
}

// v as a shift: rounded to T, and 0 where that is Inf or NaN.
template <class T>
inline Vec as_shift(Vec v) {
  return finite_or_zero(round_to<T>(v));
}
template <class T>
inline double as_shift(double v) {
  return first_lane(as_shift<T>(splat(v)));
}

// The shift for values with this mean, where the mean of their squares about a near place is given.
template <class T>
inline Vec shift_of(Vec mean, Vec square) {
  if constexpr (sizeof(T) == sizeof(double)) return as_shift<T>(mean);
  return choose(positive(mean * mean - splat(kNearZero) * square), as_shift<T>(mean), splat(0));
}

template <class T>
inline double first_row_shift(const T* x, std::ptrdiff_t cols) {
  const std::ptrdiff_t n = cols < kLanes ? cols : kLanes;
  const Vec values = n < kLanes ? load(x, Some{n}) : load(x);
  const double first = first_lane(values), share = 1.0 / static_cast<double>(n);
  const Vec d = first_of(values - splat(first), n, splat(0));
  const double mean = first + sum(d) * share, square = sum(d * d) * share;
  return first_lane(shift_of<T>(splat(mean), splat(square)));
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
