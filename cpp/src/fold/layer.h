// A linear layer as folding sees it: which axis of its weight is what, and where each weight lies.
// The rest of folding knows only (group, output of the group, input of the group, kernel position).
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "bnpp/fold.h"
#include "norms/check.h"

namespace bnpp {

/// A channel of the output, in its group.
struct Output {
  std::int64_t group, index;
};

/// What the axes of a weight are; -1 for an axis that is not there.
struct LayerAxes {
  std::int64_t groups = 1, outputs = 1, inputs = 1;  // outputs and inputs of one group
  int group_axis = -1, output_axis = -1, input_axis = -1;
  int split_axis = -1;  // the axis that runs over all groups, where there is no group axis
  std::vector<int> kernel_axes;
  std::string layout;  // the one that was given, or its default

  std::int64_t all_outputs() const { return groups * outputs; }
  std::int64_t all_inputs() const { return groups * inputs; }
  Output output(std::size_t channel) const {
    const auto c = static_cast<std::int64_t>(channel);
    return {c / outputs, c % outputs};
  }
};

enum class LayerKind : std::uint8_t { linear, conv };

/// Reads the layout; refuses one that does not fit the weight.
LayerAxes layer_axes(const Check& check, const FoldArgs& args, LayerKind kind);

/// A fold's arguments, checked, with bias and maps as plain vectors of all channels.
struct Layer {
  LayerAxes axes;
  std::vector<double> bias;
  Affine after, before;  // the identity where there was none
  bool has_before;

  Layer(const Check& check, const FoldArgs& args, LayerKind kind);
};

/// Where each weight of a tensor lies.
template <class Void>
class WeightView {
 public:
  WeightView(const BasicTensor<Void>& weight, const LayerAxes& axes)
      : data_(static_cast<Byte*>(weight.data)), inputs_(axes.inputs) {
    const auto stride = [&](int axis) { return axis < 0 ? 0 : weight.strides[axis]; };
    output_ = stride(axes.output_axis);
    input_ = stride(axes.input_axis);
    group_ = axes.group_axis >= 0                  ? stride(axes.group_axis)
             : axes.split_axis == axes.output_axis ? output_ * axes.outputs
                                                   : input_ * axes.inputs;
    positions_ = {0};
    for (const int axis : axes.kernel_axes) {
      std::vector<std::int64_t> inner;
      for (const std::int64_t at : positions_) {
        for (std::int64_t k = 0; k < weight.shape[axis]; ++k) {
          inner.push_back(at + k * weight.strides[axis]);
        }
      }
      positions_ = std::move(inner);
    }
  }

  /// The weight at a kernel position, from output and input channel of a group.
  auto* at(Output o, std::int64_t input, std::size_t position) const {
    return data_ + o.group * group_ + o.index * output_ + input * input_ + positions_[position];
  }
  std::int64_t inputs() const { return inputs_; }
  std::size_t positions() const { return positions_.size(); }
  std::int64_t terms() const { return inputs_ * static_cast<std::int64_t>(positions_.size()); }

 private:
  using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;

  Byte* data_;
  std::int64_t inputs_, group_ = 0, output_ = 0, input_ = 0;
  std::vector<std::int64_t> positions_;  // bytes from the first kernel position
};

/// visit(input of all groups, input of its group, position) for every weight of an output channel.
template <class View, class Visit>
void for_each_weight(const View& weights, Output o, Visit visit) {
  for (std::int64_t i = 0; i < weights.inputs(); ++i) {
    for (std::size_t k = 0; k < weights.positions(); ++k) {
      visit(static_cast<std::size_t>(o.group * weights.inputs() + i), i, k);
    }
  }
}

}  // namespace bnpp
