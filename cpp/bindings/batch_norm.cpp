// batch_norm, batch_norm_inference, batch_renorm, their backwards, and what a forward saves for its
// backward.
#include "bnpp/batch_norm.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <string>
#include <utility>

#include "arrays.h"
#include "bnpp/batch_renorm.h"
#include "bnpp/error.h"
#include "norm_saved.h"
#include "norms/check.h"
#include "saved.h"

namespace bnpp::python {
namespace {

std::int64_t statistics_bytes(const BatchNormSaved& saved) {
  const auto vectors = {saved.mean.size(),   saved.mean_low.size(), saved.m2.size(),
                        saved.m2_low.size(), saved.var.size(),      saved.inv_std.size(),
                        saved.gamma.size(),  saved.beta.size(),     saved.r.size(),
                        saved.d.size(),      saved.weight.size(),   saved.squared_weights.size()};
  std::size_t values = 0;
  for (const std::size_t size : vectors) values += size;
  return static_cast<std::int64_t>(values * sizeof(double));
}

nb::object vector_of(const Saved& saved, const ChannelVector& values) {
  return constant_vector(values.data(), saved.channels(), saved.statistics());
}

// None where the norm has no such vector.
nb::object optional_vector(const Saved& saved, const ChannelVector& values) {
  const bool none = values.empty() && !saved.core.mean.empty();
  return none ? nb::object(nb::none()) : vector_of(saved, values);
}

nb::object new_saved(BatchNormSaved core, const Array& x, const Array& y,
                     const Array& weights = Array()) {
  if (core.y.given()) return nb::cast(Saved{std::move(core), y.object(), ""});
  const bool overwritten = same_view(x.tensor(), y.tensor()) && x.tensor().size() > 0;
  Saved saved{std::move(core), overwritten ? nb::object(nb::none()) : x.object(), ""};
  if (overwritten) {
    saved.reason = "x was overwritten by out=x, and a backward needs it: give out other memory";
  }
  if (weights.given()) saved.weights = weights.object();
  return nb::cast(std::move(saved));
}

nb::tuple forward(nb::handle x_object, nb::handle gamma_object, nb::handle beta_object,
                  nb::handle axis, nb::handle eps, nb::handle residual_object,
                  nb::handle activation, nb::handle on_single, nb::handle out, nb::handle keep,
                  nb::handle weights_object) {
  constexpr const char* function = "batch_norm";
  BatchNormArgs args;
  set_options(function, args, axis, eps, activation);
  constexpr int kInference = 2;
  const int single = to_choice(function, "on_single", on_single, {"error", "biased", "inference"});
  if (single == kInference) {
    Check(function).refuse(
        "on_single is 'inference', but that needs running statistics, which only "
        "bnpp.BatchNorm has");
  }
  args.on_single = static_cast<OnSingle>(single);
  args.keep = static_cast<Keep>(to_choice(function, "keep", keep, {"input", "output", "auto"}));
  const ForwardInputs in(function, x_object, gamma_object, beta_object, residual_object);
  const Array weights = Array::weights(function, weights_object, in.x);
  const Array y = in.output(function, out, {{"weights", weights, false}});
  in.give(args, y);
  args.weights = weights.tensor();
  BatchNormSaved saved;
  {
    nb::gil_scoped_release release;
    saved = batch_norm(args);
  }
  return nb::make_tuple(y.object(), new_saved(std::move(saved), in.x, y, weights));
}

nb::object inference(nb::handle x_object, nb::handle gamma_object, nb::handle beta_object,
                     nb::handle mean_object, nb::handle var_object, nb::handle axis, nb::handle eps,
                     nb::handle residual_object, nb::handle activation, nb::handle out, bool save) {
  constexpr const char* function = "batch_norm_inference";
  BatchNormInferenceArgs args;
  set_options(function, args, axis, eps, activation);
  args.keep_mask = save;
  const ForwardInputs in(function, x_object, gamma_object, beta_object, residual_object);
  const Array mean = Array::required(function, "mean", mean_object),
              var = Array::required(function, "var", var_object);
  const Array y = in.output(function, out, {{"mean", mean, false}, {"var", var, false}});
  in.give(args, y);
  args.mean = mean.tensor();
  args.var = var.tensor();
  BatchNormSaved saved;
  {
    nb::gil_scoped_release release;
    saved = batch_norm_inference(args);
  }
  if (!save) return y.object();
  return nb::make_tuple(y.object(), new_saved(std::move(saved), in.x, y));
}

nb::tuple renorm_forward(nb::handle x_object, nb::handle gamma_object, nb::handle beta_object,
                         nb::handle mean_object, nb::handle var_object, nb::handle r_max,
                         nb::handle d_max, nb::handle axis, nb::handle eps,
                         nb::handle residual_object, nb::handle activation, nb::handle on_single,
                         nb::handle out) {
  constexpr const char* function = "batch_renorm";
  BatchRenormArgs args;
  set_options(function, args, axis, eps, activation);
  args.r_max = to_double(function, "r_max", r_max);
  args.d_max = to_double(function, "d_max", d_max);
  args.on_single =
      static_cast<OnSingle>(to_choice(function, "on_single", on_single, {"error", "biased"}));
  const ForwardInputs in(function, x_object, gamma_object, beta_object, residual_object);
  const Array mean = Array::required(function, "running_mean", mean_object),
              var = Array::required(function, "running_var", var_object);
  const Array y =
      in.output(function, out, {{"running_mean", mean, false}, {"running_var", var, false}});
  in.give(args, y);
  args.running_mean = mean.tensor();
  args.running_var = var.tensor();
  BatchNormSaved saved;
  {
    nb::gil_scoped_release release;
    saved = batch_renorm(args);
  }
  return nb::make_tuple(y.object(), new_saved(std::move(saved), in.x, y));
}

/// The arrays of one backward call.
struct Backward {
  Array dy, x, weights, dx, dgamma, dbeta, dresidual;
  nb::object dresidual_object = nb::none();

  Backward(const char* function, nb::handle dy_object, const Saved& saved, nb::handle out)
      : dy(Array::required(function, "dy", dy_object)),
        x(saved.array(function)),
        weights(Array::input(function, "weights", saved.weights)),
        dx(out.is_none() ? Array::like(x) : Array::output(function, "out", out)),
        dgamma(Array::vector(saved.channels(), saved.statistics())),
        dbeta(Array::vector(saved.channels(), saved.statistics())),
        dresidual(needs_dresidual(saved, out) ? Array::like(x) : Array()) {
    if (weights.given() && !same_view(weights.tensor(), saved.core.weights)) {
      Check(function).refuse(
          "saved refers to weights that were resized or moved since the forward call");
    }
    if (!out.is_none()) {
      Check(function).like(x.tensor(), dx.tensor(), "out");
      check_overlap(
          function, dx,
          {{"dy", dy, true}, {saved.kept_name(), x, false}, {"saved's weights", weights, false}});
    }
    if (saved.core.residual)
      dresidual_object = dresidual.given() ? dresidual.object() : dy.object();
  }

  // Without ReLU the residual's gradient is dy itself, unless dx is about to be written there.
  static bool needs_dresidual(const Saved& saved, nb::handle out) {
    return saved.core.residual && (saved.core.activation == Activation::relu || !out.is_none());
  }

  BatchNormGrads grads() const {
    BatchNormGrads g;
    g.dy = dy.tensor();
    g.dx = dx.tensor();
    g.dgamma = dgamma.tensor();
    g.dbeta = dbeta.tensor();
    g.dresidual = dresidual.tensor();
    return g;
  }
};

nb::tuple backward(nb::handle dy, nb::handle saved_object, nb::handle dmean_object,
                   nb::handle dvar_object, nb::handle out) {
  constexpr const char* function = "batch_norm_backward";
  const Saved& saved = to_saved(function, saved_object);
  const Backward arrays(function, dy, saved, out);
  const Array dmean = Array::input(function, "dmean", dmean_object),
              dvar = Array::input(function, "dvar", dvar_object);
  if (!out.is_none()) {
    check_overlap(function, arrays.dx, {{"dmean", dmean, false}, {"dvar", dvar, false}});
  }
  BatchNormGrads grads = arrays.grads();
  grads.mean_grad = dmean.tensor();
  grads.var_grad = dvar.tensor();
  {
    nb::gil_scoped_release release;
    batch_norm_backward(saved.core, grads);
  }
  return nb::make_tuple(arrays.dx.object(), arrays.dgamma.object(), arrays.dbeta.object(),
                        arrays.dresidual_object);
}

nb::tuple inference_backward(nb::handle dy, nb::handle saved_object, nb::handle out) {
  const Saved& saved = to_saved("batch_norm_inference_backward", saved_object);
  const Backward arrays("batch_norm_inference_backward", dy, saved, out);
  const Array dmean = Array::vector(saved.channels(), saved.statistics()),
              dvar = Array::vector(saved.channels(), saved.statistics());
  BatchNormGrads grads = arrays.grads();
  grads.dmean = dmean.tensor();
  grads.dvar = dvar.tensor();
  {
    nb::gil_scoped_release release;
    batch_norm_inference_backward(saved.core, grads);
  }
  return nb::make_tuple(arrays.dx.object(), arrays.dgamma.object(), arrays.dbeta.object(),
                        dmean.object(), dvar.object(), arrays.dresidual_object);
}

nb::tuple renorm_backward(nb::handle dy, nb::handle saved_object, nb::handle out) {
  const Saved& saved = to_saved("batch_renorm_backward", saved_object);
  const Backward arrays("batch_renorm_backward", dy, saved, out);
  const BatchNormGrads grads = arrays.grads();
  {
    nb::gil_scoped_release release;
    batch_renorm_backward(saved.core, grads);
  }
  return nb::make_tuple(arrays.dx.object(), arrays.dgamma.object(), arrays.dbeta.object(),
                        arrays.dresidual_object);
}

}  // namespace

Array Saved::array(const char* function) const {
  Array array = Array::input(function, "x", kept);
  if (!same_view(array.tensor(), keeps_output() ? core.y : core.x)) {
    Check(function).refuse("saved refers to ", keeps_output() ? "a y" : "an x",
                           " that was resized or moved since the forward call");
  }
  return array;
}

const Saved& to_saved(const char* function, nb::handle object) {
  const Saved* saved = nullptr;
  if (!nb::try_cast(object, saved) || saved == nullptr) {
    Check(function).refuse<TypeError>("saved is of type ", type_of(object),
                                      ", but it needs to be what the forward call returned");
  }
  if (!saved->reason.empty()) Check(function).refuse(saved->reason);
  return *saved;
}

void bind_batch_norm(nb::module_& m) {
  nb::class_<Saved>(m, "Saved", "What a forward call leaves for its backward.")
      .def_prop_ro(
          "mean", [](const Saved& s) { return vector_of(s, s.core.mean); },
          "Mean of each channel, read-only, in the statistics dtype.")
      .def_prop_ro(
          "var", [](const Saved& s) { return vector_of(s, s.core.var); },
          "Biased variance of each channel, read-only, in the statistics dtype.")
      .def_prop_ro(
          "inv_std", [](const Saved& s) { return vector_of(s, s.core.inv_std); },
          "1 / sqrt(var + eps) of each channel, read-only, in the statistics dtype.")
      .def_prop_ro(
          "r", [](const Saved& s) { return optional_vector(s, s.core.r); },
          "The factor by which batch_renorm corrected each channel, or None.")
      .def_prop_ro(
          "d", [](const Saved& s) { return optional_vector(s, s.core.d); },
          "The shift by which batch_renorm corrected each channel, or None.")
      .def_prop_ro(
          "count", [](const Saved& s) { return s.core.count; }, "Values a channel, m.")
      .def_prop_ro(
          "weight",
          [](const Saved& s) {
            return s.core.weights.given()
                       ? constant_vector(s.core.weight.data(), s.channels(), DType::float64)
                       : nb::object(nb::none());
          },
          "Sum of the weights of each channel, read-only, float64; None without weights.")
      .def_prop_ro(
          "shape", [](const Saved& s) { return shape_of(s.core.x); }, "The shape of x.")
      .def_prop_ro(
          "axis", [](const Saved& s) { return s.core.axis; }, "The channel axis, from 0.")
      .def_prop_ro(
          "eps", [](const Saved& s) { return s.core.eps; }, "The eps of the call.")
      .def_prop_ro(
          "frozen", [](const Saved& s) { return s.core.frozen; },
          "Whether the statistics were given: constants of the backward.")
      .def_prop_ro(
          "keeps", [](const Saved& s) { return s.keeps_output() ? "output" : "input"; },
          "What it refers to: 'input' for x, 'output' for y.")
      .def_prop_ro(
          "reason",
          [](const Saved& s) { return s.reason.empty() ? std::nullopt : std::optional(s.reason); },
          "Why it cannot serve a backward, or None.")
      .def_prop_ro(
          "mask_nbytes", [](const Saved& s) { return s.mask_bytes(); },
          "Bytes of the ReLU mask, one bit an element.")
      .def_prop_ro(
          "nbytes", [](const Saved& s) { return statistics_bytes(s.core) + s.mask_bytes(); },
          "Bytes it holds itself; x or y is only referred to.")
      .def(
          "_moments", [](const Saved& s) { return to_tuple(s.core.moments()); },
          "(count, mean, mean_low, m2, m2_low, squared_weights) of the batch, float64.")
      .def("__repr__", [](const Saved& s) {
        return "Saved(shape=" + std::string(nb::repr(shape_of(s.core.x)).c_str()) +
               ", axis=" + std::to_string(s.core.axis) + ", count=" + std::to_string(s.core.count) +
               (s.core.frozen ? ", frozen" : "") + (s.core.mask.empty() ? "" : ", relu") +
               (s.core.residual ? ", residual" : "") + (s.keeps_output() ? ", of y" : "") +
               (s.core.weights.given() ? ", weights" : "") +
               (s.reason.empty() ? "" : ", x overwritten") + ")";
      });
  // Every argument may be None as far as nanobind is concerned: the refusals are ours.
  m.def("batch_norm", &forward, nb::arg("x").none(), nb::arg("gamma").none(),
        nb::arg("beta").none(), nb::arg("axis").none(), nb::arg("eps").none(),
        nb::arg("residual").none(), nb::arg("activation").none(), nb::arg("on_single").none(),
        nb::arg("out").none(), nb::arg("keep").none(), nb::arg("weights").none());
  m.def("batch_norm_backward", &backward, nb::arg("dy").none(), nb::arg("saved").none(),
        nb::arg("dmean").none(), nb::arg("dvar").none(), nb::arg("out").none());
  m.def("batch_norm_inference", &inference, nb::arg("x").none(), nb::arg("gamma").none(),
        nb::arg("beta").none(), nb::arg("mean").none(), nb::arg("var").none(),
        nb::arg("axis").none(), nb::arg("eps").none(), nb::arg("residual").none(),
        nb::arg("activation").none(), nb::arg("out").none(), nb::arg("save"));
  m.def("batch_norm_inference_backward", &inference_backward, nb::arg("dy").none(),
        nb::arg("saved").none(), nb::arg("out").none());
  m.def("batch_renorm", &renorm_forward, nb::arg("x").none(), nb::arg("gamma").none(),
        nb::arg("beta").none(), nb::arg("running_mean").none(), nb::arg("running_var").none(),
        nb::arg("r_max").none(), nb::arg("d_max").none(), nb::arg("axis").none(),
        nb::arg("eps").none(), nb::arg("residual").none(), nb::arg("activation").none(),
        nb::arg("on_single").none(), nb::arg("out").none());
  m.def("batch_renorm_backward", &renorm_backward, nb::arg("dy").none(), nb::arg("saved").none(),
        nb::arg("out").none());
}

}  // namespace bnpp::python
