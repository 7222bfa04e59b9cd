// Sums and products with their rounding errors: the value is hi + lo. With Inf or NaN lo is 0.
#pragma once

#include <cmath>

#include "kernels/table.h"

namespace bnpp {

inline double finite_or_zero(double v) { return std::isfinite(v) ? v : 0; }

/// a + b (Knuth).
inline PairSum two_sum(double a, double b) {
  const double hi = a + b, from_b = hi - a;
  return {hi, finite_or_zero((a - (hi - from_b)) + (b - from_b))};
}

/// a * b.
inline PairSum two_product(double a, double b) {
  const double hi = a * b;
  return {hi, finite_or_zero(std::fma(a, b, -hi))};
}

/// sum += a * b.
inline void add_product(PairSum& sum, double a, double b) {
  const PairSum product = two_product(a, b), s = two_sum(sum.hi, product.hi);
  sum = {s.hi, sum.lo + (s.lo + product.lo)};
}

}  // namespace bnpp
