// conditional_batch_norm, conditional_batch_norm_inference, their backward, and what a forward
// saves for it.
#include "bnpp/conditional_batch_norm.h"

#include <nanobind/nanobind.h>

#include <string>
#include <utility>

#include "arrays.h"
#include "norm_saved.h"
#include "norms/check.h"

namespace bnpp::python {
namespace {

using S = NormSaved<ConditionalBatchNormSaved>;

nb::object vector(const S& saved, const ChannelVector& values) {
  return constant_vector(values.data(), static_cast<std::int64_t>(values.size()),
                         statistics_dtype(saved.core.x.dtype));
}

std::int64_t statistics_bytes(const BatchNormSaved& s) {
  return bytes_of({s.mean.size(), s.mean_low.size(), s.m2.size(), s.m2_low.size(), s.var.size(),
                   s.inv_std.size(), s.gamma.size()});
}

nb::tuple forward(nb::handle x_object, nb::handle gamma_object, nb::handle beta_object,
                  nb::handle axis, nb::handle eps, nb::handle residual_object,
                  nb::handle activation, nb::handle on_single, nb::handle out) {
  constexpr const char* function = "conditional_batch_norm";
  ConditionalBatchNormArgs args;
  set_options(function, args, axis, eps, activation);
  args.on_single =
      static_cast<OnSingle>(to_choice(function, "on_single", on_single, {"error", "biased"}));
  const ForwardInputs in(function, x_object, gamma_object, beta_object, residual_object);
  const Array y = in.output(function, out);
  in.give(args, y);
  ConditionalBatchNormSaved saved;
  {
    nb::gil_scoped_release release;
    saved = conditional_batch_norm(args);
  }
  return nb::make_tuple(y.object(), new_norm_saved(std::move(saved), in.x, y));
}

nb::tuple inference(nb::handle x_object, nb::handle gamma_object, nb::handle beta_object,
                    nb::handle mean_object, nb::handle var_object, nb::handle axis, nb::handle eps,
                    nb::handle residual_object, nb::handle activation, nb::handle out, bool save) {
  constexpr const char* function = "conditional_batch_norm_inference";
  ConditionalBatchNormInferenceArgs args;
  set_options(function, args, axis, eps, activation);
  args.keep_mask = save;
  const ForwardInputs in(function, x_object, gamma_object, beta_object, residual_object);
  const Array mean = Array::required(function, "mean", mean_object),
              var = Array::required(function, "var", var_object);
  const Array y = in.output(function, out, {{"mean", mean, false}, {"var", var, false}});
  in.give(args, y);
  args.mean = mean.tensor();
  args.var = var.tensor();
  ConditionalBatchNormSaved saved;
  {
    nb::gil_scoped_release release;
    saved = conditional_batch_norm_inference(args);
  }
  return nb::make_tuple(y.object(), new_norm_saved(std::move(saved), in.x, y));
}

// The vector of a row-major matrix, as that matrix.
Tensor matrix(const Tensor& vector, std::int64_t rows, std::int64_t columns) {
  Tensor m = vector;
  m.ndim = 2;
  m.shape[0] = rows;
  m.shape[1] = columns;
  m.strides[1] = size_of(vector.dtype);
  m.strides[0] = columns * m.strides[1];
  return m;
}

nb::tuple backward(nb::handle dy, nb::handle saved_object, nb::handle out) {
  constexpr const char* function = "conditional_batch_norm_backward";
  const auto& saved = to_norm_saved<ConditionalBatchNormSaved>(function, saved_object);
  const NormBackward arrays(function, dy, saved, out);
  const DType dtype = statistics_dtype(saved.core.x.dtype);
  const std::int64_t samples = saved.core.x.shape[0],
                     channels = saved.core.x.shape[saved.core.axis];
  const Array dmean = Array::vector(channels, dtype), dvar = Array::vector(channels, dtype);
  auto grads = arrays.grads<ConditionalBatchNormGrads>();
  grads.dgamma = matrix(arrays.dgamma.tensor(), samples, channels);
  grads.dbeta = matrix(arrays.dbeta.tensor(), samples, channels);
  grads.dmean = dmean.tensor();
  grads.dvar = dvar.tensor();
  {
    nb::gil_scoped_release release;
    conditional_batch_norm_backward(saved.core, grads);
  }
  const auto rows = [&](const Array& a) { return a.object().attr("reshape")(samples, channels); };
  return nb::make_tuple(arrays.dx.object(), rows(arrays.dgamma), rows(arrays.dbeta), dmean.object(),
                        dvar.object(), arrays.dresidual_object);
}

}  // namespace

void bind_conditional_batch_norm(nb::module_& m) {
  nb::class_<S> type(m, "ConditionalBatchNormSaved",
                     "What conditional_batch_norm leaves for its backward.");
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
        return "ConditionalBatchNormSaved(shape=" + shape_text(s.core.x) +
               ", axis=" + std::to_string(s.core.axis) + ", count=" + std::to_string(s.core.count) +
               (s.core.frozen ? ", frozen" : "") + (s.core.mask.empty() ? "" : ", relu") +
               (s.core.residual ? ", residual" : "") + (s.reason.empty() ? "" : ", x overwritten") +
               ")";
      });
  m.def("conditional_batch_norm", &forward, nb::arg("x").none(), nb::arg("gamma").none(),
        nb::arg("beta").none(), nb::arg("axis").none(), nb::arg("eps").none(),
        nb::arg("residual").none(), nb::arg("activation").none(), nb::arg("on_single").none(),
        nb::arg("out").none());
  m.def("conditional_batch_norm_inference", &inference, nb::arg("x").none(),
        nb::arg("gamma").none(), nb::arg("beta").none(), nb::arg("mean").none(),
        nb::arg("var").none(), nb::arg("axis").none(), nb::arg("eps").none(),
        nb::arg("residual").none(), nb::arg("activation").none(), nb::arg("out").none(),
        nb::arg("save"));
  m.def("conditional_batch_norm_backward", &backward, nb::arg("dy").none(), nb::arg("saved").none(),
        nb::arg("out").none());
}

}  // namespace bnpp::python
