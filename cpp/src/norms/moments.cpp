#include "norms/moments.h"

#include <algorithm>
#include <utility>

#include "norms/check.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

// The moments of no values, and a copy.
void clear(const MomentsView& to, std::int64_t channels) {
  for (double* values : {to.mean, to.mean_low, to.m2, to.m2_low})
    std::fill_n(values, channels, 0.0);
}
void copy(const MomentsView& from, const MomentsView& to, std::int64_t channels) {
  std::copy_n(from.mean, channels, to.mean);
  std::copy_n(from.mean_low, channels, to.mean_low);
  std::copy_n(from.m2, channels, to.m2);
  std::copy_n(from.m2_low, channels, to.m2_low);
}

}  // namespace

ChannelMoments merge(const ChannelMoments& a, const ChannelMoments& b) {
  if (a.count == 0) return b;
  if (b.count == 0) return a;
  ChannelMoments whole = a, part = b;
  kernels().merge_moments({&whole.mean, &whole.mean_low, &whole.m2, &whole.m2_low}, a.count,
                          {&part.mean, &part.mean_low, &part.m2, &part.m2_low}, b.count, 1);
  whole.count = a.count + b.count;
  whole.squared_weights = a.squared_weights + b.squared_weights;
  return whole;
}

BlockMoments::BlockMoments(const Plan& plan, const MomentsView& whole, const Weights* weights)
    : plan_(plan),
      whole_(whole),
      weights_(weights != nullptr && weights->given() ? weights : nullptr),
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
  if (weights_ != nullptr) return reduce_weighted(x, tile, block, worker);
  const Operand::View view = x.read(tile, worker);
  verbs.moments({view.data, view.stride, plan_.rows(tile), plan_.cols(tile), plan_.inner,
                 sums(block, tile.c0), view.ahead, plan_.has_narrow_rows()});
}

void BlockMoments::reduce_weighted(const Operand& x, const Tile& tile, std::int64_t block,
                                   int worker) {
  weights_->for_each_part(tile, [&](const Tile& part) {
    const Operand::View view = x.read(part, worker);
    const Weights::Rows rows = weights_->rows_with_weight(part, block);
    weights_->verbs().weighted_moments({{view.data, view.stride, rows.n, plan_.cols(part),
                                         plan_.inner, sums(block, part.c0), false, false},
                                        weights_->read(part, worker),
                                        weights_->counts(block, part.c0),
                                        weights_->count_step(),
                                        rows.start});
  });
}

void BlockMoments::merge(std::int64_t begin, std::int64_t end) {
  std::vector<double> count(static_cast<std::size_t>(plan_.blocks));
  // Channels of one and the same weights merge together.
  const std::int64_t step = weights_ != nullptr && weights_->count_step() != 0 ? 1 : end - begin;
  for (std::int64_t c = begin; c < end; c += step) {
    for (std::int64_t b = 0; b < plan_.blocks; ++b) {
      const Tile tile = plan_.tile(0, b);
      count[static_cast<std::size_t>(b)] =
          weights_ != nullptr ? *weights_->counts(b, c)
                              : static_cast<double>((tile.o1 - tile.o0) * (tile.i1 - tile.i0));
    }
    merge(c, c + step, count);
  }
}

void BlockMoments::merge(std::int64_t begin, std::int64_t end, std::vector<double> count) {
  const KernelTable& kernel = kernels();
  const std::int64_t channels = end - begin;
  for (std::int64_t b = 0; b < plan_.blocks; ++b) {
    const double n = count[static_cast<std::size_t>(b)];
    if (n > 0) {
      kernel.moments_of_sums(sums(b, begin), n, channels, moments(b, begin));
    } else {
      clear(moments(b, begin), channels);
    }
  }
  for_each_pair_of_blocks(plan_.blocks, [&](std::int64_t a, std::int64_t b) {
    double& n = count[static_cast<std::size_t>(a)];
    const double m = count[static_cast<std::size_t>(b)];
    if (n > 0 && m > 0) {
      kernel.merge_moments(moments(a, begin), n, moments(b, begin), m, channels);
    } else if (m > 0) {
      copy(moments(b, begin), moments(a, begin), channels);
    }
    n += m;
  });
}

std::vector<ChannelMoments> moments(const ConstTensor& x, int axis, const ConstTensor& weights) {
  const Check check("moments");
  const Plan plan(x, check.axis_of(x, axis));
  const int threads = threads_for(x.size() * size_of(x.dtype));
  const Weights w = checked_weights(check, x, weights, plan, threads);
  std::vector<ChannelMoments> result(static_cast<std::size_t>(plan.channels));
  if (plan.count == 0) return result;

  const Operand operand(x, plan, threads);
  const Verbs& kernel = verbs(x.dtype, plan.layout);
  const std::size_t n = result.size();
  ChannelVector mean(n), mean_low(n), m2(n), m2_low(n);
  BlockMoments blocks(plan, {mean.data(), mean_low.data(), m2.data(), m2_low.data()}, &w);
  reduce_all(plan, threads, [&](const Tile& tile, std::int64_t block, int worker) {
    blocks.reduce(kernel, operand, tile, block, worker);
  });
  auto merge_group = [&](std::int64_t group, int) {
    blocks.merge(plan.group_begin(group), plan.group_end(group));
  };
  parallel_for(plan.groups, threads, merge_group);
  for (std::size_t c = 0; c < n; ++c) {
    const auto m = static_cast<double>(plan.count);
    const WeightSum sum = w.given() ? w.of_channel(static_cast<std::int64_t>(c)) : WeightSum{m, m};
    result[c] = {sum.sum, mean[c], mean_low[c], m2[c], m2_low[c], sum.squares};
  }
  return result;
}

}  // namespace bnpp
