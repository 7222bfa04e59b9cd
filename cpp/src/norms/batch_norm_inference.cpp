// Batch normalization with given statistics (Ioffe & Szegedy 2015, Algorithm 2), and its backward,
// in which the statistics are constants with gradients of their own:
//   affine
//   grad_sums -> dbeta, dgamma, dmean, dvar -> grad_input
#include <utility>

#include "bnpp/batch_norm.h"
#include "norms/check.h"
#include "norms/gradients.h"
#include "norms/normalize.h"
#include "norms/saved.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {

BatchNormSaved batch_norm_inference(const BatchNormInferenceArgs& args) {
  const Check check("batch_norm_inference");
  const ConstTensor& x = args.x;
  const int axis = check.axis_of(x, args.axis);
  check.eps(args.eps);
  check.like(x, args.y, "y");
  if (args.residual.given()) check.like(x, args.residual, "residual");
  std::vector<double> gamma = check.vector(args.gamma, x, axis, "gamma", 1);
  const std::vector<double> beta = check.vector(args.beta, x, axis, "beta", 0);
  if (!args.mean.given()) check.refuse("mean is not given, but it needs one value a channel");
  if (!args.var.given()) check.refuse("var is not given, but it needs one value a channel");
  std::vector<double> mean = check.vector(args.mean, x, axis, "mean", 0);
  std::vector<double> var = check.vector(args.var, x, axis, "var", 1);
  for (std::size_t c = 0; c < var.size(); ++c) {
    if (var[c] < 0) check.refuse("var[", c, "] is ", var[c], ", but variances need to be >= 0");
  }

  const Plan plan(x, axis);
  BatchNormSaved saved = new_saved(x, plan, args.eps, std::move(gamma));
  saved.frozen = true;
  saved.activation = args.activation;
  saved.residual = args.residual.given();
  saved.mean = std::move(mean);
  saved.var = std::move(var);
  if (args.activation == Activation::relu && args.keep_mask) add_mask(saved, plan);

  const int threads = threads_for(2 * x.size() * size_of(x.dtype));
  Normalize normalize(plan, args.residual, args.activation, args.y, threads);
  for (std::size_t c = 0; c < saved.var.size(); ++c) {
    saved.inv_std[c] = inv_std_of(saved.var[c], args.eps);
    normalize.set_channel(static_cast<std::int64_t>(c), saved, beta[c]);
  }
  if (plan.count == 0) return saved;

  const Verbs& kernel = verbs(x.dtype, plan.layout);
  const Operand input(x, plan, threads);
  map_all(plan, threads, [&](const Tile& tile, int worker) {
    normalize.apply(kernel, input, saved.mask.get(), tile, worker);
  });
  return saved;
}

void batch_norm_inference_backward(const BatchNormSaved& saved, const BatchNormGrads& grads) {
  const Check check("batch_norm_inference_backward");
  if (!saved.frozen) {
    check.refuse("saved comes from batch_norm, whose backward is batch_norm_backward");
  }
  check_backward(check, saved, grads);

  const std::size_t channels = saved.mean.size();
  std::vector<double> dgamma(channels), dbeta(channels), dmean(channels), dvar(channels);
  backward_pass(saved, grads, [&](std::size_t c, GradSums sum) {
    const double inv_std = saved.inv_std[c], scale = saved.gamma[c] * inv_std;
    dbeta[c] = sum.g;
    dgamma[c] = sum.gx * inv_std;
    dmean[c] = -scale * dbeta[c];
    dvar[c] = -0.5 * scale * inv_std * dgamma[c];
    return InputCoefficients{scale};
  });
  write_vector(grads.dgamma, dgamma);
  write_vector(grads.dbeta, dbeta);
  write_vector(grads.dmean, dmean);
  write_vector(grads.dvar, dvar);
}

}  // namespace bnpp
