// The fold: W' = s W s_in, b' = s (b + sum W t_in) + t, and a proven account of its rounding.
// Every output channel is worked out and checked before the first is written, so that a refusal
// changes nothing and the result may overwrite the weight.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "bnpp/fold.h"
#include "fold/layer.h"
#include "fold/pair.h"
#include "fold/values.h"
#include "norms/check.h"
#include "runtime/parallel.h"

namespace bnpp {
namespace {

constexpr double kUnit = 0x1p-53, kSmallest = 0x1p-1074;
// Products below this may lose their error term to underflow.
constexpr double kErrorUnderflows = 0x1p-960;

// max that keeps NaN.
void raise(double& largest, double value) {
  if (!(value <= largest) && !std::isnan(largest)) largest = value;
}

// A float64 value that a stored one stands for, as a pair, with what even the pair may lack.
struct Exact {
  PairSum value;
  double slack;
  double error_of(double stored) const { return std::abs((value.hi - stored) + value.lo) + slack; }
};

// What became of one output channel.
struct ChannelChange {
  double max_before = 0, max_after = 0, max_change = 0;
  double weight_error = 0, weight_sum = 0;
  double bias = 0, bias_error = 0, constant_sum = 0;
  bool weight_overflows = false, bias_overflows = false;
  double overflowing = 0;
};

class Fold {
 public:
  Fold(const Check& check, const FoldArgs& args, LayerKind kind, const Tensor& weight,
       const Tensor& bias)
      : check_(check),
        args_(args),
        layer_(check, args, kind),
        from_(args.weight, layer_.axes),
        to_(weight, layer_.axes),
        to_bias_(bias),
        changes_(static_cast<std::size_t>(layer_.axes.all_outputs())) {
    check_outputs(weight);
  }

  Folded run() {
    for_each_output([&](std::size_t c) {
      with_type(args_.weight.dtype,
                [&](auto tag) { measure_weights<decltype(tag)>(c, changes_[c]); });
      with_type(to_bias_.dtype, [&](auto tag) { measure_bias<decltype(tag)>(c, changes_[c]); });
    });
    refuse_overflow();
    for_each_output([&](std::size_t c) {
      with_type(args_.weight.dtype, [&](auto tag) { write_weights<decltype(tag)>(c); });
    });
    std::vector<double> bias;
    for (const ChannelChange& change : changes_) bias.push_back(change.bias);
    write_vector(to_bias_, bias);
    return {report(), pad_value()};
  }

 private:
  void check_outputs(const Tensor& weight) const {
    bool same = weight.ndim == args_.weight.ndim && weight.dtype == args_.weight.dtype;
    for (int d = 0; same && d < weight.ndim; ++d) same = weight.shape[d] == args_.weight.shape[d];
    if (!same) check_.refuse("the folded weight needs weight's shape and dtype");
    if (to_bias_.ndim != 1 || to_bias_.shape[0] != layer_.axes.all_outputs()) {
      check_.refuse("the folded bias needs one value for each of ", layer_.axes.all_outputs(),
                    " output channels");
    }
  }

  Output output(std::size_t c) const {
    const auto index = static_cast<std::int64_t>(c);
    return {index / layer_.axes.outputs, index % layer_.axes.outputs};
  }

  template <class Task>
  void for_each_output(Task task) {
    const std::int64_t bytes = 2 * args_.weight.size() * size_of(args_.weight.dtype);
    auto run = [&](std::int64_t c, int) { task(static_cast<std::size_t>(c)); };
    parallel_for(layer_.axes.all_outputs(), threads_for(bytes), run);
  }

  // Whether the error of a product of these two may have been lost to underflow.
  static bool loses_error(double product, double a, double b) {
    return std::abs(product) < kErrorUnderflows && a != 0 && b != 0;
  }

  // s W s_in to twice float64's digits; its leading half is what gets stored.
  static Exact folded(double weight, double scale, double scale_in) {
    const PairSum once = two_product(scale, weight), twice = two_product(once.hi, scale_in);
    const double low = finite_or_zero(once.lo * scale_in);
    double slack = 4 * kUnit * (std::abs(twice.lo) + std::abs(low));
    if (loses_error(once.hi, scale, weight) || loses_error(twice.hi, once.hi, scale_in)) {
      slack += 2 * kSmallest * (1 + std::abs(scale_in));
    }
    return {two_sum(twice.hi, twice.lo + low), slack};
  }

  template <class T>
  void measure_weights(std::size_t c, ChannelChange& change) const {
    const double scale = layer_.after.scale[c];
    for_each_weight(from_, output(c), [&](std::size_t in, std::int64_t i, std::size_t k) {
      const double weight = load_value<T>(from_.at(output(c), i, k)),
                   scale_in = layer_.before.scale[in];
      const Exact exact = folded(weight, scale, scale_in);
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
    const double inflation = 1 + 4 * kUnit * static_cast<double>(from_.terms() + 4);
    change.weight_error *= inflation;
    change.weight_sum *= inflation;
  }

  // s (b + sum W t_in) + t, summed as a pair.
  template <class T>
  void measure_bias(std::size_t c, ChannelChange& change) const {
    const double scale = layer_.after.scale[c], shift = layer_.after.shift[c];
    PairSum sum{layer_.bias[c], 0};
    double magnitude = std::abs(layer_.bias[c]);
    if (args_.before != nullptr) {
      with_type(args_.weight.dtype, [&](auto tag) {
        for_each_weight(from_, output(c), [&](std::size_t in, std::int64_t i, std::size_t k) {
          const double weight = load_value<decltype(tag)>(from_.at(output(c), i, k));
          add_product(sum, weight, layer_.before.shift[in]);
          magnitude += std::abs(weight) * layer_.before.magnitude[in];
        });
      });
    }
    const PairSum scaled = two_product(scale, sum.hi), total = two_sum(scaled.hi, shift);
    const double low = total.lo + (scaled.lo + finite_or_zero(scale * sum.lo));
    const double n = static_cast<double>(from_.terms()) + 8;
    change.constant_sum = std::abs(scale) * magnitude + layer_.after.magnitude[c];
    change.constant_sum *= 1 + 4 * kUnit * n;
    const PairSum value = two_sum(total.hi, low);
    double slack = 2 * kUnit * std::abs(low);
    if (args_.before != nullptr) slack += 4 * (n * kUnit) * (n * kUnit) * change.constant_sum;
    if (args_.before != nullptr || loses_error(scaled.hi, scale, sum.hi)) {
      slack += n * kSmallest * (1 + std::abs(scale));
    }
    change.bias = value.hi;
    const double stored = rounded_to<T>(value.hi);
    change.bias_error = Exact{value, slack}.error_of(stored) * (1 + 8 * kUnit);
    if (!std::isfinite(stored) && std::isfinite(magnitude) && std::isfinite(scale) &&
        std::isfinite(shift)) {
      change.bias_overflows = true;
      change.overflowing = value.hi;
    }
  }

  void refuse_overflow() const {
    for (std::size_t c = 0; c < changes_.size(); ++c) {
      const ChannelChange& change = changes_[c];
      if (!change.weight_overflows && !change.bias_overflows) continue;
      check_.refuse("the folded ", change.weight_overflows ? "weight" : "bias",
                    " of output channel ", c, " is ", change.overflowing, ", too large for ",
                    name_of(change.weight_overflows ? args_.weight.dtype : to_bias_.dtype));
    }
  }

  template <class T>
  void write_weights(std::size_t c) {
    const double scale = layer_.after.scale[c];
    for_each_weight(from_, output(c), [&](std::size_t in, std::int64_t i, std::size_t k) {
      const double weight = load_value<T>(from_.at(output(c), i, k));
      store_value<T>(to_.at(output(c), i, k),
                     folded(weight, scale, layer_.before.scale[in]).value.hi);
    });
  }

  static double ratio(double after, double before) { return before == 0 ? 1 : after / before; }

  static FoldReport::Channels channels(const Affine& map) {
    FoldReport::Channels found;
    for (std::size_t c = 0; c < map.scale.size(); ++c) {
      const auto index = static_cast<std::int64_t>(c);
      if (map.scale[c] == 0) found.dead.push_back(index);
      if (map.variance[c] & kZeroVariance) found.zero_variances.push_back(index);
      if (map.variance[c] & kDenormalVariance) found.denormal_variances.push_back(index);
    }
    return found;
  }

  FoldReport report() const {
    FoldReport report;
    double before = 0, after = 0;
    for (const ChannelChange& change : changes_) {
      raise(report.max_weight_change, change.max_change);
      raise(before, change.max_before);
      raise(after, change.max_after);
      report.weight_rounding.push_back(change.weight_error);
      report.bias_rounding.push_back(change.bias_error);
      report.growth.push_back(ratio(change.max_after, change.max_before));
      report.weight_sum.push_back(change.weight_sum);
      report.constant_sum.push_back(change.constant_sum);
    }
    report.range_growth = ratio(after, before);
    report.terms = from_.terms();
    report.outputs = channels(layer_.after);
    report.inputs = channels(layer_.before);
    return report;
  }

  std::vector<double> pad_value() const {
    std::vector<double> values;
    if (args_.before == nullptr || args_.padding != Padding::pad_value) return values;
    for (std::size_t c = 0; c < layer_.before.scale.size(); ++c) {
      const double shift = layer_.before.shift[c];
      values.push_back(shift == 0 ? 0 : -shift / layer_.before.scale[c]);
    }
    return values;
  }

  const Check& check_;
  const FoldArgs& args_;
  Layer layer_;
  WeightView<const void> from_;
  WeightView<void> to_;
  Tensor to_bias_;
  std::vector<ChannelChange> changes_;
};

}  // namespace

std::vector<double> FoldReport::bound(double max_abs_input, double unit_roundoff) const {
  // A term of the unfolded network passes at most 8 roundings of each map and terms + 1 of the
  // layer, one of the folded network at most as many.
  const double n = static_cast<double>(terms + 17) * unit_roundoff,
               evaluation = n < 1 ? 2 * n / (1 - n) : INFINITY;
  std::vector<double> bounds;
  for (std::size_t c = 0; c < weight_rounding.size(); ++c) {
    const double size = (weight_sum[c] + weight_rounding[c]) * max_abs_input + constant_sum[c];
    bounds.push_back(weight_rounding[c] * max_abs_input + bias_rounding[c] +
                     (unit_roundoff > 0 ? evaluation * size : 0));
  }
  return bounds;
}

std::int64_t output_channels_of_linear(const FoldArgs& args) {
  return layer_axes(Check("fold_linear"), args, LayerKind::linear).all_outputs();
}

std::int64_t output_channels_of_conv(const FoldArgs& args) {
  return layer_axes(Check("fold_conv"), args, LayerKind::conv).all_outputs();
}

Folded fold_linear(const FoldArgs& args, const Tensor& weight, const Tensor& bias) {
  const Check check("fold_linear");
  return Fold(check, args, LayerKind::linear, weight, bias).run();
}

Folded fold_conv(const FoldArgs& args, const Tensor& weight, const Tensor& bias) {
  const Check check("fold_conv");
  return Fold(check, args, LayerKind::conv, weight, bias).run();
}

}  // namespace bnpp
