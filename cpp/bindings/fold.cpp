// Affine maps and folding: the objects of bnpp/fold.h, their vectors as NumPy arrays.
#include "bnpp/fold.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "arrays.h"
#include "fold/values.h"
#include "norms/check.h"

namespace bnpp::python {
namespace {

nb::object vector(const std::vector<double>& values) {
  return constant_vector(values.data(), static_cast<std::int64_t>(values.size()), DType::float64);
}

std::vector<double> values_of(const char* function, const char* name, nb::handle object) {
  const Array array = Array::required(function, name, object);
  return read_vector(Check(function), array.tensor(), name, -1, "");
}

Affine new_affine(nb::handle scale, nb::handle shift) {
  return {values_of("Affine", "scale", scale), values_of("Affine", "shift", shift)};
}

// What __reduce__ of the Python class hands back.
Affine restored(nb::handle scale, nb::handle shift, nb::handle magnitude, const nb::bytes& notes) {
  Affine map = new_affine(scale, shift);
  map.magnitude = values_of("Affine", "magnitude", magnitude);
  const auto* bits = reinterpret_cast<const std::uint8_t*>(notes.c_str());
  map.variance.assign(bits, bits + notes.size());
  if (map.magnitude.size() != map.scale.size() || map.variance.size() != map.scale.size()) {
    Check("Affine").refuse("the pickled parts have different lengths");
  }
  return map;
}

Affine from_statistics(nb::handle gamma_object, nb::handle beta_object, nb::handle mean_object,
                       nb::handle var_object, nb::handle eps) {
  constexpr const char* function = "affine";
  const Array gamma = Array::input(function, "gamma", gamma_object),
              beta = Array::input(function, "beta", beta_object),
              mean = Array::required(function, "mean", mean_object),
              var = Array::required(function, "var", var_object);
  return affine(gamma.tensor(), beta.tensor(), mean.tensor(), var.tensor(),
                to_double(function, "eps", eps));
}

nb::object apply_affine(const Affine& map, nb::handle x_object, nb::handle axis_object,
                        nb::handle out) {
  constexpr const char* function = "Affine";
  const int axis = to_int(function, "axis", axis_object);
  const Array x = Array::required(function, "x", x_object);
  const Array y = out.is_none() ? Array::like(x) : Array::output(function, "out", out);
  if (!out.is_none()) {
    Check(function).like(x.tensor(), y.tensor(), "out");
    check_overlap(function, y, {{"x", x, true}});
  }
  {
    nb::gil_scoped_release release;
    apply(map, x.tensor(), y.tensor(), axis);
  }
  return y.object();
}

nb::tuple affine_gradients(nb::handle dscale, nb::handle dshift, nb::handle gamma_object,
                           nb::handle mean_object, nb::handle var_object, nb::handle eps) {
  constexpr const char* function = "affine_backward";
  const AffineGrads grads{values_of(function, "dscale", dscale),
                          values_of(function, "dshift", dshift)};
  const Array gamma = Array::input(function, "gamma", gamma_object),
              mean = Array::required(function, "mean", mean_object),
              var = Array::required(function, "var", var_object);
  const AffineParameterGrads result = affine_backward(
      grads, gamma.tensor(), mean.tensor(), var.tensor(), to_double(function, "eps", eps));
  return nb::make_tuple(vector(result.dgamma), vector(result.dbeta), vector(result.dmean),
                        vector(result.dvar));
}

/// The arguments of a fold and of its backward.
struct FoldCall {
  const char* function;
  bool conv;
  Array weight, bias;
  FoldArgs args;

  FoldCall(const char* name, bool is_conv, nb::handle weight_object, nb::handle bias_object,
           nb::handle after, nb::handle before, nb::handle layout, nb::handle groups,
           bool transposed, nb::handle padding)
      : function(name),
        conv(is_conv),
        weight(Array::required(name, "weight", weight_object)),
        bias(Array::input(name, "bias", bias_object)) {
    args.weight = weight.tensor();
    args.bias = bias.tensor();
    args.after = map_of(after, "after");
    args.before = map_of(before, "before");
    if (!layout.is_none()) {
      if (!nb::try_cast(layout, args.layout)) {
        Check(name).refuse<TypeError>("layout is of type ", type_of(layout),
                                      ", but it needs to be a string");
      }
      if (args.layout.empty()) Check(name).refuse("layout is empty, but it needs a letter an axis");
    }
    args.groups = to_int(name, "groups", groups);
    args.transposed = transposed;
    args.padding =
        static_cast<Padding>(to_choice(name, "padding", padding, {"none", "zeros", "pad_value"}));
  }

  const Affine* map_of(nb::handle object, const char* name) const {
    const Affine* map = nullptr;
    if (object.is_none()) return map;
    if (!nb::try_cast(object, map) || map == nullptr) {
      Check(function).refuse<TypeError>(name, " is of type ", type_of(object),
                                        ", but it needs to be a bnpp.Affine");
    }
    return map;
  }

  // Room for a bias: of the dtype of the given one, else of the weight.
  Array new_bias() const {
    const std::int64_t outputs =
        conv ? output_channels_of_conv(args) : output_channels_of_linear(args);
    const nb::object dtype = (bias.given() ? bias : weight).object().attr("dtype");
    return Array::output(function, "the new bias",
                         nb::module_::import_("numpy").attr("empty")(outputs, dtype));
  }
};

nb::dict to_dict(const FoldReport& report) {
  nb::dict fields;
  fields["max_weight_change"] = report.max_weight_change;
  fields["weight_rounding"] = vector(report.weight_rounding);
  fields["bias_rounding"] = vector(report.bias_rounding);
  fields["growth"] = vector(report.growth);
  fields["range_growth"] = report.range_growth;
  fields["weight_sum"] = vector(report.weight_sum);
  fields["constant_sum"] = vector(report.constant_sum);
  fields["terms"] = report.terms;
  fields["dead_channels"] = nb::tuple(nb::cast(report.outputs.dead));
  fields["zero_variances"] = nb::tuple(nb::cast(report.outputs.zero_variances));
  fields["denormal_variances"] = nb::tuple(nb::cast(report.outputs.denormal_variances));
  fields["dead_inputs"] = nb::tuple(nb::cast(report.inputs.dead));
  fields["zero_variance_inputs"] = nb::tuple(nb::cast(report.inputs.zero_variances));
  fields["denormal_variance_inputs"] = nb::tuple(nb::cast(report.inputs.denormal_variances));
  return fields;
}

nb::tuple fold(bool conv, nb::handle weight, nb::handle bias, nb::handle after, nb::handle before,
               nb::handle layout, nb::handle groups, bool transposed, nb::handle padding) {
  const FoldCall call(conv ? "fold_conv" : "fold_linear", conv, weight, bias, after, before, layout,
                      groups, transposed, padding);
  const Array new_bias = call.new_bias(), new_weight = Array::like(call.weight);
  Folded folded;
  {
    nb::gil_scoped_release release;
    folded = conv ? fold_conv(call.args, new_weight.tensor(), new_bias.tensor())
                  : fold_linear(call.args, new_weight.tensor(), new_bias.tensor());
  }
  const bool pads = call.args.before != nullptr && call.args.padding == Padding::pad_value;
  return nb::make_tuple(new_weight.object(), new_bias.object(), to_dict(folded.report),
                        pads ? vector(folded.pad_value) : nb::object(nb::none()));
}

nb::object to_tuple(const Affine* map, const AffineGrads& grads) {
  if (map == nullptr) return nb::none();
  return nb::make_tuple(vector(grads.dscale), vector(grads.dshift));
}

nb::tuple fold_gradients(bool conv, nb::handle dweight_object, nb::handle dbias_object,
                         nb::handle weight, nb::handle bias, nb::handle after, nb::handle before,
                         nb::handle layout, nb::handle groups, bool transposed,
                         nb::handle padding) {
  const FoldCall call(conv ? "fold_conv_backward" : "fold_linear_backward", conv, weight, bias,
                      after, before, layout, groups, transposed, padding);
  const Array dfolded_weight = Array::required(call.function, "dweight", dweight_object),
              dfolded_bias = Array::input(call.function, "dbias", dbias_object),
              dweight = Array::like(call.weight), dbias = call.new_bias();
  FoldGrads grads;
  grads.dfolded_weight = dfolded_weight.tensor();
  grads.dfolded_bias = dfolded_bias.tensor();
  grads.dweight = dweight.tensor();
  grads.dbias = dbias.tensor();
  FoldMapGrads maps;
  {
    nb::gil_scoped_release release;
    maps = conv ? fold_conv_backward(call.args, grads) : fold_linear_backward(call.args, grads);
  }
  return nb::make_tuple(dweight.object(), dbias.object(), to_tuple(call.args.after, maps.after),
                        to_tuple(call.args.before, maps.before));
}

}  // namespace

void bind_fold(nb::module_& m) {
  nb::class_<Affine>(m, "AffineMap", "The vectors of a bnpp.Affine.")
      .def_prop_ro("scale", [](const Affine& a) { return vector(a.scale); })
      .def_prop_ro("shift", [](const Affine& a) { return vector(a.shift); })
      .def_prop_ro("magnitude", [](const Affine& a) { return vector(a.magnitude); })
      .def_prop_ro("notes", [](const Affine& a) {
        return nb::bytes(reinterpret_cast<const char*>(a.variance.data()), a.variance.size());
      });
  m.def("new_affine", &new_affine, nb::arg("scale").none(), nb::arg("shift").none());
  m.def("restore_affine", &restored, nb::arg("scale").none(), nb::arg("shift").none(),
        nb::arg("magnitude").none(), nb::arg("notes"));
  m.def("affine", &from_statistics, nb::arg("gamma").none(), nb::arg("beta").none(),
        nb::arg("mean").none(), nb::arg("var").none(), nb::arg("eps").none());
  m.def("compose_affine", &compose, nb::arg("second"), nb::arg("first"));
  m.def("invert_affine", &inverse, nb::arg("map"));
  m.def("take_affine", &take, nb::arg("map"), nb::arg("indices"));
  m.def("concat_affine", &concat, nb::arg("maps"));
  m.def("apply_affine", &apply_affine, nb::arg("map"), nb::arg("x").none(), nb::arg("axis").none(),
        nb::arg("out").none());
  m.def("affine_backward", &affine_gradients, nb::arg("dscale").none(), nb::arg("dshift").none(),
        nb::arg("gamma").none(), nb::arg("mean").none(), nb::arg("var").none(),
        nb::arg("eps").none());
  m.def("fold", &fold, nb::arg("conv"), nb::arg("weight").none(), nb::arg("bias").none(),
        nb::arg("after").none(), nb::arg("before").none(), nb::arg("layout").none(),
        nb::arg("groups").none(), nb::arg("transposed"), nb::arg("padding").none());
  m.def("fold_backward", &fold_gradients, nb::arg("conv"), nb::arg("dweight").none(),
        nb::arg("dbias").none(), nb::arg("weight").none(), nb::arg("bias").none(),
        nb::arg("after").none(), nb::arg("before").none(), nb::arg("layout").none(),
        nb::arg("groups").none(), nb::arg("transposed"), nb::arg("padding").none());
}

}  // namespace bnpp::python
