// The fold: W' = s W s_in, b' = s (b + sum W t_in) + t.
// Every output channel is worked out and checked before the first is written, so that a refusal
// changes nothing and the result may overwrite the weight.
#include <vector>

#include "bnpp/fold.h"
#include "fold/channel.h"
#include "fold/layer.h"
#include "fold/report.h"
#include "fold/values.h"
#include "norms/check.h"
#include "runtime/parallel.h"

namespace bnpp {
namespace {

void check_outputs(const Check& check, const FoldArgs& args, const Layer& layer,
                   const Tensor& weight, const Tensor& bias) {
  bool same = weight.ndim == args.weight.ndim && weight.dtype == args.weight.dtype;
  for (int d = 0; same && d < weight.ndim; ++d) same = weight.shape[d] == args.weight.shape[d];
  if (!same) check.refuse("the folded weight needs weight's shape and dtype");
  if (bias.ndim != 1 || bias.shape[0] != layer.axes.all_outputs()) {
    check.refuse("the folded bias needs one value for each of ", layer.axes.all_outputs(),
                 " output channels");
  }
}

void refuse_overflow(const Check& check, const std::vector<ChannelChange>& changes, DType weight,
                     DType bias) {
  for (std::size_t c = 0; c < changes.size(); ++c) {
    const ChannelChange& change = changes[c];
    if (!change.weight_overflows && !change.bias_overflows) continue;
    check.refuse("the folded ", change.weight_overflows ? "weight" : "bias", " of output channel ",
                 c, " is ", change.overflowing, ", too large for ",
                 name_of(change.weight_overflows ? weight : bias));
  }
}

template <class T>
void write_weights(const Layer& layer, const WeightView<const void>& from,
                   const WeightView<void>& to, std::size_t c) {
  const Output o = layer.axes.output(c);
  for_each_weight(from, o, [&](std::size_t in, std::int64_t i, std::size_t k) {
    const double weight = load_value<T>(from.at(o, i, k));
    store_value<T>(to.at(o, i, k),
                   folded_weight(weight, layer.after.scale[c], layer.before.scale[in]).value.hi);
  });
}

std::vector<double> pad_values(const Affine& before) {
  std::vector<double> values;
  for (std::size_t c = 0; c < before.scale.size(); ++c) {
    values.push_back(before.shift[c] == 0 ? 0 : -before.shift[c] / before.scale[c]);
  }
  return values;
}

Folded fold(const Check& check, const FoldArgs& args, LayerKind kind, const Tensor& weight,
            const Tensor& bias) {
  const Layer layer(check, args, kind);
  check_outputs(check, args, layer, weight, bias);
  const DType dtype = args.weight.dtype;
  const WeightView<const void> from(args.weight, layer.axes);
  const WeightView<void> to(weight, layer.axes);
  const std::int64_t outputs = layer.axes.all_outputs();
  const int threads = threads_for(2 * args.weight.size() * size_of(dtype));

  std::vector<ChannelChange> changes(static_cast<std::size_t>(outputs));
  auto measure = [&](std::int64_t task, int) {
    const auto c = static_cast<std::size_t>(task);
    changes[c] = measure_channel(layer, from, c, dtype, bias.dtype);
  };
  parallel_for(outputs, threads, measure);
  refuse_overflow(check, changes, dtype, bias.dtype);

  auto write = [&](std::int64_t task, int) {
    with_type(dtype, [&](auto tag) {
      write_weights<decltype(tag)>(layer, from, to, static_cast<std::size_t>(task));
    });
  };
  parallel_for(outputs, threads, write);
  std::vector<double> values;
  for (const ChannelChange& change : changes) values.push_back(change.bias);
  write_vector(bias, values.data());

  Folded folded{report_of(changes, layer, from.terms()), {}};
  if (layer.has_before && args.padding == Padding::pad_value) {
    folded.pad_value = pad_values(layer.before);
  }
  return folded;
}

}  // namespace

std::int64_t output_channels_of_linear(const FoldArgs& args) {
  return layer_axes(Check("fold_linear"), args, LayerKind::linear).all_outputs();
}

std::int64_t output_channels_of_conv(const FoldArgs& args) {
  return layer_axes(Check("fold_conv"), args, LayerKind::conv).all_outputs();
}

Folded fold_linear(const FoldArgs& args, const Tensor& weight, const Tensor& bias) {
  return fold(Check("fold_linear"), args, LayerKind::linear, weight, bias);
}

Folded fold_conv(const FoldArgs& args, const Tensor& weight, const Tensor& bias) {
  return fold(Check("fold_conv"), args, LayerKind::conv, weight, bias);
}

}  // namespace bnpp
