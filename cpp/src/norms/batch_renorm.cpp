// Batch renormalization is batch normalization with gamma * r and gamma * d + beta in place of
// gamma and beta, which are known once the moments are.
#include "bnpp/batch_renorm.h"

#include <algorithm>
#include <cmath>

#include "norms/check.h"
#include "norms/gradients.h"
#include "norms/training.h"

namespace bnpp {
namespace {

// a / b within [low, high]. 0 / 0 is `none`, and a NaN stays one.
double clipped_ratio(double a, double b, double low, double high, double none) {
  return a == 0 && b == 0 ? none : std::clamp(a / b, low, high);
}

}  // namespace

BatchNormSaved batch_renorm(const BatchRenormArgs& args) {
  const Check check("batch_renorm");
  const ConstTensor& x = args.x;
  const int axis = check.axis_of(x, args.axis);
  if (args.keep != Keep::input) check.refuse("keep is not input, but its backward needs x");
  if (args.weights.given()) check.refuse("weights are given, but it takes none");
  if (!(args.r_max >= 1)) check.refuse("r_max is ", args.r_max, ", but it needs to be >= 1");
  if (!(args.d_max >= 0)) check.refuse("d_max is ", args.d_max, ", but it needs to be >= 0");
  if (!args.running_mean.given()) {
    check.refuse("running_mean is not given, but it needs one value a channel");
  }
  if (!args.running_var.given()) {
    check.refuse("running_var is not given, but it needs one value a channel");
  }
  const ChannelVector mean = check.vector(args.running_mean, x, axis, "running_mean", 0);
  const ChannelVector var = check.vector(args.running_var, x, axis, "running_var", 1);
  for (std::size_t c = 0; c < var.size(); ++c) {
    if (var[c] < 0) {
      check.refuse("running_var[", c, "] is ", var[c], ", but variances need to be >= 0");
    }
  }

  ChannelVector r(mean.size(), 1), d(mean.size(), 0);
  BatchNormSaved saved = training_forward(
      check, args,
      [&](BatchNormSaved& batch, ChannelVector& beta, std::int64_t begin, std::int64_t end) {
        for (auto c = static_cast<std::size_t>(begin); c < static_cast<std::size_t>(end); ++c) {
          const double std = std::sqrt(var[c] + args.eps);
          const double away = (batch.mean[c] - mean[c]) + batch.mean_low[c];
          r[c] =
              clipped_ratio(std::sqrt(batch.var[c] + args.eps), std, 1 / args.r_max, args.r_max, 1);
          d[c] = clipped_ratio(away, std, -args.d_max, args.d_max, 0);
          if (d[c] != 0) beta[c] += batch.gamma[c] * d[c];  // 0 times Inf must not make a NaN
          batch.gamma[c] *= r[c];
        }
      });
  saved.r = std::move(r);
  saved.d = std::move(d);
  return saved;
}

void batch_renorm_backward(const BatchNormSaved& saved, const BatchNormGrads& grads) {
  const Check check("batch_renorm_backward");
  if (saved.r.empty() && !saved.mean.empty()) {
    check.refuse("saved comes from ", saved.frozen ? "batch_norm_inference" : "batch_norm",
                 ", but it needs to come from batch_renorm");
  }
  check_backward(check, saved, grads);
  // Of gamma * r and gamma * d + beta, in float64.
  const auto channels = static_cast<std::int64_t>(saved.gamma.size());
  ChannelVector dgamma(saved.gamma.size(), 0), dbeta(saved.gamma.size(), 0);
  BatchNormGrads wide = grads;
  wide.dgamma = dense(dgamma.data(), {channels});
  wide.dbeta = dense(dbeta.data(), {channels});
  training_backward(check, saved, wide);
  for (std::size_t c = 0; c < dgamma.size(); ++c) {
    dgamma[c] *= saved.r[c];
    if (saved.d[c] != 0) dgamma[c] += saved.d[c] * dbeta[c];
  }
  write_vector(grads.dgamma, dgamma.data());
  write_vector(grads.dbeta, dbeta.data());
}

}  // namespace bnpp
