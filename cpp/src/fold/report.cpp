#include "fold/report.h"

#include <cmath>

namespace bnpp {
namespace {

double ratio(double after, double before) { return before == 0 ? 1 : after / before; }

FoldReport::Channels channels_of(const Affine& map) {
  FoldReport::Channels found;
  for (std::size_t c = 0; c < map.scale.size(); ++c) {
    const auto index = static_cast<std::int64_t>(c);
    if (map.scale[c] == 0) found.dead.push_back(index);
    if (map.variance[c] & kZeroVariance) found.zero_variances.push_back(index);
    if (map.variance[c] & kDenormalVariance) found.denormal_variances.push_back(index);
  }
  return found;
}

}  // namespace

FoldReport report_of(const std::vector<ChannelChange>& changes, const Layer& layer,
                     std::int64_t terms) {
  FoldReport report;
  double before = 0, after = 0;
  for (const ChannelChange& change : changes) {
    raise(report.max_weight_change, change.max_change);
    raise(before, change.max_before);
    raise(after, change.max_after);
    report.weight_rounding.push_back(change.weight_error);
    report.bias_rounding.push_back(change.bias_error);
    report.growth.push_back(ratio(change.max_after, change.max_before));
    report.weight_sum.push_back(change.weight_sum);
    report.constant_sum.push_back(change.constant_sum);
  }
  report.range_growth = ratio(after, before);
  report.terms = terms;
  report.outputs = channels_of(layer.after);
  report.inputs = channels_of(layer.before);
  return report;
}

std::vector<double> FoldReport::bound(double max_abs_input, double unit_roundoff) const {
  // A term of the unfolded network passes at most 8 roundings of each map and terms + 1 of the
  // layer, one of the folded network at most as many.
  const double n = static_cast<double>(terms + 17) * unit_roundoff,
               evaluation = n < 1 ? 2 * n / (1 - n) : INFINITY;
  std::vector<double> bounds;
  for (std::size_t c = 0; c < weight_rounding.size(); ++c) {
    const double size = (weight_sum[c] + weight_rounding[c]) * max_abs_input + constant_sum[c];
    bounds.push_back(weight_rounding[c] * max_abs_input + bias_rounding[c] +
                     (unit_roundoff > 0 ? evaluation * size : 0));
  }
  return bounds;
}

}  // namespace bnpp
