// batch_norm_jvp and batch_norm_double_backward.
#include "bnpp/derivatives.h"

#include <nanobind/nanobind.h>

#include "arrays.h"
#include "norms/check.h"
#include "saved.h"

namespace bnpp::python {
namespace {

nb::tuple jvp(nb::handle saved_object, nb::handle x_dot_object, nb::handle gamma_dot_object,
              nb::handle beta_dot_object, nb::handle mean_dot_object, nb::handle var_dot_object,
              nb::handle residual_dot_object, nb::handle out) {
  constexpr const char* function = "batch_norm_jvp";
  const Saved& saved = to_saved(function, saved_object);
  const Array kept = saved.array(function);
  const Array x_dot = Array::input(function, "x_dot", x_dot_object),
              gamma_dot = Array::input(function, "gamma_dot", gamma_dot_object),
              beta_dot = Array::input(function, "beta_dot", beta_dot_object),
              mean_dot = Array::input(function, "mean_dot", mean_dot_object),
              var_dot = Array::input(function, "var_dot", var_dot_object),
              residual_dot = Array::input(function, "residual_dot", residual_dot_object);
  const Array y_dot = out.is_none() ? Array::like(kept) : Array::output(function, "out", out);
  if (!out.is_none()) {
    Check(function).like(kept.tensor(), y_dot.tensor(), "out");
    check_overlap(function, y_dot,
                  {{"x_dot", x_dot, true},
                   {"residual_dot", residual_dot, true},
                   {"gamma_dot", gamma_dot, false},
                   {"beta_dot", beta_dot, false},
                   {"mean_dot", mean_dot, false},
                   {"var_dot", var_dot, false},
                   {saved.kept_name(), kept, false}});
  }
  const Array out_mean_dot = Array::vector(saved.channels(), saved.statistics()),
              out_var_dot = Array::vector(saved.channels(), saved.statistics());
  BatchNormTangents tangents;
  tangents.x_dot = x_dot.tensor();
  tangents.residual_dot = residual_dot.tensor();
  tangents.gamma_dot = gamma_dot.tensor();
  tangents.beta_dot = beta_dot.tensor();
  tangents.mean_dot = mean_dot.tensor();
  tangents.var_dot = var_dot.tensor();
  tangents.y_dot = y_dot.tensor();
  tangents.out_mean_dot = out_mean_dot.tensor();
  tangents.out_var_dot = out_var_dot.tensor();
  {
    nb::gil_scoped_release release;
    batch_norm_jvp(saved.core, tangents);
  }
  return nb::make_tuple(y_dot.object(), out_mean_dot.object(), out_var_dot.object());
}

nb::tuple double_backward(nb::handle saved_object, nb::handle dy_object, nb::handle ddx_object,
                          nb::handle ddgamma_object, nb::handle ddbeta_object,
                          nb::handle ddmean_object, nb::handle ddvar_object,
                          nb::handle ddresidual_object, nb::handle dvar_object) {
  constexpr const char* function = "batch_norm_double_backward";
  const Saved& saved = to_saved(function, saved_object);
  const Array kept = saved.array(function);
  const Array dy = Array::required(function, "dy", dy_object),
              ddx = Array::input(function, "ddx", ddx_object),
              ddgamma = Array::input(function, "ddgamma", ddgamma_object),
              ddbeta = Array::input(function, "ddbeta", ddbeta_object),
              ddmean = Array::input(function, "ddmean", ddmean_object),
              ddvar = Array::input(function, "ddvar", ddvar_object),
              ddresidual = Array::input(function, "ddresidual", ddresidual_object),
              dvar = Array::input(function, "dvar", dvar_object);
  const auto vector = [&](bool wanted) {
    return wanted ? Array::vector(saved.channels(), saved.statistics()) : Array();
  };
  const auto object = [](const Array& array) {
    return array.given() ? array.object() : nb::object(nb::none());
  };
  const Array d_dy = Array::like(kept), d_x = Array::like(kept), d_gamma = vector(true),
              d_mean = vector(saved.core.frozen), d_var = vector(saved.core.frozen);
  BatchNormDoubleGrads grads;
  grads.dy = dy.tensor();
  grads.ddx = ddx.tensor();
  grads.ddresidual = ddresidual.tensor();
  grads.ddgamma = ddgamma.tensor();
  grads.ddbeta = ddbeta.tensor();
  grads.var_grad = dvar.tensor();
  grads.ddmean = ddmean.tensor();
  grads.ddvar = ddvar.tensor();
  grads.d_dy = d_dy.tensor();
  grads.d_x = d_x.tensor();
  grads.d_gamma = d_gamma.tensor();
  grads.d_mean = d_mean.tensor();
  grads.d_var = d_var.tensor();
  {
    nb::gil_scoped_release release;
    batch_norm_double_backward(saved.core, grads);
  }
  return nb::make_tuple(d_dy.object(), d_x.object(), d_gamma.object(), object(d_mean),
                        object(d_var));
}

}  // namespace

void bind_derivatives(nb::module_& m) {
  m.def("batch_norm_jvp", &jvp, nb::arg("saved").none(), nb::arg("x_dot").none(),
        nb::arg("gamma_dot").none(), nb::arg("beta_dot").none(), nb::arg("mean_dot").none(),
        nb::arg("var_dot").none(), nb::arg("residual_dot").none(), nb::arg("out").none());
  m.def("batch_norm_double_backward", &double_backward, nb::arg("saved").none(),
        nb::arg("dy").none(), nb::arg("ddx").none(), nb::arg("ddgamma").none(),
        nb::arg("ddbeta").none(), nb::arg("ddmean").none(), nb::arg("ddvar").none(),
        nb::arg("ddresidual").none(), nb::arg("dvar").none());
}

}  // namespace bnpp::python
