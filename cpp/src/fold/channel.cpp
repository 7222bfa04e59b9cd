#include "fold/channel.h"

#include <cmath>

#include "fold/values.h"

namespace bnpp {
namespace {

template <class T>
void measure_weights(const Layer& layer, const WeightView<const void>& weights, std::size_t c,
                     ChannelChange& change) {
  const double scale = layer.after.scale[c];
  const Output o = layer.axes.output(c);
  for_each_weight(weights, o, [&](std::size_t in, std::int64_t i, std::size_t k) {
    const double weight = load_value<T>(weights.at(o, i, k)), scale_in = layer.before.scale[in];
    const Exact exact = folded_weight(weight, scale, scale_in);
    const double stored = rounded_to<T>(exact.value.hi);
    raise(change.max_before, std::abs(weight));
    raise(change.max_after, std::abs(stored));
    raise(change.max_change, std::abs(stored - weight));
    change.weight_error += exact.error_of(stored);
    change.weight_sum += std::abs(stored);
    if (!std::isfinite(stored) && std::isfinite(weight) && std::isfinite(scale) &&
        std::isfinite(scale_in)) {
      change.weight_overflows = true;
      change.overflowing = exact.value.hi;
    }
  });
  // The sums themselves were rounded.
  const double inflation = 1 + 4 * kUnit * static_cast<double>(weights.terms() + 4);
  change.weight_error *= inflation;
  change.weight_sum *= inflation;
}

// b + sum W t_in, exact but for (n u)^2 of its terms' magnitudes, which come along.
struct Constant {
  PairSum sum;
  double magnitude;
};

Constant constant_of(const Layer& layer, const WeightView<const void>& weights, std::size_t c,
                     DType weight_dtype) {
  Constant constant{{layer.bias[c], 0}, std::abs(layer.bias[c])};
  if (!layer.has_before) return constant;
  const Output o = layer.axes.output(c);
  with_type(weight_dtype, [&](auto tag) {
    for_each_weight(weights, o, [&](std::size_t in, std::int64_t i, std::size_t k) {
      const double weight = load_value<decltype(tag)>(weights.at(o, i, k));
      add_product(constant.sum, weight, layer.before.shift[in]);
      constant.magnitude += std::abs(weight) * layer.before.magnitude[in];
    });
  });
  return constant;
}

// s (b + sum W t_in) + t.
template <class T>
void measure_bias(const Layer& layer, const Constant& constant, std::int64_t terms, std::size_t c,
                  ChannelChange& change) {
  const double scale = layer.after.scale[c], shift = layer.after.shift[c];
  const double n = static_cast<double>(terms) + 8;  // more than the roundings of any one term
  const PairSum scaled = two_product(scale, constant.sum.hi), total = two_sum(scaled.hi, shift);
  const double low = total.lo + (scaled.lo + finite_or_zero(scale * constant.sum.lo));
  Exact exact{two_sum(total.hi, low), 2 * kUnit * std::abs(low)};
  change.constant_sum = std::abs(scale) * constant.magnitude + layer.after.magnitude[c];
  change.constant_sum *= 1 + 4 * kUnit * n;
  if (layer.has_before) exact.slack += 4 * (n * kUnit) * (n * kUnit) * change.constant_sum;
  if (layer.has_before || loses_error(scaled.hi, scale, constant.sum.hi)) {
    exact.slack += n * kSmallest * (1 + std::abs(scale));
  }
  change.bias = exact.value.hi;
  const double stored = rounded_to<T>(change.bias);
  change.bias_error = exact.error_of(stored) * (1 + 8 * kUnit);
  if (!std::isfinite(stored) && std::isfinite(constant.magnitude) && std::isfinite(scale) &&
      std::isfinite(shift)) {
    change.bias_overflows = true;
    change.overflowing = change.bias;
  }
}

}  // namespace

ChannelChange measure_channel(const Layer& layer, const WeightView<const void>& weights,
                              std::size_t channel, DType weight_dtype, DType bias_dtype) {
  ChannelChange change;
  with_type(weight_dtype,
            [&](auto tag) { measure_weights<decltype(tag)>(layer, weights, channel, change); });
  const Constant constant = constant_of(layer, weights, channel, weight_dtype);
  with_type(bias_dtype, [&](auto tag) {
    measure_bias<decltype(tag)>(layer, constant, weights.terms(), channel, change);
  });
  return change;
}

}  // namespace bnpp
