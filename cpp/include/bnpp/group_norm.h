// Group normalization (Wu & He 2018, arXiv 1803.08494) and instance normalization (Ulyanov,
// Vedaldi & Lempitsky 2016, arXiv 1607.08022): the statistics of a sample's groups of channels, all
// positions together. Samples lie along axis 0, channels along `axis`, and a group is C / groups
// channels in a row. One channel a group is instance normalization, one group is layer
// normalization over all axes but the samples'.
//
// As in batch normalization, results do not depend on the number of threads, the instruction set or
// the alignment; sums are float64, so results are right at any mean.
#pragma once

#include <cstdint>
#include <vector>

#include "bnpp/batch_norm.h"
#include "bnpp/recycled.h"
#include "bnpp/tensor.h"

namespace bnpp {

/// What a forward leaves for its backward: statistics in float64, (N, groups) in row-major order,
/// one bit an element where there is a ReLU, and a view (not a copy) of x, which must still hold
/// its values then.
struct GroupNormSaved {
  ConstTensor x;
  int axis = 1;
  double eps = 0;
  std::int64_t groups = 1;
  std::int64_t count = 0;                                   // values a group, m
  ChannelVector mean, mean_low;                             // the mean is mean + mean_low
  ChannelVector var, inv_std;                               // biased variance; 1 / sqrt(var + eps)
  ChannelVector gamma;                                      // (C,); all ones where none was given
  std::vector<std::uint8_t, Recycling<std::uint8_t>> mask;  // z > 0, sample by sample
  ConstTensor weights;                    // those of the forward, not copied either; or not given
  ChannelVector weight, squared_weights;  // sum w and sum w^2 of each group; none without weights
  Activation activation = Activation::none;
  bool residual = false;  // a residual was added
};

/// y = act(gamma * (x - mean) / sqrt(var + eps) + beta + residual), with the mean and variance of
/// each channel of each sample. With weights w (masks of 0 and 1, or any that are finite and >= 0)
/// and W their sum over a group (here, a channel of a sample)
///   mean = sum w x / W,  var = sum w (x - mean)^2 / W,
/// where x counts nothing, not even as NaN, while w is 0. A group with W = 0 has inv_std 0, so that
/// y is beta; one with weight on a single value is refused as a single value is.
struct InstanceNormArgs {
  ConstTensor x;            // any dtype, 2 to 8 dimensions, any strides
  ConstTensor gamma, beta;  // (C,), any dtype; not given: 1 and 0
  ConstTensor residual;     // like x, or not given
  ConstTensor weights;      // broadcasts to x; float64 for float64 x, else float32; or not given
  Tensor y;                 // like x; x itself, residual itself, or apart from both
  int axis = 1;             // negative counts from the end; not 0
  double eps = 1e-5;
  Activation activation = Activation::none;
  OnSingle on_single = OnSingle::error;  // of one value a group
};
GroupNormSaved instance_norm(const InstanceNormArgs& args);

/// The same with the mean and variance of each group of channels of each sample.
struct GroupNormArgs : InstanceNormArgs {
  std::int64_t groups = 1;  // a divisor of C
};
GroupNormSaved group_norm(const GroupNormArgs& args);

/// The gradients of sum(dy * y). Vectors (C,) may be of any dtype, or not given. With m values a
/// group, and the sums without an index over a group of a sample:
///   g = dy * [z > 0];  dbeta_c = sum_n sum g;  dgamma_c = sum_n sum g * xh;
///   dx = inv_std * (gamma * g - sum(gamma * g) / m - xh * sum(gamma * g * xh) / m);
///   dresidual = g
/// With weights w / W takes the place of 1 / m, and the terms of dgamma where w = 0 and x is not
/// finite are left out.
struct GroupNormGrads {
  ConstTensor dy;        // like x
  Tensor dx;             // like x; dy itself, or apart from dy and x
  Tensor dgamma, dbeta;  // (C,)
  Tensor dresidual;      // like x; only with a residual
};
void group_norm_backward(const GroupNormSaved& saved, const GroupNormGrads& grads);
void instance_norm_backward(const GroupNormSaved& saved, const GroupNormGrads& grads);

}  // namespace bnpp
