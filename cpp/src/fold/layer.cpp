#include "fold/layer.h"

#include <algorithm>
#include <cmath>

#include "fold/values.h"

namespace bnpp {
namespace {

const char* plural(std::int64_t n) { return n == 1 ? "" : "s"; }

std::string default_layout(const Check& check, const FoldArgs& args, LayerKind kind) {
  if (kind == LayerKind::linear) return "OI";
  const int kernel = args.weight.ndim - 2;
  if (kernel < 1 || kernel > 3) {
    check.refuse("weight has ", args.weight.ndim, " dimensions, but a convolution's has 3 to 5");
  }
  constexpr const char* kKernel[] = {"W", "HW", "DHW"};
  return (args.transposed ? "IO" : "OI") + std::string(kKernel[kernel - 1]);
}

void check_letters(const Check& check, const FoldArgs& args, LayerKind kind,
                   const std::string& layout) {
  if (kind == LayerKind::linear) {
    if (layout != "OI" && layout != "IO") {
      check.refuse("layout is '", layout, "', but it needs to be 'OI' or 'IO'");
    }
  } else {
    for (std::size_t i = 0; i < layout.size(); ++i) {
      if (std::string("OIDHWG").find(layout[i]) == std::string::npos ||
          layout.find(layout[i], i + 1) != std::string::npos) {
        check.refuse("layout is '", layout,
                     "', but it needs different letters of O, I, D, H, W and G");
      }
    }
    const bool grouped = layout.find('G') != std::string::npos;
    if (!grouped &&
        (layout.find('O') == std::string::npos || layout.find('I') == std::string::npos)) {
      check.refuse("layout is '", layout, "', but without a G it needs both O and I");
    }
  }
  if (static_cast<int>(layout.size()) != args.weight.ndim) {
    check.refuse("layout '", layout, "' names ", layout.size(), " axes, but weight has ",
                 args.weight.ndim, " dimension", plural(args.weight.ndim));
  }
}

void check_map(const Check& check, const Affine* map, const char* name, const char* side,
               std::int64_t channels, const LayerAxes& axes) {
  if (map == nullptr || map->channels() == channels) return;
  check.refuse(name, " has ", map->channels(), " channel", plural(map->channels()),
               ", but weight has ", channels, " ", side, " channel", plural(channels), " (layout '",
               axes.layout, "', groups ", axes.groups, ")");
}

// A constant added ahead of the layer reaches every output in full only if every output sees all
// kernel positions inside the input, or a border that the constant belongs to as well.
void check_shift(const Check& check, const FoldArgs& args) {
  const Affine& before = *args.before;
  for (std::size_t c = 0; c < before.shift.size(); ++c) {
    const double scale = before.scale[c], shift = before.shift[c];
    if (shift == 0) continue;
    if (args.transposed) {
      check.refuse("before has shift ", shift, " in channel ", c,
                   ", which a transposed convolution does not spread evenly over its output: fold "
                   "a map without shift");
    }
    if (args.padding == Padding::zeros) {
      check.refuse("before has shift ", shift, " in channel ", c,
                   ", which the zeros of the padding would not get: pad with -shift/scale and give "
                   "padding='pad_value', or leave it unfolded");
    }
    if (args.padding == Padding::pad_value && !std::isfinite(shift / scale)) {
      check.refuse("before has scale ", scale, " and shift ", shift, " in channel ", c,
                   ", so no padding of x could become 0 there: leave it unfolded");
    }
  }
}

Affine identity(std::int64_t channels) {
  const auto n = static_cast<std::size_t>(channels);
  return {std::vector<double>(n, 1), std::vector<double>(n, 0)};
}

}  // namespace

LayerAxes layer_axes(const Check& check, const FoldArgs& args, LayerKind kind) {
  if (!args.weight.given()) check.refuse("weight is not given");
  LayerAxes axes;
  axes.layout = args.layout.empty() ? default_layout(check, args, kind) : args.layout;
  check_letters(check, args, kind, axes.layout);
  for (int d = 0; d < args.weight.ndim; ++d) {
    switch (axes.layout[static_cast<std::size_t>(d)]) {
      case 'O':
        axes.output_axis = d;
        axes.outputs = args.weight.shape[d];
        break;
      case 'I':
        axes.input_axis = d;
        axes.inputs = args.weight.shape[d];
        break;
      case 'G':
        axes.group_axis = d;
        axes.groups = args.weight.shape[d];
        break;
      default:
        axes.kernel_axes.push_back(d);
    }
  }
  if (args.groups < 1) check.refuse("groups is ", args.groups, ", but it needs to be at least 1");
  if (axes.group_axis >= 0) {
    if (args.groups != 1 && args.groups != axes.groups) {
      check.refuse("groups is ", args.groups, ", but weight has ", axes.groups,
                   " along its G axis");
    }
    return axes;
  }
  axes.groups = args.groups;
  axes.split_axis = args.transposed ? axes.input_axis : axes.output_axis;
  std::int64_t& all = args.transposed ? axes.inputs : axes.outputs;
  if (all % axes.groups != 0) {
    check.refuse("groups is ", axes.groups, ", but it needs to divide the ", all,
                 args.transposed ? " input channels" : " output channels", " of weight (axis ",
                 axes.split_axis, ")");
  }
  all /= axes.groups;
  return axes;
}

Layer::Layer(const Check& check, const FoldArgs& args, LayerKind kind)
    : axes(layer_axes(check, args, kind)), has_before(args.before != nullptr) {
  const std::int64_t outputs = axes.all_outputs(), inputs = axes.all_inputs();
  if (args.after == nullptr && args.before == nullptr) {
    check.refuse("neither after nor before is given, but it needs at least one of them");
  }
  check_map(check, args.after, "after", "output", outputs, axes);
  check_map(check, args.before, "before", "input", inputs, axes);
  if (args.before != nullptr) check_shift(check, args);
  const std::string owner = "weight has " + std::to_string(outputs) + " output channel" +
                            plural(outputs) + " (layout '" + axes.layout + "', groups " +
                            std::to_string(axes.groups) + ")";
  bias = args.bias.given() ? read_vector(check, args.bias, "bias", outputs, owner)
                           : std::vector<double>(static_cast<std::size_t>(outputs), 0);
  after = args.after != nullptr ? *args.after : identity(outputs);
  before = args.before != nullptr ? *args.before : identity(inputs);
}

}  // namespace bnpp
