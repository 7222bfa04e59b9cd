// Filling in what a forward leaves for its backward.
#pragma once

#include <cstdint>
#include <vector>

#include "bnpp/batch_norm.h"
#include "bnpp/moments.h"
#include "norms/plan.h"

namespace bnpp {

/// Zero mean and variance for every channel; no mask.
BatchNormSaved new_saved(const ConstTensor& x, const Plan& plan, double eps,
                         std::vector<double> gamma);

void set_moments(BatchNormSaved& saved, std::int64_t channel, const ChannelMoments& moments);

/// Room for the ReLU bits.
void add_mask(BatchNormSaved& saved, const Plan& plan);

/// 1 / sqrt(var + eps), and 0 where var = eps = 0: there x - mean is 0 too.
double inv_std_of(double var, double eps);

/// The mean as center + low, the centre representable in x's dtype so that x - center loses
/// nothing.
struct Center {
  double center, low;
};
Center center_of(DType dtype, double mean, double mean_low);
Center center_of(const BatchNormSaved& saved, std::int64_t channel);

}  // namespace bnpp
