// The alphabet: five verbs, and those of them that heed weights, each in two layouts and for each
// dtype, and three for statistics of rows, as a table of function pointers. Plain data only: the
// per-ISA units include this file.
//
// Every kernel works on one tile: `rows` runs of `cols` contiguous elements, the runs `*_stride`
// elements apart. In layout `rows` the whole tile belongs to one channel and every parameter is one
// number; in layout `cols` every `repeat` columns are a channel, which has one number in every
// parameter.
// Parameters, accumulators and results are float64, and so is the arithmetic, with one rounding at
// the end; but `affine` and `grad_input` of float32 tensors and halves compute in float32, where
// that has room for all parameters of a channel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bnpp/dtype.h"

namespace bnpp {

// A sum as an unevaluated pair: the value is hi + lo.
struct PairSum {
  double hi, lo;
};

// What kernels have room for: columns of a tile in layout cols, but for affine and runs, of which
// whole rows of up to 16384 columns may come; channels of a tile of runs; rows of the verbs of
// rows.
constexpr std::ptrdiff_t kTileColumns = 1024, kTileRuns = 64, kTileRows = 256;
// Columns of a channel from which on a forward may map whole rows.
constexpr std::ptrdiff_t kRunColumns = 96;

// Numbers that float32 has room for are 0 or at most this, and those to multiply with at least its
// inverse: as much is left above and below for what they come together with.
constexpr double kSingleRoom = 0x1p100;
// Whether it has. What is Inf or NaN is so in float32, too.
static inline bool is_moderate(double v) {
  return (v <= kSingleRoom && v >= -kSingleRoom) || v - v != 0;
}
static inline bool is_in_range(double v) {
  return is_moderate(v) && (v == 0 || v >= 1 / kSingleRoom || v <= -1 / kSingleRoom || v != v);
}

// Whether rows of so many columns are narrow and fill no whole vectors: kernels take several as
// one.
static constexpr bool is_narrow(std::ptrdiff_t columns) {
  return columns < 64 && columns % 16 != 0;
}

// Sums of channels about a shift K that lies near a block's values, one array a field:
// s1 + s1_low = sum (x - K), s2 + s2_low = sum (x - K)^2.
struct BlockSums {
  double *shift, *s1, *s1_low, *s2, *s2_low;
};
// Moments of channels, one array a field: mean + mean_low and m2 + m2_low are the values.
struct MomentsView {
  double *mean, *mean_low, *m2, *m2_low;
};
// The algebra between two passes, for a range of channels, one array a field.
//   var = m2 / count, inv_std = 1 / sqrt(var + eps), and 0 where that root is 0: there x - mean is
//   0 too
struct VarianceArgs {
  const double* m2;
  double count, eps;
  double *var, *inv_std;
};
//   mean + mean_low = center + low, the centre representable in the tensor's dtype, so that
//   x - center loses nothing
struct CenterArgs {
  const double *mean, *mean_low;
  bool is_float64;  // the tensor
  double *center, *low;
};
//   scale = gamma * inv_std, offset = beta - low * scale
struct ScaleArgs {
  const double *gamma, *beta, *inv_std, *low;
  double *scale, *offset;
};
//   x - mean = (x - center - low) * slope; sum_gx, about the centre, becomes dgamma; sum_g is
//   dbeta; dx = a * g + b * (x - center) + c with a = gamma * inv_std, b = (2 * var_grad - a *
//   inv_std * dgamma) / count * slope, c = (mean_grad - a * dbeta) / count - b * low
struct GradientArgs {
  const double *gamma, *inv_std, *low, *sum_g;
  const double* slope;                 // null: 1
  const double *mean_grad, *var_grad;  // gradients of the batch's mean and var; null: 0
  double count;
  double *sum_gx, *a, *b, *c;
};
struct MomentsTile {
  const void* x;
  std::ptrdiff_t x_stride;
  std::ptrdiff_t rows, cols, repeat;
  BlockSums sums;
  bool ahead;   // as in AffineTile
  bool narrow;  // rows are narrow wherever they lie: bits of sums depend on it
};

// y = act((x - center) * scale + (offset + residual)). Mask rows are `mask_stride` bytes apart, the
// bit of column j is bit j % 8 of byte j / 8.
struct AffineTile {
  const void* x;
  const void* residual;  // or null
  void* y;
  std::uint8_t* mask;  // or null
  std::ptrdiff_t x_stride, residual_stride, y_stride, mask_stride;
  std::ptrdiff_t rows, cols, repeat;
  const double *center, *scale, *offset;
  bool relu;
  bool stream;  // y will not be read soon: write it past the caches
  bool ahead;   // rows lie beyond the second-level cache: prefetch them
  bool wide;    // in float64 whatever the dtype
};

// sum_g = sum g and sum_gx = sum g * (x - center), with g = dy where the mask has a bit (or no
// mask).
struct GradSumsTile {
  const void *dy, *x;
  const std::uint8_t* mask;  // or null
  std::ptrdiff_t dy_stride, x_stride, mask_stride;
  std::ptrdiff_t rows, cols, repeat;
  const double* center;
  double *sum_g, *sum_gx;
  bool ahead;   // as in AffineTile
  bool narrow;  // as in MomentsTile
};

// dx = (a * g + c) + b * (x - center), and dresidual = g where asked for. Without x: dx = a * g.
struct GradInputTile {
  const void* dy;
  const void* x;             // or null
  const std::uint8_t* mask;  // or null
  void* dx;
  void* dresidual;  // or null
  std::ptrdiff_t dy_stride, x_stride, mask_stride, dx_stride, dresidual_stride;
  std::ptrdiff_t rows, cols, repeat;
  const double *center, *a, *b, *c;
  bool stream, ahead;  // as above, of dx
};

// out = a * u + b * v + (d * (x - center) + c). Where there is a mask, u or out is 0 without its
// bit.
struct CombineTile {
  const void *u, *v, *x;     // each or null
  const std::uint8_t* mask;  // or null
  void* out;
  std::ptrdiff_t u_stride, v_stride, x_stride, mask_stride, out_stride;
  std::ptrdiff_t rows, cols, repeat;
  const double *center, *a, *b, *d, *c;
  bool mask_out;       // the mask is out's, not u's
  bool stream, ahead;  // as above, of out
};

// The weights of a tile, at least 0: float64 where x is, else float32. Those of row i begin at
// w + i * w_stride; or, where all elements of a row weigh the same (`per_row`), row i has w[i].
struct WeightsTile {
  const void* w;
  std::ptrdiff_t w_stride;
  bool per_row;
};

// sum = sum w and sum_squares = sum w^2 of each channel, not finite if a weight is negative, Inf or
// NaN. In layout cols there is one weight an element.
struct WeightSumsTile {
  WeightsTile weights;
  std::ptrdiff_t rows, cols, repeat;
  double *sum, *sum_squares;
};

// s1 = sum w (x - K) and s2 = sum w (x - K)^2; x counts only where w > 0. Channel c has
// sum w = count[c * count_step]. In layout cols with one weight a row, the tile's rows are those
// that come in kRowsListed from each of `start` on (fewer at the end): all others weigh nothing.
inline constexpr std::ptrdiff_t kRowsListed = 8;
struct WeightedMomentsTile {
  MomentsTile tile;
  WeightsTile weights;
  const double* count;
  std::ptrdiff_t count_step;
  const std::int32_t* start;  // or null
};

// As grad_sums, but where w is 0 and x is not finite, x - center is taken to be `low`, which is
// mean - center: the element has no part in sum g * (x - mean).
struct WeightedGradSumsTile {
  GradSumsTile tile;
  WeightsTile weights;
  const double* low;
};

// dx = a * g + w * (b * (x - center) + c), and a * g where w is 0, whatever x is.
struct WeightedGradInputTile {
  GradInputTile tile;
  WeightsTile weights;
};

struct Verbs {
  void (*moments)(const MomentsTile&);
  void (*affine)(const AffineTile&);
  void (*grad_sums)(const GradSumsTile&);
  void (*grad_input)(const GradInputTile&);
  void (*combine)(const CombineTile&);
  void (*weight_sums)(const WeightSumsTile&);
  void (*weighted_moments)(const WeightedMomentsTile&);
  void (*weighted_grad_sums)(const WeightedGradSumsTile&);
  void (*weighted_grad_input)(const WeightedGradInputTile&);
};

// Norms whose statistics belong to a row (layer norm): center, scale, shift, b and c have one
// number a row, gamma and beta one a column.

// y = ((x - center) * scale + shift) * gamma + beta, with a shift for float64 only. For all else
// gamma and beta come as float32, too, and `moderate` tells whether that has room for them.
struct RowAffineTile {
  const void* x;
  void* y;
  std::ptrdiff_t x_stride, y_stride;
  std::ptrdiff_t rows, cols;
  const double *center, *scale, *shift;
  const double *gamma, *beta;
  const float *gamma_single, *beta_single;
  bool moderate;
  bool stream;
};

// The sums of each row about its shift K, weighted: weight = sum w, s1 = sum w * (x - K),
// s2 = sum w * (x - K)^2. The weights are float64 where x is, else float32; an x of weight 0 may be
// anything.
struct RowWeightedMomentsTile {
  const void *x, *weights;
  std::ptrdiff_t x_stride, weights_stride;
  std::ptrdiff_t rows, cols;
  BlockSums sums;
  double* weight;
};

// Of each row sum_h = sum h and sum_hx = sum h * (x - center), with h = dy * gamma; with weights
// without those of weight 0 whose x is not finite.
struct RowGradSumsTile {
  const void *dy, *x;
  const void* weights;  // or null
  std::ptrdiff_t dy_stride, x_stride, weights_stride;
  std::ptrdiff_t rows, cols;
  const double *center, *gamma;
  double *sum_h, *sum_hx;
};

// With xh = (x - center) * scale + shift, as above: dx = h * scale + w * (b * xh + c), and the sums
// of dy * xh and dy of the tile's rows are added to each column's dgamma and dbeta, for float64 as
// pairs with what is low. Weights w as above, else 1.
struct RowGradInputTile {
  const void *dy, *x;
  const void* weights;  // or null
  void* dx;
  std::ptrdiff_t dy_stride, x_stride, weights_stride, dx_stride;
  std::ptrdiff_t rows, cols;
  const double *center, *scale, *shift, *b, *c;
  const double* gamma;
  double *dgamma, *dgamma_low, *dbeta, *dbeta_low;
  bool stream;
};

struct RowVerbs {
  void (*moments)(const MomentsTile&);  // of each row: the sums have one number a row
  void (*weighted_moments)(const RowWeightedMomentsTile&);
  void (*affine)(const RowAffineTile&);
  void (*grad_sums)(const RowGradSumsTile&);
  void (*grad_input)(const RowGradInputTile&);
};

enum class Layout : std::uint8_t { rows, cols };

#define BNPP_ONE(name, type) +1
inline constexpr std::size_t kDTypes = 0 BNPP_DTYPES(BNPP_ONE), kLayouts = 2;
#undef BNPP_ONE

struct KernelTable {
  Verbs verbs[kDTypes][kLayouts];
  RowVerbs row_verbs[kDTypes];
  // The moments of `channels` channels from the sums of `count` values each; the arrays may be the
  // same.
  void (*moments_of_sums)(const BlockSums&, double count, std::ptrdiff_t channels,
                          const MomentsView& to);
  // a becomes the moments of the union of a and b; no count is 0.
  void (*merge_moments)(const MomentsView& a, double count_a, const MomentsView& b, double count_b,
                        std::ptrdiff_t channels);
  void (*variances)(const VarianceArgs&, std::ptrdiff_t channels);
  void (*centers)(const CenterArgs&, std::ptrdiff_t channels);
  void (*scales)(const ScaleArgs&, std::ptrdiff_t channels);
  void (*gradients)(const GradientArgs&, std::ptrdiff_t channels);
};

}  // namespace bnpp
