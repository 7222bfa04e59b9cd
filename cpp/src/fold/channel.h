// One output channel of a fold: its values before they are stored, and what storing them loses.
#pragma once

#include <cstddef>

#include "bnpp/dtype.h"
#include "fold/layer.h"
#include "fold/pair.h"

namespace bnpp {

/// A real number as a pair, and how far from the pair it may be.
struct Exact {
  PairSum value;
  double slack;
  double error_of(double stored) const { return std::abs((value.hi - stored) + value.lo) + slack; }
};

inline constexpr double kUnit = 0x1p-53, kSmallest = 0x1p-1074;

/// Whether the error of a product of these two may have been lost to underflow.
inline bool loses_error(double product, double a, double b) {
  return std::abs(product) < 0x1p-960 && a != 0 && b != 0;
}

/// s W s_in; what is stored is the leading half, rounded. Inline: it is computed for every weight.
inline Exact folded_weight(double weight, double scale, double scale_in) {
  const PairSum once = two_product(scale, weight), twice = two_product(once.hi, scale_in);
  const double low = finite_or_zero(once.lo * scale_in);
  double slack = 4 * kUnit * (std::abs(twice.lo) + std::abs(low));
  if (loses_error(once.hi, scale, weight) || loses_error(twice.hi, once.hi, scale_in)) {
    slack += 2 * kSmallest * (1 + std::abs(scale_in));
  }
  return {two_sum(twice.hi, twice.lo + low), slack};
}

/// What becomes of an output channel. Sums of errors are bounds from above.
struct ChannelChange {
  double max_before = 0, max_after = 0, max_change = 0;  // |W|, |W'|, |W' - W|
  double weight_error = 0, weight_sum = 0;               // sum |exact W' - W'|, sum |W'|
  double bias = 0, bias_error = 0, constant_sum = 0;  // b', |exact b' - b'|, sum of |terms of b'|
  bool weight_overflows = false, bias_overflows = false;
  double overflowing = 0;
};

ChannelChange measure_channel(const Layer& layer, const WeightView<const void>& weights,
                              std::size_t channel, DType weight_dtype, DType bias_dtype);

/// max that keeps NaN.
inline void raise(double& largest, double value) {
  if (!(value <= largest) && !std::isnan(largest)) largest = value;
}

}  // namespace bnpp
