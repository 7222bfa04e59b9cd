// mean = K + s1 / n, M2 = s2 - s1^2 / n for a block (K its shift), and for two
//   d = mean_b - mean_a,  mean = mean_a + d * n_b / n,  M2 = M2_a + M2_b + d^2 * n_a * n_b / n
// (Chan, Golub & LeVeque 1979). Sums are kept exactly as pairs hi + lo, so neither the order of
// merging nor the number of parts costs digits.
#include "norms/moments.h"

#include <cmath>

#include "norms/check.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

// Arithmetic to twice float64's digits, on unevaluated sums hi + lo.
using Pair = PairSum;

double finite_or_zero(double v) { return std::isfinite(v) ? v : 0; }

// a + b as a rounded sum and its exact error (Knuth); with Inf or NaN the error is 0.
Pair two_sum(double a, double b) {
  const double hi = a + b, from_b = hi - a;
  return {hi, finite_or_zero((a - (hi - from_b)) + (b - from_b))};
}

Pair add(Pair a, Pair b) {
  const Pair s = two_sum(a.hi, b.hi);
  return two_sum(s.hi, s.lo + (finite_or_zero(a.lo) + finite_or_zero(b.lo)));
}

Pair negative(Pair a) { return {-a.hi, -a.lo}; }

Pair multiply(Pair a, Pair b) {
  const double hi = a.hi * b.hi;
  return {hi, finite_or_zero(std::fma(a.hi, b.hi, -hi) + (a.hi * b.lo + a.lo * b.hi))};
}

Pair divide(Pair a, double b) {
  const double hi = a.hi / b;
  return {hi, finite_or_zero((std::fma(-hi, b, a.hi) + a.lo) / b)};
}

}  // namespace

std::int64_t tree_split(std::int64_t begin, std::int64_t end) {
  std::int64_t half = 1;
  while (2 * half < end - begin) half *= 2;
  return begin + half;
}

ChannelMoments merge(const ChannelMoments& a, const ChannelMoments& b) {
  if (a.count == 0) return b;
  if (b.count == 0) return a;
  ChannelMoments whole;
  whole.count = a.count + b.count;
  const Pair d = add({b.mean, b.mean_low}, {-a.mean, -a.mean_low});
  const Pair step = divide(multiply(d, {b.count, 0}), whole.count);
  const Pair mean = add({a.mean, a.mean_low}, step);
  const Pair between = multiply(multiply(d, step), {a.count, 0});
  const Pair m2 = add(add({a.m2, a.m2_low}, {b.m2, b.m2_low}), between);
  whole.mean = mean.hi;
  whole.mean_low = mean.lo;
  whole.m2 = m2.hi;
  whole.m2_low = m2.lo;
  return whole;
}

BlockMoments::BlockMoments(const Plan& plan)
    : plan_(plan), sums_(static_cast<std::size_t>(plan.blocks * plan.channels)) {}

void BlockMoments::reduce(const Verbs& verbs, const Operand& x, const Tile& tile,
                          std::int64_t block, int worker) {
  const Operand::View view = x.read(tile, worker);
  verbs.moments({view.data, view.stride, plan_.rows(tile), plan_.cols(tile), plan_.inner,
                 &sums_[index(block, tile.c0)]});
}

ChannelMoments BlockMoments::of_block(std::int64_t block, std::int64_t channel) const {
  const BlockSums& sums = sums_[index(block, channel)];
  const Tile tile = plan_.tile(0, block);
  ChannelMoments m;
  m.count = static_cast<double>((tile.o1 - tile.o0) * (tile.i1 - tile.i0));
  const Pair step = divide({sums.s1.hi, finite_or_zero(sums.s1.lo)}, m.count);
  const Pair mean = add({sums.shift, 0}, step);
  const Pair m2 = add(sums.s2, negative(multiply(step, sums.s1)));
  m.mean = mean.hi;
  m.mean_low = mean.lo;
  if (m2.hi < 0) return m;  // equal values but for rounding
  m.m2 = m2.hi;             // NaN too
  m.m2_low = m2.lo;
  return m;
}

ChannelMoments BlockMoments::merged(std::int64_t begin, std::int64_t end,
                                    std::int64_t channel) const {
  if (end - begin == 1) return of_block(begin, channel);
  const std::int64_t middle = tree_split(begin, end);
  return merge(merged(begin, middle, channel), merged(middle, end, channel));
}

ChannelMoments BlockMoments::merged(std::int64_t channel) const {
  return merged(0, plan_.blocks, channel);
}

std::vector<ChannelMoments> moments(const ConstTensor& x, int axis) {
  const Check check("moments");
  const Plan plan(x, check.axis_of(x, axis));
  std::vector<ChannelMoments> result(static_cast<std::size_t>(plan.channels));
  if (plan.count == 0) return result;

  const int threads = threads_for(x.size() * size_of(x.dtype));
  const Operand operand(x, plan, threads);
  const Verbs& kernel = verbs(x.dtype, plan.layout);
  BlockMoments blocks(plan);
  reduce_all(plan, threads, [&](const Tile& tile, std::int64_t block, int worker) {
    blocks.reduce(kernel, operand, tile, block, worker);
  });
  auto merge_channel = [&](std::int64_t channel, int) {
    result[static_cast<std::size_t>(channel)] = blocks.merged(channel);
  };
  parallel_for(plan.channels, threads, merge_channel);
  return result;
}

}  // namespace bnpp
