#include "norms/saved.h"

#include <cmath>
#include <utility>

#include "bnpp/error.h"
#include "runtime/dispatch.h"

namespace bnpp {

BatchNormSaved new_saved(const ConstTensor& x, const Plan& plan, double eps, ChannelVector gamma) {
  const auto channels = static_cast<std::size_t>(plan.channels);
  BatchNormSaved saved;
  saved.x = x;
  saved.axis = plan.channel_axis;
  saved.eps = eps;
  saved.count = plan.count;
  saved.gamma = std::move(gamma);
  for (ChannelVector* values : {&saved.mean, &saved.mean_low, &saved.m2, &saved.m2_low}) {
    plan.count > 0 ? values->resize(channels) : values->assign(channels, 0);
  }
  saved.var.resize(channels);
  saved.inv_std.resize(channels);
  if (plan.count == 0) set_variances(saved, saved.m2.data(), 1, 0, plan.channels);
  return saved;
}

MomentsView moments_of(BatchNormSaved& saved) {
  return {saved.mean.data(), saved.mean_low.data(), saved.m2.data(), saved.m2_low.data()};
}

std::vector<ChannelMoments> BatchNormSaved::moments() const {
  if (frozen) throw ValueError("BatchNormSaved::moments: the statistics were given, not measured");
  std::vector<ChannelMoments> result(mean.size());
  for (std::size_t c = 0; c < result.size(); ++c) {
    const bool weighted = weights.given();
    const double m = weighted ? weight[c] : static_cast<double>(count);
    result[c] = {m, mean[c], mean_low[c], m2[c], m2_low[c], weighted ? squared_weights[c] : m};
  }
  return result;
}

std::uint8_t* mask_of(BatchNormSaved& saved) {
  return saved.mask.empty() ? nullptr : saved.mask.data();
}

const std::uint8_t* mask_of(const BatchNormSaved& saved) {
  return saved.mask.empty() ? nullptr : saved.mask.data();
}

void add_mask(BatchNormSaved& saved, const Plan& plan) {
  saved.mask.resize(static_cast<std::size_t>(plan.mask_bytes()));
}

Center center_of(DType dtype, double mean, double mean_low) {
  if (dtype == DType::float64) return {mean, mean_low};
  const double center = static_cast<double>(static_cast<float>(mean));
  if (!std::isfinite(center)) return {mean, 0};
  return {center, (mean - center) + mean_low};
}

double inv_std_of(double var, double eps) {
  const double std = std::sqrt(var + eps);
  return std == 0 ? 0 : 1 / std;
}

void set_variances(BatchNormSaved& saved, const double* m2, double count, std::int64_t begin,
                   std::int64_t end) {
  kernels().variances(
      {m2 + begin, count, saved.eps, saved.var.data() + begin, saved.inv_std.data() + begin},
      end - begin);
}

void get_centers(const BatchNormSaved& saved, std::int64_t begin, std::int64_t end, double* center,
                 double* low) {
  kernels().centers({saved.mean.data() + begin, saved.mean_low.data() + begin,
                     saved.x.dtype == DType::float64, center + begin, low + begin},
                    end - begin);
}

namespace {

// beta where y was kept: float32's part of it is representable beside y in every dtype but float64,
// whose own beta is. The y of float32 was made with the float32 offset, which is its centre
// therefore; that of halves, too, but a half's unit is far beyond the difference.
Source source_of_y(const BatchNormSaved& saved, std::size_t c) {
  const double beta = saved.beta[c], r = saved.inv_std[c], scale = saved.gamma[c] * r;
  const double slope = r == 0 ? 0 : 1 / r / saved.gamma[c];
  if (saved.y.dtype == DType::float64) return {beta, 0, slope};
  const auto rounded = [](double v) { return static_cast<double>(static_cast<float>(v)); };
  if (saved.y.dtype != DType::float32) return {rounded(beta), beta - rounded(beta), slope};
  const double low = center_of(saved.y.dtype, saved.mean[c], saved.mean_low[c]).low * scale;
  return {rounded(beta - low), low, slope};
}

}  // namespace

const ConstTensor& kept(const BatchNormSaved& saved) { return saved.y.given() ? saved.y : saved.x; }

Sources::Sources(const BatchNormSaved& saved)
    : center(saved.mean.size()),
      low(center.size()),
      slope(center.size(), 1.0),
      of_y(saved.y.given()) {
  if (!of_y) {
    const auto channels = static_cast<std::int64_t>(center.size());
    get_centers(saved, 0, channels, center.data(), low.data());
    return;
  }
  for (std::size_t c = 0; c < center.size(); ++c) {
    const Source source = source_of_y(saved, c);
    center[c] = source.center;
    low[c] = source.low;
    slope[c] = source.slope;
  }
}

}  // namespace bnpp
