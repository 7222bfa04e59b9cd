// batch_norm, batch_norm_inference, their backwards, and what a forward saves for its backward.
#include "bnpp/batch_norm.h"

#include <nanobind/nanobind.h>

#include <string>
#include <utility>

#include "arrays.h"
#include "bnpp/error.h"
#include "norms/check.h"
#include "saved.h"

namespace bnpp::python {
namespace {

std::int64_t statistics_bytes(const BatchNormSaved& s) {
  return bytes_of({s.mean.size(), s.mean_low.size(), s.m2.size(), s.m2_low.size(), s.var.size(),
                   s.inv_std.size(), s.gamma.size()});
}

nb::object vector(const Saved<BatchNormSaved>& saved, const ChannelVector& values) {
  return constant_vector(values.data(), saved.channels(), statistics_dtype(saved.core.x.dtype));
}

nb::tuple forward(nb::handle x_object, nb::handle gamma_object, nb::handle beta_object,
                  nb::handle axis, nb::handle eps, nb::handle residual_object,
                  nb::handle activation, nb::handle on_single, nb::handle out) {
  constexpr const char* function = "batch_norm";
  BatchNormArgs args;
  args.axis = to_int(function, "axis", axis);
  args.eps = to_double(function, "eps", eps);
  args.activation = to_activation(function, activation);
  constexpr int kInference = 2;
  const int single = to_choice(function, "on_single", on_single, {"error", "biased", "inference"});
  if (single == kInference) {
    Check(function).refuse(
        "on_single is 'inference', but that needs running statistics, which only "
        "bnpp.BatchNorm has");
  }
  args.on_single = static_cast<OnSingle>(single);
  const Array x = Array::required(function, "x", x_object),
              gamma = Array::input(function, "gamma", gamma_object),
              beta = Array::input(function, "beta", beta_object),
              residual = Array::input(function, "residual", residual_object);
  const Array y = forward_output(function, out, x,
                                 {{"x", x, true},
                                  {"residual", residual, true},
                                  {"gamma", gamma, false},
                                  {"beta", beta, false}});
  args.x = x.tensor();
  args.gamma = gamma.tensor();
  args.beta = beta.tensor();
  args.residual = residual.tensor();
  args.y = y.tensor();
  BatchNormSaved saved;
  {
    nb::gil_scoped_release release;
    saved = batch_norm(args);
  }
  return nb::make_tuple(y.object(), new_saved(std::move(saved), x, y));
}

nb::object inference(nb::handle x_object, nb::handle gamma_object, nb::handle beta_object,
                     nb::handle mean_object, nb::handle var_object, nb::handle axis, nb::handle eps,
                     nb::handle residual_object, nb::handle activation, nb::handle out, bool save) {
  constexpr const char* function = "batch_norm_inference";
  BatchNormInferenceArgs args;
  args.axis = to_int(function, "axis", axis);
  args.eps = to_double(function, "eps", eps);
  args.activation = to_activation(function, activation);
  args.keep_mask = save;
  const Array x = Array::required(function, "x", x_object),
              gamma = Array::input(function, "gamma", gamma_object),
              beta = Array::input(function, "beta", beta_object),
              mean = Array::required(function, "mean", mean_object),
              var = Array::required(function, "var", var_object),
              residual = Array::input(function, "residual", residual_object);
  const Array y = forward_output(function, out, x,
                                 {{"x", x, true},
                                  {"residual", residual, true},
                                  {"gamma", gamma, false},
                                  {"beta", beta, false},
                                  {"mean", mean, false},
                                  {"var", var, false}});
  args.x = x.tensor();
  args.gamma = gamma.tensor();
  args.beta = beta.tensor();
  args.mean = mean.tensor();
  args.var = var.tensor();
  args.residual = residual.tensor();
  args.y = y.tensor();
  BatchNormSaved saved;
  {
    nb::gil_scoped_release release;
    saved = batch_norm_inference(args);
  }
  if (!save) return y.object();
  return nb::make_tuple(y.object(), new_saved(std::move(saved), x, y));
}

nb::tuple backward(nb::handle dy, nb::handle saved_object, nb::handle out) {
  const auto& saved = to_saved<BatchNormSaved>("batch_norm_backward", saved_object);
  const Backward arrays("batch_norm_backward", dy, saved, out);
  const BatchNormGrads grads = arrays.grads<BatchNormGrads>();
  {
    nb::gil_scoped_release release;
    batch_norm_backward(saved.core, grads);
  }
  return arrays.objects();
}

nb::tuple inference_backward(nb::handle dy, nb::handle saved_object, nb::handle out) {
  const auto& saved = to_saved<BatchNormSaved>("batch_norm_inference_backward", saved_object);
  const Backward arrays("batch_norm_inference_backward", dy, saved, out);
  const DType dtype = statistics_dtype(saved.core.x.dtype);
  const Array dmean = Array::vector(saved.channels(), dtype),
              dvar = Array::vector(saved.channels(), dtype);
  BatchNormGrads grads = arrays.grads<BatchNormGrads>();
  grads.dmean = dmean.tensor();
  grads.dvar = dvar.tensor();
  {
    nb::gil_scoped_release release;
    batch_norm_inference_backward(saved.core, grads);
  }
  return nb::make_tuple(arrays.dx.object(), arrays.dgamma.object(), arrays.dbeta.object(),
                        dmean.object(), dvar.object(), arrays.dresidual_object);
}

}  // namespace

void bind_batch_norm(nb::module_& m) {
  using S = Saved<BatchNormSaved>;
  nb::class_<S> type(m, "Saved", "What a forward call leaves for its backward.");
  bind_saved(type);
  type.def_prop_ro(
          "mean", [](const S& s) { return vector(s, s.core.mean); },
          "Mean of each channel, read-only, in the statistics dtype.")
      .def_prop_ro(
          "var", [](const S& s) { return vector(s, s.core.var); },
          "Biased variance of each channel, read-only, in the statistics dtype.")
      .def_prop_ro(
          "inv_std", [](const S& s) { return vector(s, s.core.inv_std); },
          "1 / sqrt(var + eps) of each channel, read-only, in the statistics dtype.")
      .def_prop_ro(
          "count", [](const S& s) { return s.core.count; }, "Values a channel, m.")
      .def_prop_ro(
          "frozen", [](const S& s) { return s.core.frozen; },
          "Whether the statistics were given: constants of the backward.")
      .def_prop_ro(
          "nbytes", [](const S& s) { return statistics_bytes(s.core) + mask_bytes_of(s); },
          "Bytes it holds itself; x is only referred to.")
      .def(
          "_moments", [](const S& s) { return to_tuple(s.core.moments()); },
          "(count, mean, mean_low, m2, m2_low) of the batch, float64.")
      .def("__repr__", [](const S& s) {
        return "Saved(shape=" + shape_text(s.core.x) + ", axis=" + std::to_string(s.core.axis) +
               ", count=" + std::to_string(s.core.count) + (s.core.frozen ? ", frozen" : "") +
               (s.core.mask.empty() ? "" : ", relu") + (s.core.residual ? ", residual" : "") +
               (s.reason.empty() ? "" : ", x overwritten") + ")";
      });
  // Every argument may be None as far as nanobind is concerned: the refusals are ours.
  m.def("batch_norm", &forward, nb::arg("x").none(), nb::arg("gamma").none(),
        nb::arg("beta").none(), nb::arg("axis").none(), nb::arg("eps").none(),
        nb::arg("residual").none(), nb::arg("activation").none(), nb::arg("on_single").none(),
        nb::arg("out").none());
  m.def("batch_norm_backward", &backward, nb::arg("dy").none(), nb::arg("saved").none(),
        nb::arg("out").none());
  m.def("batch_norm_inference", &inference, nb::arg("x").none(), nb::arg("gamma").none(),
        nb::arg("beta").none(), nb::arg("mean").none(), nb::arg("var").none(),
        nb::arg("axis").none(), nb::arg("eps").none(), nb::arg("residual").none(),
        nb::arg("activation").none(), nb::arg("out").none(), nb::arg("save"));
  m.def("batch_norm_inference_backward", &inference_backward, nb::arg("dy").none(),
        nb::arg("saved").none(), nb::arg("out").none());
}

}  // namespace bnpp::python
