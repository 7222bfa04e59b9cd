// Filling in what a forward leaves for its backward.
#pragma once

#include <cstdint>

#include "bnpp/batch_norm.h"
#include "kernels/table.h"
#include "norms/plan.h"

namespace bnpp {

/// With room for the statistics, which are zero mean and variance where a channel has no values; no
/// mask.
BatchNormSaved new_saved(const ConstTensor& x, const Plan& plan, double eps, ChannelVector gamma);

/// Where the moments of all channels go.
MomentsView moments_of(BatchNormSaved& saved);

/// The ReLU bits, or null.
std::uint8_t* mask_of(BatchNormSaved& saved);
const std::uint8_t* mask_of(const BatchNormSaved& saved);
/// Room for the ReLU bits.
void add_mask(BatchNormSaved& saved, const Plan& plan);

/// 1 / sqrt(var + eps), and 0 where var = eps = 0: there x - mean is 0 too.
double inv_std_of(double var, double eps);

/// One mean as center + low; see CenterArgs.
struct Center {
  double center, low;
};
Center center_of(DType dtype, double mean, double mean_low);

/// var and inv_std of channels [begin, end) from m2 / count.
void set_variances(BatchNormSaved& saved, const double* m2, double count, std::int64_t begin,
                   std::int64_t end);

/// The means of channels [begin, end) as center + low; see CenterArgs.
void get_centers(const BatchNormSaved& saved, std::int64_t begin, std::int64_t end, double* center,
                 double* low);

/// The tensor that the backward reads for x: x itself, or y.
const ConstTensor& kept(const BatchNormSaved& saved);

/// How x - mean follows from it: (value - center - low) * slope, the centre such that subtracting
/// it loses nothing. Of x itself the slope is 1 and the centre the mean; of
/// y = gamma * inv_std * (x - mean) + beta it is beta.
struct Source {
  double center, low, slope;
};

/// Those of all channels.
struct Sources {
  ChannelVector center, low, slope;
  bool of_y;  // else all slopes are 1

  explicit Sources(const BatchNormSaved& saved);
  const double* slope_of_all() const { return of_y ? slope.data() : nullptr; }
  Source of_channel(std::size_t c) const { return {center[c], low[c], slope[c]}; }
};

}  // namespace bnpp
