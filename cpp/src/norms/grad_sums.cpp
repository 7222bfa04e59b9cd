#include "norms/grad_sums.h"

#include "norms/moments.h"

namespace bnpp {

GradSumsTile grad_sums_tile(const Plan& plan, const GradSumsOf& of, const Tile& tile, double* sum_g,
                            double* sum_gx) {
  GradSumsTile args;
  args.dy = of.dy.data;
  args.dy_stride = of.dy.stride;
  args.x = of.x.data;
  args.x_stride = of.x.stride;
  args.mask = of.mask ? of.mask + plan.mask_offset(tile) : nullptr;
  args.mask_stride = plan.mask_stride();
  args.rows = plan.rows(tile);
  args.cols = plan.cols(tile);
  args.repeat = plan.inner;
  args.ahead = of.x.ahead;
  args.narrow = plan.has_narrow_rows();
  args.center = &of.center[static_cast<std::size_t>(tile.c0)];
  args.sum_g = sum_g;
  args.sum_gx = sum_gx;
  return args;
}

void grad_sums(const Verbs& verbs, const Plan& plan, const GradSumsOf& of, const Tile& tile,
               double* sum_g, double* sum_gx) {
  verbs.grad_sums(grad_sums_tile(plan, of, tile, sum_g, sum_gx));
}

BlockGradSums::BlockGradSums(const Plan& plan, int pairs)
    : plan_(plan),
      stride_(static_cast<std::size_t>(plan.blocks * plan.channels)),
      fields_(2 * pairs),
      values_(stride_ * static_cast<std::size_t>(fields_), 0.0) {}

double* BlockGradSums::at(int field, std::int64_t block, std::int64_t channel) {
  return &values_[static_cast<std::size_t>(field) * stride_ +
                  static_cast<std::size_t>(block * plan_.channels + channel)];
}

void BlockGradSums::add_up(std::int64_t begin, std::int64_t end) {
  for_each_pair_of_blocks(plan_.blocks, [&](std::int64_t a, std::int64_t b) {
    for (int field = 0; field < fields_; ++field) {
      double* to = at(field, a, begin);
      const double* from = at(field, b, begin);
      for (std::int64_t c = 0; c < end - begin; ++c) to[c] += from[c];
    }
  });
}

GradSums BlockGradSums::of_channel(std::int64_t channel, const Source& x, int pair) const {
  const double* sums =
      &values_[static_cast<std::size_t>(2 * pair) * stride_ + static_cast<std::size_t>(channel)];
  const double g = sums[0], gx = sums[stride_];
  return {g, (gx - x.low * g) * x.slope};
}

}  // namespace bnpp
