#include "norms/saved.h"

#include <cmath>
#include <utility>

#include "bnpp/error.h"

namespace bnpp {

BatchNormSaved new_saved(const ConstTensor& x, const Plan& plan, double eps,
                         std::vector<double> gamma) {
  const auto channels = static_cast<std::size_t>(plan.channels);
  BatchNormSaved saved;
  saved.x = x;
  saved.axis = plan.channel_axis;
  saved.eps = eps;
  saved.count = plan.count;
  saved.mean.assign(channels, 0);
  saved.mean_low.assign(channels, 0);
  saved.m2.assign(channels, 0);
  saved.m2_low.assign(channels, 0);
  saved.var.assign(channels, 0);
  saved.inv_std.assign(channels, inv_std_of(0, eps));
  saved.gamma = std::move(gamma);
  return saved;
}

void set_moments(BatchNormSaved& saved, std::int64_t channel, const ChannelMoments& moments) {
  const auto c = static_cast<std::size_t>(channel);
  saved.mean[c] = moments.mean;
  saved.mean_low[c] = moments.mean_low;
  saved.m2[c] = moments.m2;
  saved.m2_low[c] = moments.m2_low;
  saved.var[c] = moments.m2 / moments.count;
  saved.inv_std[c] = inv_std_of(saved.var[c], saved.eps);
}

std::vector<ChannelMoments> BatchNormSaved::moments() const {
  if (frozen) throw ValueError("BatchNormSaved::moments: the statistics were given, not measured");
  std::vector<ChannelMoments> result(mean.size());
  for (std::size_t c = 0; c < result.size(); ++c) {
    result[c] = {static_cast<double>(count), mean[c], mean_low[c], m2[c], m2_low[c]};
  }
  return result;
}

void add_mask(BatchNormSaved& saved, const Plan& plan) {
  saved.mask_bytes = plan.mask_bytes();
  saved.mask.reset(new std::uint8_t[static_cast<std::size_t>(saved.mask_bytes)]);
}

double inv_std_of(double var, double eps) {
  const double std = std::sqrt(var + eps);
  return std == 0 ? 0 : 1 / std;
}

Center center_of(DType dtype, double mean, double mean_low) {
  if (dtype == DType::float64) return {mean, mean_low};
  const double center = static_cast<double>(static_cast<float>(mean));
  if (!std::isfinite(center)) return {mean, 0};
  return {center, (mean - center) + mean_low};
}

Center center_of(const BatchNormSaved& saved, std::int64_t channel) {
  const auto c = static_cast<std::size_t>(channel);
  return center_of(saved.x.dtype, saved.mean[c], saved.mean_low[c]);
}

}  // namespace bnpp
