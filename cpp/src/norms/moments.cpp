#include "norms/moments.h"

#include "norms/check.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {

ChannelMoments merge(const ChannelMoments& a, const ChannelMoments& b) {
  if (a.count == 0) return b;
  if (b.count == 0) return a;
  ChannelMoments whole = a, part = b;
  kernels().merge_moments({&whole.mean, &whole.mean_low, &whole.m2, &whole.m2_low}, a.count,
                          {&part.mean, &part.mean_low, &part.m2, &part.m2_low}, b.count, 1);
  whole.count = a.count + b.count;
  return whole;
}

BlockMoments::BlockMoments(const Plan& plan, const MomentsView& whole)
    : plan_(plan),
      whole_(whole),
      values_(static_cast<std::size_t>(5 * plan.blocks * plan.channels)) {}

BlockSums BlockMoments::sums(std::int64_t b, std::int64_t c) {
  return {field(0, b, c), field(1, b, c), field(2, b, c), field(3, b, c), field(4, b, c)};
}

MomentsView BlockMoments::moments(std::int64_t b, std::int64_t c) {
  if (b == 0) return {whole_.mean + c, whole_.mean_low + c, whole_.m2 + c, whole_.m2_low + c};
  return {field(0, b, c), field(1, b, c), field(2, b, c), field(3, b, c)};
}

void BlockMoments::reduce(const Verbs& verbs, const Operand& x, const Tile& tile,
                          std::int64_t block, int worker) {
  const Operand::View view = x.read(tile, worker);
  verbs.moments({view.data, view.stride, plan_.rows(tile), plan_.cols(tile), plan_.inner,
                 sums(block, tile.c0)});
}

void BlockMoments::merge(std::int64_t begin, std::int64_t end) {
  const KernelTable& kernel = kernels();
  std::vector<double> count(static_cast<std::size_t>(plan_.blocks));
  for (std::int64_t b = 0; b < plan_.blocks; ++b) {
    const Tile tile = plan_.tile(0, b);
    double& n = count[static_cast<std::size_t>(b)];
    n = static_cast<double>((tile.o1 - tile.o0) * (tile.i1 - tile.i0));
    kernel.moments_of_sums(sums(b, begin), n, end - begin, moments(b, begin));
  }
  for_each_pair_of_blocks(plan_.blocks, [&](std::int64_t a, std::int64_t b) {
    double& n = count[static_cast<std::size_t>(a)];
    const double m = count[static_cast<std::size_t>(b)];
    kernel.merge_moments(moments(a, begin), n, moments(b, begin), m, end - begin);
    n += m;
  });
}

std::vector<ChannelMoments> moments(const ConstTensor& x, int axis) {
  const Check check("moments");
  const Plan plan(x, check.axis_of(x, axis));
  std::vector<ChannelMoments> result(static_cast<std::size_t>(plan.channels));
  if (plan.count == 0) return result;

  const int threads = threads_for(x.size() * size_of(x.dtype));
  const Operand operand(x, plan, threads);
  const Verbs& kernel = verbs(x.dtype, plan.layout);
  const std::size_t n = result.size();
  ChannelVector mean(n), mean_low(n), m2(n), m2_low(n);
  BlockMoments blocks(plan, {mean.data(), mean_low.data(), m2.data(), m2_low.data()});
  reduce_all(plan, threads, [&](const Tile& tile, std::int64_t block, int worker) {
    blocks.reduce(kernel, operand, tile, block, worker);
  });
  auto merge_group = [&](std::int64_t group, int) {
    blocks.merge(plan.group_begin(group), plan.group_end(group));
  };
  parallel_for(plan.groups, threads, merge_group);
  for (std::size_t c = 0; c < n; ++c) {
    result[c] = {static_cast<double>(plan.count), mean[c], mean_low[c], m2[c], m2_low[c]};
  }
  return result;
}

}  // namespace bnpp
