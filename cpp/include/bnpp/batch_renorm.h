// Batch renormalization (Ioffe 2017, arXiv 1702.03275): training with the batch's statistics,
// corrected towards the running ones, so that training and inference compute nearly the same:
//   r = clip(s_B / s, 1 / r_max, r_max);  d = clip((mean_B - running_mean) / s, -d_max, d_max);
//   y = act(gamma * (xh * r + d) + beta + residual),
// with xh = (x - mean_B) / s_B, s_B = sqrt(var_B + eps) and s = sqrt(running_var + eps). Where both
// s are 0 there is nothing to correct: r = 1, and d = 0 if the means are equal too.
#pragma once

#include "bnpp/batch_norm.h"

namespace bnpp {

struct BatchRenormArgs : BatchNormArgs {
  ConstTensor running_mean, running_var;  // (C,), any dtype
  double r_max = 1, d_max = 0;            // at least 1 and 0; with these it is batch_norm
};
BatchNormSaved batch_renorm(const BatchRenormArgs& args);

/// r and d are constants of the backward (section 3 of the paper):
///   dbeta = sum g;  dgamma = sum g * (xh * r + d);
///   dx = gamma * r * inv_std * (g - sum g / m - xh * (sum g * xh) / m);  dresidual = g
void batch_renorm_backward(const BatchNormSaved& saved, const BatchNormGrads& grads);

}  // namespace bnpp
