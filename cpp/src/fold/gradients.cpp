// Back through the fold, to the layer and to the maps beside it. Sums are in float64, in the order
// of the channels.
#include <string>

#include "bnpp/fold.h"
#include "fold/layer.h"
#include "fold/values.h"
#include "norms/check.h"

namespace bnpp {
namespace {

void check_like_weight(const Check& check, const ConstTensor& t, const char* name,
                       const ConstTensor& weight) {
  bool same = t.ndim == weight.ndim;
  for (int d = 0; same && d < t.ndim; ++d) same = t.shape[d] == weight.shape[d];
  if (!same) {
    check.refuse(name, " has shape ", shape_text(t), ", but it needs weight's ",
                 shape_text(weight));
  }
  if (t.dtype != weight.dtype) {
    check.refuse<TypeError>(name, " has dtype ", name_of(t.dtype), ", but it needs weight's ",
                            name_of(weight.dtype));
  }
}

FoldMapGrads backward(const Check& check, const FoldArgs& args, const FoldGrads& grads,
                      LayerKind kind) {
  const Layer layer(check, args, kind);
  const LayerAxes& axes = layer.axes;
  check_like_weight(check, grads.dfolded_weight, "dweight", args.weight);
  check_like_weight(check, grads.dweight, "the gradient of weight", args.weight);
  const auto outputs = static_cast<std::size_t>(axes.all_outputs());
  const auto inputs = static_cast<std::size_t>(axes.all_inputs());
  const std::string owner = "weight has " + std::to_string(outputs) + " output channels";
  const std::vector<double> dbias =
      grads.dfolded_bias.given()
          ? read_vector(check, grads.dfolded_bias, "dbias", axes.all_outputs(), owner)
          : std::vector<double>(outputs, 0);
  if (grads.dbias.ndim != 1 || grads.dbias.shape[0] != axes.all_outputs()) {
    check.refuse("the gradient of bias needs one value for each of ", outputs, " output channels");
  }

  const WeightView<const void> weights(args.weight, axes), dfolded(grads.dfolded_weight, axes);
  const WeightView<void> dweights(grads.dweight, axes);
  AffineGrads after{std::vector<double>(outputs, 0), dbias},
      before{std::vector<double>(inputs, 0), std::vector<double>(inputs, 0)};
  std::vector<double> dlayer_bias(outputs);
  with_type(args.weight.dtype, [&](auto tag) {
    using T = decltype(tag);
    for (std::size_t c = 0; c < outputs; ++c) {
      const Output o = axes.output(c);
      const double scale = layer.after.scale[c];
      double bias = layer.bias[c];
      for_each_weight(weights, o, [&](std::size_t in, std::int64_t i, std::size_t k) {
        const double weight = load_value<T>(weights.at(o, i, k)),
                     dfold = load_value<T>(dfolded.at(o, i, k)), scale_in = layer.before.scale[in],
                     shift_in = layer.before.shift[in];
        store_value<T>(dweights.at(o, i, k), scale * (dfold * scale_in + dbias[c] * shift_in));
        after.dscale[c] += dfold * weight * scale_in;
        bias += weight * shift_in;
        before.dscale[in] += scale * dfold * weight;
        before.dshift[in] += scale * dbias[c] * weight;
      });
      after.dscale[c] += dbias[c] * bias;
      dlayer_bias[c] = scale * dbias[c];
    }
  });
  write_vector(grads.dbias, dlayer_bias.data());
  FoldMapGrads result;
  if (args.after != nullptr) result.after = std::move(after);
  if (args.before != nullptr) result.before = std::move(before);
  return result;
}

}  // namespace

FoldMapGrads fold_linear_backward(const FoldArgs& args, const FoldGrads& grads) {
  return backward(Check("fold_linear_backward"), args, grads, LayerKind::linear);
}

FoldMapGrads fold_conv_backward(const FoldArgs& args, const FoldGrads& grads) {
  return backward(Check("fold_conv_backward"), args, grads, LayerKind::conv);
}

}  // namespace bnpp
