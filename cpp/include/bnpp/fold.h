// Folding: batch normalization with given statistics is one affine map a channel, and goes into the
// linear layer beside it. For a layer y = W x + b with
//   before: x <- s_in x + t_in on its input channels,  after: y <- s y + t on its output channels
// the folded layer is
//   W' = s W s_in,  b' = s (b + sum W t_in) + t
// where the sum runs over input channels and kernel positions. Computed in float64, rounded once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bnpp/tensor.h"

namespace bnpp {

/// y = x * scale + shift, one scale and shift a channel.
struct Affine {
  std::vector<double> scale, shift;
  /// |beta| + |mean * scale|: the terms of `shift` before they cancelled. At least |shift|.
  std::vector<double> magnitude;
  std::vector<std::uint8_t> variance;  // VarianceNote bits of each channel

  Affine() = default;
  /// Throws ValueError where the lengths differ.
  Affine(std::vector<double> scale, std::vector<double> shift);
  std::int64_t channels() const { return static_cast<std::int64_t>(scale.size()); }
};

/// What was odd about a variance. Denormal: above 0 but below 2^-126, where float32 is denormal and
/// many runtimes read 0.
enum VarianceNote : std::uint8_t { kZeroVariance = 1, kDenormalVariance = 2 };

/// scale = gamma / sqrt(var + eps), shift = beta - mean * scale, and scale 0 where var = eps = 0.
/// All vectors are (C,), of any dtype; gamma and beta may be absent: 1 and 0.
Affine affine(const ConstTensor& gamma, const ConstTensor& beta, const ConstTensor& mean,
              const ConstTensor& var, double eps = 1e-5);

/// second(first(x)).
Affine compose(const Affine& second, const Affine& first);
/// Throws ValueError where a scale is 0, or so near that its inverse overflows.
Affine inverse(const Affine& map);
/// Channel c of the result is channel indices[c] of `map`.
Affine take(const Affine& map, const std::vector<std::int64_t>& indices);
/// The channels of all maps, one after the other.
Affine concat(const std::vector<const Affine*>& maps);
/// y = x * scale + shift along `axis` of x; y is like x, and may be x itself.
void apply(const Affine& map, const ConstTensor& x, const Tensor& y, int axis = 1);

/// Gradients of gamma, beta, mean and var from those of scale and shift:
///   g = dscale - mean * dshift;  dgamma = g / sqrt(var + eps);  dbeta = dshift;
///   dmean = -scale * dshift;  dvar = -1/2 * scale / (var + eps) * g
struct AffineGrads {
  std::vector<double> dscale, dshift;
};
struct AffineParameterGrads {
  std::vector<double> dgamma, dbeta, dmean, dvar;
};
AffineParameterGrads affine_backward(const AffineGrads& grads, const ConstTensor& gamma,
                                     const ConstTensor& mean, const ConstTensor& var,
                                     double eps = 1e-5);

/// What stands in the border that a convolution adds to its input.
enum class Padding : std::uint8_t {
  none,       // no border, or one that repeats values of x
  zeros,      // zeros: a `before` with a shift cannot be folded
  pad_value,  // the caller will put Folded::pad_value there, a value a channel
};

/// A linear layer and the maps beside it; at least one of the two.
struct FoldArgs {
  ConstTensor weight;
  ConstTensor bias;  // (outputs,), or absent: zeros
  const Affine* after = nullptr;
  const Affine* before = nullptr;
  /// What each axis of `weight` is, a letter an axis: O output channels, I input channels, D H W
  /// kernel positions, G groups. Without G, O counts the outputs of all groups and I the inputs of
  /// one; where transposed, I those of all and O those of one. With G both are of one group, and
  /// may be absent where they are 1. Empty: OI, OIW, OIHW, OIDHW, or transposed IOW, IOHW, IODHW.
  std::string layout;
  std::int64_t groups = 1;
  bool transposed = false;
  Padding padding = Padding::none;
};

/// Output channels of a layer in all, to make room for the folded bias. Throws as the fold does.
std::int64_t output_channels_of_linear(const FoldArgs& args);
std::int64_t output_channels_of_conv(const FoldArgs& args);

/// What a fold changed. Vectors have one value an output channel.
struct FoldReport {
  double max_weight_change = 0;         // max |W' - W|
  std::vector<double> weight_rounding;  // sum |exact W' - stored W'|, proven from above
  std::vector<double> bias_rounding;    // |exact b' - stored b'|, likewise
  std::vector<double> growth;           // max |W'| / max |W|; 1 where both are 0
  double range_growth = 1;              // the same of the whole tensor
  std::vector<double> weight_sum;       // sum |W'|
  std::vector<double> constant_sum;     // magnitudes of all terms of b', before they cancel
  std::int64_t terms = 0;               // products an output value is the sum of
  struct Channels {
    std::vector<std::int64_t> dead, zero_variances, denormal_variances;
  };
  Channels outputs, inputs;  // of `after` and of `before`; dead: scale 0

  /// A bound on the change of an output value, for inputs up to max_abs_input. Of the stored
  /// rounding alone, or with a unit_roundoff also of evaluating both networks in that arithmetic.
  std::vector<double> bound(double max_abs_input, double unit_roundoff = 0) const;
};

struct Folded {
  FoldReport report;
  std::vector<double> pad_value;  // an input channel each; only with Padding::pad_value
};

/// Writes W' and b'. `weight` is like args.weight and may be that very tensor; `bias` is (outputs,)
/// of any dtype. Nothing is written when it throws.
Folded fold_linear(const FoldArgs& args, const Tensor& weight, const Tensor& bias);
Folded fold_conv(const FoldArgs& args, const Tensor& weight, const Tensor& bias);

/// From dW' and db' to the gradients of W and b (written) and of the maps (returned; empty where
/// there was none):
///   dW = s (dW' s_in + db' t_in);  db = s db';
///   dscale = sum dW' W s_in + db' (b + sum W t_in);  dshift = db';
///   dscale_in = sum s dW' W;  dshift_in = sum s db' W
struct FoldGrads {
  ConstTensor dfolded_weight;  // dW', like args.weight
  ConstTensor dfolded_bias;    // db', or absent: zeros
  Tensor dweight;              // like args.weight; may be dfolded_weight itself
  Tensor dbias;                // (outputs,)
};
struct FoldMapGrads {
  AffineGrads after, before;
};
FoldMapGrads fold_linear_backward(const FoldArgs& args, const FoldGrads& grads);
FoldMapGrads fold_conv_backward(const FoldArgs& args, const FoldGrads& grads);

}  // namespace bnpp
