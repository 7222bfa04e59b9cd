// Mergeable statistics: count, mean and M2 = sum of (x - mean)^2 of each channel.
// Merging is Chan, Golub & LeVeque's update (1979) with mean and M2 kept as unevaluated sums of two
// float64, so that the parts of a whole, merged in any order, give the moments of the whole.
#pragma once

#include <cstdint>
#include <vector>

#include "bnpp/tensor.h"

namespace bnpp {

/// The moments of one channel; mean + mean_low and m2 + m2_low are the values.
struct ChannelMoments {
  double count = 0, mean = 0, mean_low = 0, m2 = 0, m2_low = 0;
};

/// The moments of the union of both samples.
ChannelMoments merge(const ChannelMoments& a, const ChannelMoments& b);

/// The moments of every channel of x along `axis`, reduced over all other axes.
std::vector<ChannelMoments> moments(const ConstTensor& x, int axis = 1);

}  // namespace bnpp
