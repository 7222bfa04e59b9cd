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
inline bool poor_shift(double s1, double s2, double n, double part = kShiftPart) {
  return sizeof(T) == sizeof(double) || s1 * s1 > part * n * s2;
}

// v as a shift: rounded to T, and 0 where that is Inf or NaN.
template <class T>
inline Vec as_shift(Vec v) {
  return finite_or_zero(round_to<T>(v));
}
template <class T>
inline double as_shift(double v) {
  const double rounded = to_double(from_double<T>(v));
  return rounded - rounded == 0 ? rounded : 0;
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
  const double first = to_double(x[0]), share = 1.0 / static_cast<double>(where.n);
  double sums[4] = {}, squares[4] = {};
  for (std::ptrdiff_t k = 0; k < where.n; ++k) {
    const double d = to_double(x[where.at[k]]) - first;
    sums[k % 4] += d;
    squares[k % 4] += d * d;
  }
  const double mean = first + ((sums[0] + sums[1]) + (sums[2] + sums[3])) * share;
  const double square = ((squares[0] + squares[1]) + (squares[2] + squares[3])) * share;
  if (sizeof(T) < sizeof(double) && !(mean * mean > kNearZero * square)) return 0;
  return as_shift<T>(mean);
}

inline PairSums pairs_of(const BlockSums& sums, std::ptrdiff_t c) {
  return {sums.s1 + c, sums.s1_low + c, sums.s2 + c, sums.s2_low + c};
}

// Sums of channels whose shift proved poor once more, about the means that the first ones gave:
// sum(c, n) sums n channels from c on, count(c) is that of their values. With thousands of channels
// a few have a poor shift: only those are summed that come in `together` with one.
template <class T, class Count, class Sum>
inline void again_about_means(const BlockSums& sums, std::ptrdiff_t channels,
                              std::ptrdiff_t together, Count count, Sum sum,
                              double part = kShiftPart) {
  if (together < 1) together = 1;
  std::ptrdiff_t first = 0, end = -1;  // those to be summed again
  for (std::ptrdiff_t c = 0; c < channels; ++c) {
    const double n = count(c);
    if (!(n > 0) || !poor_shift<T>(sums.s1[c], sums.s2[c], n, part)) continue;
    const std::ptrdiff_t begin = c - c % together;
    if (begin > end) {
      if (end > first) sum(first, end - first);
      first = begin;
    }
    end = begin + together;
    sums.shift[c] = as_shift<T>(sums.shift[c] + sums.s1[c] / n);
  }
  if (end > channels) end = channels;
  if (end > first) sum(first, end - first);
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
