// Mergeable statistics: count, mean and M2 = sum of (x - mean)^2 of each channel.
// Merging is Chan, Golub & LeVeque's update (1979) with mean and M2 kept as unevaluated sums of two
// float64, so that the parts of a whole, merged in any order, give the moments of the whole.
#pragma once

#include <cstdint>
#include <vector>

#include "bnpp/tensor.h"

namespace bnpp {

/// The moments of one channel; mean + mean_low and m2 + m2_low are the values. With weights
///   count = sum w,  mean = sum w x / count,  m2 = sum w (x - mean)^2,
/// and squared_weights = sum w^2, by which a weighted variance is unbiased:
///   m2 / (count - squared_weights / count).  Without weights every w is 1.
struct ChannelMoments {
  double count = 0, mean = 0, mean_low = 0, m2 = 0, m2_low = 0, squared_weights = 0;
};

/// The moments of the union of both samples.
ChannelMoments merge(const ChannelMoments& a, const ChannelMoments& b);

/// The moments of every channel of x along `axis`, reduced over all other axes. Weights, where
/// given, are at least 0 and of a shape that broadcasts to x's; float64 for an x of float64, else
/// float32. Where they are 0, x may be anything, NaN too.
std::vector<ChannelMoments> moments(const ConstTensor& x, int axis = 1,
                                    const ConstTensor& weights = {});

}  // namespace bnpp
