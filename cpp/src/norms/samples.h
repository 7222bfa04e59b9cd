// The shape of a norm whose statistics are those of groups of channels of each sample: every group
// is reduced, finished and mapped on its own.
//
// With groups (or, in layout cols, samples) enough for the threads, each thread takes one after the
// other through all three steps, while it is in its cache. With few, the threads share every
// sample's blocks, step by step. Either way the blocks, and so the bits, are the same.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "norms/plan.h"
#include "norms/schedule.h"
#include "runtime/parallel.h"

namespace bnpp {

/// The samples in a few runs, within which sums over samples are added one by one. Their borders
/// follow from the number of samples alone.
struct SampleRuns {
  explicit SampleRuns(std::int64_t samples) : samples_(samples) {
    constexpr std::int64_t kRuns = 64;  // more than that bring threads nothing, but take memory
    length_ = std::max<std::int64_t>(1, (samples + kRuns - 1) / kRuns);
    count = (samples + length_ - 1) / length_;
  }
  std::int64_t begin(std::int64_t run) const { return run * length_; }
  std::int64_t end(std::int64_t run) const { return std::min(begin(run + 1), samples_); }
  std::int64_t of(std::int64_t sample) const { return sample / length_; }

  std::int64_t count;

 private:
  std::int64_t samples_, length_;
};

/// How samples are normalized: `sums` is the plan of what is reduced, with the same number of
/// channels in every one of the `groups`, `plan` that of what is mapped. `together` keeps the
/// groups of a sample together, as its weights are read for all of them at once.
struct SamplePlans {
  const Plan &sums, &plan;
  std::int64_t groups;
  bool together = false;

  bool by_group() const {
    return sums.layout == Layout::rows && plan.layout == Layout::rows && !together;
  }
};

inline Tile of_sample(Tile tile, std::int64_t sample) {
  tile.sample = sample;
  return tile;
}

/// One sample, whose blocks the threads share.
template <class Work>
void share_sample(const SamplePlans& plans, int threads, Work& work, std::int64_t sample) {
  work.start(sample, 0, plans.groups);
  reduce_all(plans.sums, threads, [&](const Tile& tile, std::int64_t block, int worker) {
    work.reduce(of_sample(tile, sample), block, worker);
  });
  auto finish = [&](std::int64_t group, int) { work.finish(sample, group, group + 1); };
  parallel_for(plans.groups, threads, finish);
  // What was read last is in the cache still.
  const auto map = [&](const Tile& tile, int worker) { work.map(of_sample(tile, sample), worker); };
  map_all(plans.plan, threads, map, Order::backward);
}

/// One group of a sample by one thread, where both layouts are rows.
template <class Work>
void do_group(const SamplePlans& plans, Work& work, std::int64_t sample, std::int64_t group) {
  const auto for_each_tile = [&](const Plan& plan, auto visit) {
    const std::int64_t channels = plan.channels / plans.groups;
    for (std::int64_t c = group * channels; c < (group + 1) * channels; ++c) {
      for (std::int64_t b = 0; b < plan.blocks; ++b) visit(of_sample(plan.tile(c, b), sample), b);
    }
  };
  work.start(sample, group, group + 1);
  for_each_tile(plans.sums, [&](const Tile& tile, std::int64_t b) { work.reduce(tile, b, 0); });
  work.finish(sample, group, group + 1);
  for_each_tile(plans.plan, [&](const Tile& tile, std::int64_t) { work.map(tile, 0); });
}

/// One sample by one thread.
template <class Work>
void do_sample(const SamplePlans& plans, Work& work, std::int64_t sample) {
  const Plan &sums = plans.sums, &plan = plans.plan;
  work.start(sample, 0, plans.groups);
  for (std::int64_t b = 0; b < sums.blocks; ++b) {
    for (std::int64_t g = 0; g < sums.groups; ++g) {
      work.reduce(of_sample(sums.tile(g, b), sample), b, 0);
    }
  }
  work.finish(sample, 0, plans.groups);
  for (std::int64_t t = 0; t < plan.tiles_in_memory_order(); ++t) {
    work.map(of_sample(plan.tile_in_memory_order(t), sample), 0);
  }
}

/// `make(workers)` makes the work of one sample at a time, which `workers` threads may share:
///   start(sample, begin, end) for the groups [begin, end) of a sample,
///   reduce(tile, block, worker) for their blocks, finish(sample, begin, end), map(tile, worker).
/// No group is finished twice at once, and the samples of a run are finished in their order.
template <class Make>
void for_each_sample(const SamplePlans& plans, int threads, Make make) {
  // Below this many units a thread, uneven shares would leave threads idle.
  constexpr int kUnitsPerThread = 4;

  const std::int64_t samples = plans.plan.samples;
  const SampleRuns runs(samples);
  const std::int64_t units = plans.by_group() ? plans.groups : 1;  // of a run
  if (threads > 1 && runs.count * units < kUnitsPerThread * threads) {
    const auto work = make(threads);
    for (std::int64_t n = 0; n < samples; ++n) share_sample(plans, threads, *work, n);
    return;
  }
  std::vector<decltype(make(1))> works(static_cast<std::size_t>(threads));
  for (auto& work : works) work = make(1);
  auto unit = [&](std::int64_t unit, int worker) {
    auto& work = *works[static_cast<std::size_t>(worker)];
    const std::int64_t run = unit / units;
    for (std::int64_t n = runs.begin(run); n < runs.end(run); ++n) {
      plans.by_group() ? do_group(plans, work, n, unit % units) : do_sample(plans, work, n);
    }
  };
  parallel_for(runs.count * units, threads, unit);
}

}  // namespace bnpp
