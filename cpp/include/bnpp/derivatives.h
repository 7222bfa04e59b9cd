// More derivatives of batch normalization: the forward derivative (Jacobian times vector) and the
// backward of the backward, both from what a forward left. They compute as the backward does: in
// float64, rounded once, the same bits for every number of threads and instruction set.
#pragma once

#include "bnpp/batch_norm.h"
#include "bnpp/tensor.h"

namespace bnpp {

/// Tangents of the inputs (dots: derivatives along one direction; not given: zeros), and where to
/// put those of the outputs. With <.> the mean over a channel and xh = (x - mean) * inv_std:
///   y_dot = bit * (gamma * inv_std * (x_dot - <x_dot> - xh * <xh * x_dot>)
///                  + gamma_dot * xh + beta_dot + residual_dot)
///   mean_dot = <x_dot>;  var_dot = 2 * <(x - mean) * x_dot>
/// and with given statistics, whose tangents are inputs:
///   y_dot = bit * (gamma * inv_std * (x_dot - mean_dot - (x - mean) * inv_std^2 * var_dot / 2) +
///   ..)
/// bit is [z > 0] where the forward had a ReLU. Where var = eps = 0 the derivative of inv_std is 0.
struct BatchNormTangents {
  ConstTensor x_dot, residual_dot;   // like x; a residual_dot only with a residual
  ConstTensor gamma_dot, beta_dot;   // (C,), any dtype
  ConstTensor mean_dot, var_dot;     // (C,), any dtype; only with given statistics
  Tensor y_dot;                      // like x; x_dot or residual_dot itself, or apart from all
  Tensor out_mean_dot, out_var_dot;  // (C,), or not given: tangents of the statistics used
};
void batch_norm_jvp(const BatchNormSaved& saved, const BatchNormTangents& tangents);

/// The gradients of a loss of the backward's results, whose gradients arrive as ddx and so on:
///   L = <ddx, dx> + <ddgamma, dgamma> + <ddbeta, dbeta> + <ddresidual, dresidual>
///       (+ <ddmean, dmean> + <ddvar, dvar> of batch_norm_inference_backward)
/// L is linear in dy, so d_dy is batch_norm_jvp of the dd's. With v = ddx, p = ddgamma, g = dy *
/// bit, r = inv_std, A = <v * xh> and B = <g * xh>, sums over a channel:
///   S = sum g * v - m * <g> * <v> - m * A * B;  d_gamma = r * S
///   w = (p - gamma * r * A) * g - gamma * r * B * v
///   d_x = r * (w - <w> - xh * <w * xh>) - gamma * r^2 * xh * S / m + 2 * var_grad * (v - <v>) / m
/// and with given statistics, where W = p - gamma * r^2 * ddvar / 2:
///   d_x = r * W * g;  d_mean = -sum d_x
///   d_gamma = r * (sum g * v - r / 2 * ddvar * sum g * xh - ddmean * sum g)
///   d_var = -r^2 / 2 * (gamma * d_gamma + W * sum g * xh - gamma * r^2 / 2 * ddvar * sum g * xh)
struct BatchNormDoubleGrads {
  ConstTensor dy;                 // like x: what the backward was given
  ConstTensor ddx, ddresidual;    // like x; not given: zeros
  ConstTensor ddgamma, ddbeta;    // (C,), any dtype; not given: zeros
  ConstTensor var_grad;           // as batch_norm_backward was given it; not given: zeros
  ConstTensor ddmean, ddvar;      // the same, only with given statistics
  Tensor d_dy, d_x;               // like x, apart from each other and from all inputs
  Tensor d_gamma, d_mean, d_var;  // (C,), or not given; d_mean and d_var with given statistics
};
void batch_norm_double_backward(const BatchNormSaved& saved, const BatchNormDoubleGrads& grads);

}  // namespace bnpp
