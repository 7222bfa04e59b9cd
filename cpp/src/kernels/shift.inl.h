// The shift K about which sums of values are taken, and whether it proved a good one.
//
// K is the mean of a few values that lie apart: neighbours in feature maps are alike, and their
// mean may be a standard deviation and more from that of all.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Values whose mean is the shift of a column; a row takes one vector.
constexpr std::ptrdiff_t kShiftRows = 8;

// M2 = s2 - s1^2 / n is at least a third of s2, which it is where K is 1.4 standard deviations off:
// so s2's rounding counts three times in M2 at most. That is one unit of M2, and rarely two.
constexpr double kShiftPart = 2.0 / 3;
// K may be 0 where the square of the mean is at most so much of the mean square about one of the
// values, which is twice their variance: then kShiftPart holds as well.
constexpr double kNearZero = 1;
// Whether the sums of n values about K deserve a second pass.
template <class T>
inline bool poor_shift(double s1, double s2, double n) {
  return sizeof(T) == sizeof(double) || s1 * s1 > kShiftPart * n * s2;
}
// Whether one of these channels may have such a shift; if not, none has.
template <class T>
inline bool some_poor_shift(const BlockSums& sums, std::ptrdiff_t begin, std::ptrdiff_t channels,
                            double n) {
  if constexpr (sizeof(T) == sizeof(double)) return true;
  const Vec most = splat(kShiftPart * n);
  unsigned poor = 0;
  for_each_vector(channels, [&](std::ptrdiff_t c, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec s1 = load(sums.s1 + begin + c, lanes), s2 = load(sums.s2 + begin + c, lanes);
    poor |= to_bits(positive(s1 * s1 - most * s2));
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

// Where up to a vector of values lies, spread over rows of `cols` columns.
struct Apart {
  std::ptrdiff_t n, at[kLanes];

  Apart(std::ptrdiff_t rows, std::ptrdiff_t cols, std::ptrdiff_t stride) {
    const std::ptrdiff_t all = rows * cols;
    n = all < kLanes ? all : kLanes;
    for (std::ptrdiff_t k = 0; k < n; ++k) {
      // Of many rows a value each, along a diagonal.
      const std::ptrdiff_t column = rows >= n ? cols * k / n : all * k / n % cols;
      at[k] = rows * k / n * stride + column;
    }
  }
};

// The shift for the values that begin at x.
template <class T>
inline double shift_apart(const T* x, const Apart& where) {
  T apart[kLanes] = {};
  for (std::ptrdiff_t k = 0; k < where.n; ++k) apart[k] = x[where.at[k]];
  const Vec values = load(apart);
  const double first = first_lane(values), share = 1.0 / static_cast<double>(where.n);
  const Vec d = first_of(values - splat(first), where.n, splat(0));
  const double mean = first + sum(d) * share, square = sum(d * d) * share;
  return first_lane(shift_of<T>(splat(mean), splat(square)));
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
