// Conditional batch normalization (Dumoulin, Shlens & Kudlur 2017, arXiv 1610.07629; de Vries et
// al. 2017, arXiv 1707.00683): the statistics of the batch, the scale and shift of each sample,
//   y = act(gamma[n, c] * (x - mean[c]) / sqrt(var[c] + eps) + beta[n, c] + residual),
// with samples along axis 0 and channels along `axis`, which is another one.
#pragma once

#include "bnpp/batch_norm.h"

namespace bnpp {

/// As BatchNormSaved, but gamma is (N, C) in row-major order, and the ReLU bits come sample by
/// sample.
struct ConditionalBatchNormSaved : BatchNormSaved {};

/// As BatchNormArgs, but gamma and beta are (N, C).
struct ConditionalBatchNormArgs : BatchNormArgs {};
ConditionalBatchNormSaved conditional_batch_norm(const ConditionalBatchNormArgs& args);

/// The same with given statistics.
struct ConditionalBatchNormInferenceArgs : BatchNormInferenceArgs {};
ConditionalBatchNormSaved conditional_batch_norm_inference(
    const ConditionalBatchNormInferenceArgs& args);

/// As BatchNormGrads, but dgamma and dbeta are (N, C). The backward of both:
///   g = dy * [z > 0];  dbeta[n, c] = sum_n g;  dgamma[n, c] = sum_n g * xh;
/// with h = gamma[n, c] * g and sums over the whole batch,
///   dx = inv_std * (h - sum h / m - xh * sum(h * xh) / m);  dresidual = g;
/// and with given statistics
///   dx = inv_std * h;  dmean = -inv_std * sum h;  dvar = -1/2 * inv_std^2 * sum h * xh.
struct ConditionalBatchNormGrads : BatchNormGrads {};
void conditional_batch_norm_backward(const ConditionalBatchNormSaved& saved,
                                     const ConditionalBatchNormGrads& grads);

}  // namespace bnpp
