// Layer normalization (Ba, Kiros & Hinton 2016, arXiv 1607.06450) and root mean square
// normalization (Zhang & Sennrich 2019, arXiv 1910.07467), forward and backward. Each sample is
// normalized over its features, those along `axes`; gamma and beta belong to the features.
//
// Values may have weights w >= 0, such as a mask of zeros and ones: with W = sum w over a sample,
//   mean = sum w x / W,  var = sum w (x - mean)^2 / W  (rms_norm: sum w x^2 / W)
// A value of weight 0 never touches the statistics, whatever it is; the map to y is that of all. A
// sample with W = 0 has inv_std = 0: its y is beta, and its dx 0.
//
// Results do not depend on the number of threads, the instruction set or the alignment. Everything
// is computed in float64 and rounded once, so y is right at any mean.
#pragma once

#include <cstdint>
#include <vector>

#include "bnpp/tensor.h"

namespace bnpp {

/// What a forward leaves for its backward: statistics in float64 and a view (not a copy) of x,
/// which must still hold its values then. Vectors are in the order of x's memory, see
/// write_statistics.
struct LayerNormSaved {
  ConstTensor x, weights;  // weights: not given, or a view that must hold its values as well
  std::vector<int> axes;   // ascending, from 0
  bool rms = false;        // of rms_norm
  double eps = 0;
  std::int64_t count = 0;              // values a sample, m
  std::vector<double> mean, mean_low;  // of each sample, mean + mean_low; zeros of rms_norm
  std::vector<double> var;             // biased; the mean square of rms_norm
  std::vector<double> inv_std;         // 1 / sqrt(var + eps)
  std::vector<double> weight;          // W of each sample; empty without weights
  std::vector<double> gamma;           // of each feature; all ones where none was given

  /// Writes one of the vectors of statistics into a tensor of any dtype, which has the shape of x
  /// along the other axes, (1,) where there are none.
  void write_statistics(const std::vector<double>& values, const Tensor& to) const;
};

struct LayerNormArgs {
  ConstTensor x;            // any dtype, 1 to 8 dimensions, any strides
  ConstTensor gamma, beta;  // x's shape along `axes`, any dtype; not given: 1 and 0
  ConstTensor weights;      // x's shape (strides may be 0), float64 for float64 x, else float32
  Tensor y;                 // like x; x itself, or apart from it
  std::vector<int> axes = {-1};  // one or more, in any order; negative ones count from the end
  double eps = 1e-5;
};

/// y = gamma * (x - mean) * inv_std + beta, with mean and var over the features of each sample.
LayerNormSaved layer_norm(const LayerNormArgs& args);
/// y = gamma * x * inv_std, with inv_std = 1 / sqrt(mean of x^2 + eps). It takes no beta.
LayerNormSaved rms_norm(const LayerNormArgs& args);

/// The gradients of sum(dy * y). With h = dy * gamma, xh = (x - mean) * inv_std and <> the mean
/// over the features of a sample:
///   dx = inv_std * (h - <h> - xh * <h * xh>);  dgamma = sum dy * xh;  dbeta = sum dy
/// where the sums are over the samples. rms_norm has no <h> and no dbeta, and its mean is 0. With
/// weights
///   dx = inv_std * (h - w / W * (sum h + xh * sum h * xh))
/// and an x that is not finite has no part in any sum if its weight is 0.
struct LayerNormGrads {
  ConstTensor dy;        // like x
  Tensor dx;             // like x; dy itself, or apart from dy and x
  Tensor dgamma, dbeta;  // x's shape along the axes, any dtype, or not given
};
void layer_norm_backward(const LayerNormSaved& saved, const LayerNormGrads& grads);
void rms_norm_backward(const LayerNormSaved& saved, const LayerNormGrads& grads);

}  // namespace bnpp
