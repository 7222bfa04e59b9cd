// The two shapes every norm has: reduce, finish, map (training and backward), or map alone
// (inference).
//
// With channel groups enough for the threads each thread takes a group through all three steps, so
// that the map reads what the reduction just brought into its cache. With few groups the threads
// share every group's blocks, step by step. Either way the blocks, and so the bits, are the same.
#pragma once

#include <cstdint>

#include "norms/plan.h"
#include "runtime/parallel.h"

namespace bnpp {

/// map(tile, worker) for all tiles, in the order in which they lie in memory, or against it.
template <class Map>
void map_all(const Plan& plan, int threads, Map map, Order order = Order::forward) {
  auto task = [&](std::int64_t task, int worker) { map(plan.tile_in_memory_order(task), worker); };
  parallel_for(plan.tiles_in_memory_order(), threads, task, order);
}

/// reduce(tile, block, worker) for every block of every group, about as they lie in memory.
template <class Reduce>
void reduce_all(const Plan& plan, int threads, Reduce reduce) {
  auto task = [&](std::int64_t task, int worker) {
    const std::int64_t block = task / plan.groups, group = task % plan.groups;
    reduce(plan.tile(group, block), block, worker);
  };
  parallel_for(plan.groups * plan.blocks, threads, task);
}

/// reduce(tile, block, worker), then finish(first channel, last channel), then map(tile, worker),
/// for tensors of `value_bytes` bytes a value, all of them together. Tiles of maps are those of
/// `maps`, which may be the plan itself.
template <class Reduce, class Finish, class Map>
void reduce_finish_map(const Plan& plan, const Plan& maps, int threads, std::int64_t value_bytes,
                       Reduce reduce, Finish finish, Map map) {
  // Below this many groups a thread, uneven shares would leave threads idle.
  constexpr int kGroupsPerThread = 4;

  auto finish_group = [&](std::int64_t group, int) {
    finish(plan.group_begin(group), plan.group_end(group));
  };
  if (!maps.whole_rows && plan.group_fits_cache(value_bytes, threads) &&
      (threads == 1 || plan.groups >= kGroupsPerThread * threads)) {
    auto whole_group = [&](std::int64_t group, int worker) {
      for (std::int64_t b = 0; b < plan.blocks; ++b) reduce(plan.tile(group, b), b, worker);
      finish_group(group, worker);
      for (std::int64_t b = 0; b < plan.blocks; ++b) map(plan.tile(group, b), worker);
    };
    parallel_for(plan.groups, threads, whole_group);
    return;
  }
  reduce_all(plan, threads, reduce);
  parallel_for(plan.groups, threads, finish_group);
  // What was read last is in the cache still; whole rows are mapped as processors foresee them.
  const Order order = maps.whole_rows ? Order::forward : Order::backward;
  map_all(maps, threads, map, order);
}

}  // namespace bnpp
