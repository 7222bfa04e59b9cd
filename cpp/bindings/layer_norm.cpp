// layer_norm, rms_norm, their backwards, and what a forward saves for its backward.
#include "bnpp/layer_norm.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "norm_saved.h"
#include "norms/check.h"

namespace bnpp::python {
namespace {

/// A tuple of the sizes of x's axes, those in `axes` or (kept) all others.
nb::tuple sizes_along(const ConstTensor& x, const std::vector<int>& axes, bool kept) {
  nb::list sizes;
  for (int d = 0; d < x.ndim; ++d) {
    const bool named = std::find(axes.begin(), axes.end(), d) != axes.end();
    if (named != kept) sizes.append(x.shape[d]);
  }
  return nb::tuple(sizes);
}

/// A view of one-dimensional memory with the sizes of a tuple; one value if the tuple is empty.
Tensor shaped(const Array& vector, const nb::tuple& sizes) {
  Tensor view = vector.tensor();
  view.ndim = 0;
  for (const nb::handle size : sizes) view.shape[view.ndim++] = nb::cast<std::int64_t>(size);
  if (view.ndim == 0) view.shape[view.ndim++] = 1;
  std::int64_t stride = size_of(view.dtype);
  for (int d = view.ndim - 1; d >= 0; --d) {
    view.strides[d] = stride;
    stride *= view.shape[d];
  }
  return view;
}

/// The core's saved state with the weights it looks at, broadcast; None without.
struct Core : LayerNormSaved {
  nb::object kept_weights;
};
using S = NormSaved<Core>;

DType dtype_of_statistics(const S& s) { return statistics_dtype(s.core.x.dtype); }

nb::object statistics(const S& s, const std::vector<double>& values) {
  const Array array =
      Array::vector(static_cast<std::int64_t>(values.size()), dtype_of_statistics(s));
  const nb::tuple sizes = sizes_along(s.core.x, s.core.axes, true);
  if (!values.empty()) s.core.write_statistics(values, shaped(array, sizes));
  nb::object result = array.object().attr("reshape")(sizes);
  result.attr("setflags")(false);
  return result;
}

nb::tuple axis_of(const S& s) {
  nb::list axes;
  for (const int d : s.core.axes) axes.append(d);
  return nb::tuple(axes);
}

std::vector<int> to_axes(const char* function, nb::handle object) {
  std::vector<int> axes;
  if (PyTuple_Check(object.ptr()) || PyList_Check(object.ptr())) {
    for (const nb::handle axis : nb::cast<nb::sequence>(object)) {
      axes.push_back(to_int(function, "axis", axis));
    }
  } else {
    axes.push_back(to_int(function, "axis", object));
  }
  return axes;
}

using Forward = LayerNormSaved (*)(const LayerNormArgs&);
using Backward = void (*)(const LayerNormSaved&, const LayerNormGrads&);

nb::tuple forward(const char* function, Forward core, nb::handle x_object, nb::handle gamma_object,
                  nb::handle beta_object, nb::handle axis, nb::handle eps,
                  nb::handle weights_object, nb::handle out) {
  LayerNormArgs args;
  args.axes = to_axes(function, axis);
  args.eps = to_double(function, "eps", eps);
  const Array x = Array::required(function, "x", x_object),
              gamma = Array::input(function, "gamma", gamma_object),
              beta = Array::input(function, "beta", beta_object),
              weights = Array::input(function, "weights", weights_object);
  const Array y = forward_output(function, out, x,
                                 {{"x", x, true},
                                  {"gamma", gamma, false},
                                  {"beta", beta, false},
                                  {"weights", weights, false}});
  args.x = x.tensor();
  args.gamma = gamma.tensor();
  args.beta = beta.tensor();
  args.weights = weights.tensor();
  args.y = y.tensor();
  LayerNormSaved saved;
  {
    nb::gil_scoped_release release;
    saved = core(args);
  }
  nb::object kept = weights.given() ? weights.object() : nb::none();
  return nb::make_tuple(y.object(), new_norm_saved(Core{std::move(saved), std::move(kept)}, x, y));
}

nb::tuple layer(nb::handle x, nb::handle gamma, nb::handle beta, nb::handle axis, nb::handle eps,
                nb::handle weights, nb::handle out) {
  return forward("layer_norm", layer_norm, x, gamma, beta, axis, eps, weights, out);
}

nb::tuple rms(nb::handle x, nb::handle gamma, nb::handle axis, nb::handle eps, nb::handle weights,
              nb::handle out) {
  return forward("rms_norm", rms_norm, x, gamma, nb::none(), axis, eps, weights, out);
}

/// The output of a backward: the caller's, or a new one like x.
Array backward_output(const char* function, nb::handle out, const Array& dy, const Array& x,
                      const Array& weights) {
  if (out.is_none()) return Array::like(x);
  Array dx = Array::output(function, "out", out);
  Check(function).like(x.tensor(), dx.tensor(), "out");
  check_overlap(function, dx,
                {{"dy", dy, true}, {"saved's x", x, false}, {"saved's weights", weights, false}});
  return dx;
}

nb::tuple backward(const char* function, Backward core, nb::handle dy_object,
                   nb::handle saved_object, nb::handle out, bool has_beta) {
  const S& saved = to_norm_saved<Core>(function, saved_object);
  const Array dy = Array::required(function, "dy", dy_object),
              x = Array::input(function, "x", saved.x),
              weights = Array::input(function, "weights", saved.core.kept_weights);
  if (!same_view(x.tensor(), saved.core.x)) {
    Check(function).refuse("saved refers to an x that was resized or moved since the forward call");
  }
  const Array dx = backward_output(function, out, dy, x, weights);
  const nb::tuple sizes = sizes_along(saved.core.x, saved.core.axes, false);
  const auto features = static_cast<std::int64_t>(saved.core.gamma.size());
  const Array dgamma = Array::vector(features, dtype_of_statistics(saved)),
              dbeta = Array::vector(features, dtype_of_statistics(saved));
  LayerNormGrads grads;
  grads.dy = dy.tensor();
  grads.dx = dx.tensor();
  grads.dgamma = shaped(dgamma, sizes);
  if (has_beta) grads.dbeta = shaped(dbeta, sizes);
  {
    nb::gil_scoped_release release;
    core(saved.core, grads);
  }
  const auto parameter = [&](const Array& array) { return array.object().attr("reshape")(sizes); };
  if (!has_beta) return nb::make_tuple(dx.object(), parameter(dgamma));
  return nb::make_tuple(dx.object(), parameter(dgamma), parameter(dbeta));
}

nb::tuple layer_backward(nb::handle dy, nb::handle saved, nb::handle out) {
  return backward("layer_norm_backward", layer_norm_backward, dy, saved, out, true);
}

nb::tuple rms_backward(nb::handle dy, nb::handle saved, nb::handle out) {
  return backward("rms_norm_backward", rms_norm_backward, dy, saved, out, false);
}

}  // namespace

void bind_layer_norm(nb::module_& m) {
  nb::class_<S>(m, "LayerNormSaved", "What layer_norm or rms_norm leaves for its backward.")
      .def_prop_ro(
          "mean", [](const S& s) { return statistics(s, s.core.mean); },
          "Mean of each sample, read-only, of the shape of the kept axes; zeros of rms_norm.")
      .def_prop_ro(
          "var", [](const S& s) { return statistics(s, s.core.var); },
          "Biased variance of each sample, read-only; of rms_norm its mean square.")
      .def_prop_ro(
          "inv_std", [](const S& s) { return statistics(s, s.core.inv_std); },
          "1 / sqrt(var + eps) of each sample, read-only, in the statistics dtype.")
      .def_prop_ro(
          "count", [](const S& s) { return s.core.count; }, "Values a sample, m.")
      .def_prop_ro(
          "shape", [](const S& s) { return shape_of(s.core.x); }, "The shape of x.")
      .def_prop_ro("axis", &axis_of, "The features' axes, from 0, ascending.")
      .def_prop_ro(
          "eps", [](const S& s) { return s.core.eps; }, "The eps of the call.")
      .def_prop_ro(
          "reason",
          [](const S& s) { return s.reason.empty() ? std::nullopt : std::optional(s.reason); },
          "Why it cannot serve a backward, or None.")
      .def_prop_ro(
          "nbytes",
          [](const S& s) {
            return bytes_of({s.core.mean.size(), s.core.mean_low.size(), s.core.var.size(),
                             s.core.inv_std.size(), s.core.weight.size(), s.core.gamma.size()});
          },
          "Bytes it holds itself; x is only referred to.")
      .def("__repr__", [](const S& s) {
        return "LayerNormSaved(shape=" + shape_text(s.core.x) +
               ", axis=" + std::string(nb::repr(axis_of(s)).c_str()) +
               ", count=" + std::to_string(s.core.count) + (s.core.rms ? ", rms" : "") +
               (s.core.weights.given() ? ", weights" : "") +
               (s.reason.empty() ? "" : ", x overwritten") + ")";
      });
  // Every argument may be None as far as nanobind is concerned: the refusals are ours.
  m.def("layer_norm", &layer, nb::arg("x").none(), nb::arg("gamma").none(), nb::arg("beta").none(),
        nb::arg("axis").none(), nb::arg("eps").none(), nb::arg("weights").none(),
        nb::arg("out").none());
  m.def("layer_norm_backward", &layer_backward, nb::arg("dy").none(), nb::arg("saved").none(),
        nb::arg("out").none());
  m.def("rms_norm", &rms, nb::arg("x").none(), nb::arg("gamma").none(), nb::arg("axis").none(),
        nb::arg("eps").none(), nb::arg("weights").none(), nb::arg("out").none());
  m.def("rms_norm_backward", &rms_backward, nb::arg("dy").none(), nb::arg("saved").none(),
        nb::arg("out").none());
}

}  // namespace bnpp::python
