// Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167): training forward and backward
// (Algorithm 1, section 3.2 for feature maps), inference with given statistics (Algorithm 2) and
// its backward. Channels lie along `axis`; all other axes are reduced over.
//
// Results do not depend on the number of threads, the instruction set or the alignment, and are
// right at any mean: sums are float64, and so is all but the maps of float32 tensors (see
// docs/numerics.md).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bnpp/moments.h"
#include "bnpp/recycled.h"
#include "bnpp/tensor.h"

namespace bnpp {

enum class Activation : std::uint8_t { none, relu };

/// What to do with one value a channel in training: refuse, or use its variance, 0.
enum class OnSingle : std::uint8_t { error, biased };

/// What the backward reads beside dy: x, or y, from which xh = (y - beta) / gamma (Rota Bulo et al.
/// 2018, arXiv 1712.02616), so that x's memory is free. That needs no activation, no residual and
/// |beta| + s <= 3 * |gamma| in every channel, s the smallest normal number of y's dtype: with y's
/// unit roundoff u, the rounding of y is then an error of at most u * (|xh| + 3) in xh.
enum class Keep : std::uint8_t {
  input,
  output,     // refused where it cannot be
  automatic,  // y where it can be, else x
};

/// What a forward leaves for its backward: statistics in float64, one bit an element where there is
/// a ReLU, and a view (not a copy) of x or y, which must still hold its values then.
struct BatchNormSaved {
  ConstTensor x;       // where y was kept only its shape counts
  ConstTensor y;       // given where y was kept
  ChannelVector beta;  // the same; else empty
  int axis = 1;
  double eps = 0;
  std::int64_t count = 0;        // values a channel, m
  ChannelVector mean, mean_low;  // the mean is mean + mean_low
  ChannelVector m2, m2_low;      // sum of (x - mean)^2, m2 + m2_low; none if frozen
  ChannelVector var, inv_std;    // biased variance; 1 / sqrt(var + eps)
  ChannelVector gamma;           // all ones where none was given; of batch_renorm gamma * r
  ChannelVector r, d;            // of batch_renorm, else empty
  std::vector<std::uint8_t, Recycling<std::uint8_t>> mask;  // z > 0, in x's own memory order
  ConstTensor weights;                    // those of the forward, not copied either; or not given
  ChannelVector weight, squared_weights;  // sum w and sum w^2; none without weights
  Activation activation = Activation::none;
  bool residual = false;  // a residual was added
  bool frozen = false;    // the statistics were given: constants of the backward

  /// The batch's moments, to be merged with those of others. Throws ValueError if frozen.
  std::vector<ChannelMoments> moments() const;
};

/// y = act(gamma * (x - mean) * inv_std + beta + residual), with the statistics of x itself. With
/// weights w (masks of 0 and 1, or any that are finite and >= 0) and W = sum w of a channel
///   mean = sum w x / W,  var = sum w (x - mean)^2 / W,
/// where x counts nothing, not even as NaN, while w is 0. A channel with W = 0 has inv_std 0, so
/// that y is beta; one with weight on a single value is refused as a single value is.
struct BatchNormArgs {
  ConstTensor x;            // any dtype, 2 to 8 dimensions, any strides
  ConstTensor gamma, beta;  // (C,), any dtype; not given: 1 and 0
  ConstTensor residual;     // like x, or not given
  ConstTensor weights;      // broadcasts to x; float64 for float64 x, else float32; or not given
  Tensor y;                 // like x; x itself, residual itself, or apart from both
  int axis = 1;             // negative counts from the end
  double eps = 1e-5;
  Activation activation = Activation::none;
  OnSingle on_single = OnSingle::error;
  Keep keep = Keep::input;
};
BatchNormSaved batch_norm(const BatchNormArgs& args);

/// The gradients of sum(dy * y). Vectors (C,) may be of any dtype, or not given.
///   g = dy * [z > 0];  dbeta = sum g;  dgamma = sum g * xh;
///   dx = gamma * inv_std * (g - dbeta / m - xh * dgamma / m);  dresidual = g
/// and of a loss that uses the batch's mean and biased variance, too:
///   dx += mean_grad / m + 2 * var_grad * (x - mean) / m
/// With weights w / W takes the place of 1 / m, and the terms of dgamma where w = 0 and x is not
/// finite are left out.
struct BatchNormGrads {
  ConstTensor dy;                   // like x
  Tensor dx;                        // like x; dy itself, or apart from dy and x
  Tensor dgamma, dbeta;             // (C,)
  Tensor dresidual;                 // like x; only with a residual
  Tensor dmean, dvar;               // (C,), only of batch_norm_inference_backward
  ConstTensor mean_grad, var_grad;  // (C,), only of batch_norm_backward; not given: 0
};
void batch_norm_backward(const BatchNormSaved& saved, const BatchNormGrads& grads);

/// y = act(gamma * (x - mean) / sqrt(var + eps) + beta + residual), with given statistics.
struct BatchNormInferenceArgs {
  ConstTensor x, gamma, beta;
  ConstTensor mean, var;  // (C,), any dtype
  ConstTensor residual;
  Tensor y;
  int axis = 1;
  double eps = 1e-5;
  Activation activation = Activation::none;
  bool keep_mask = false;  // fill the saved ReLU bits, for a backward
};
BatchNormSaved batch_norm_inference(const BatchNormInferenceArgs& args);

///   dx = gamma * inv_std * g;  dgamma = sum g * xh;  dbeta = sum g;
///   dmean = -gamma * inv_std * dbeta;  dvar = -1/2 * gamma * inv_std^2 * dgamma
void batch_norm_inference_backward(const BatchNormSaved& saved, const BatchNormGrads& grads);

}  // namespace bnpp
