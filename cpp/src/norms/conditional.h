// What the forward and the backward of conditional batch normalization share: parameters of every
// sample, matrices (N, C), and the order in which samples are worked on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "bnpp/conditional_batch_norm.h"
#include "norms/check.h"
#include "norms/plan.h"
#include "norms/schedule.h"

namespace bnpp {

inline std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

inline int channel_axis_of(const Check& check, const ConstTensor& x, int axis) {
  const int from_start = check.axis_of(x, axis);
  if (from_start == 0) {
    check.refuse("axis is ", axis, ", where the samples lie, but the channels need another axis");
  }
  return from_start;
}

// ---- Matrices (N, C): a row for each sample.

inline void check_matrix(const Check& check, const ConstTensor& m, const ConstTensor& x, int axis,
                         const char* name) {
  if (!m.given() || (m.ndim == 2 && m.shape[0] == x.shape[0] && m.shape[1] == x.shape[axis]))
    return;
  check.refuse(name, " has shape ", shape_text(m), ", but it needs (", x.shape[0], ", ",
               x.shape[axis], "): a row for each sample, a value for each channel");
}

template <class Void>
BasicTensor<Void> row(const BasicTensor<Void>& matrix, std::int64_t n) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
  BasicTensor<Void> row;
  row.data = static_cast<Byte*>(matrix.data) + n * matrix.strides[0];
  row.dtype = matrix.dtype;
  row.ndim = 1;
  row.shape[0] = matrix.shape[1];
  row.strides[0] = matrix.strides[1];
  return row;
}

inline ChannelVector read_matrix(const Check& check, const ConstTensor& m, const ConstTensor& x,
                                 int axis, const char* name, double fallback) {
  check_matrix(check, m, x, axis, name);
  ChannelVector values(index(x.shape[0] * x.shape[axis]), fallback);
  for (std::int64_t n = 0; m.given() && n < x.shape[0]; ++n) {
    const ChannelVector one = check.vector(row(m, n), x, axis, name, fallback);
    std::copy(one.begin(), one.end(), values.begin() + n * x.shape[axis]);
  }
  return values;
}

inline void write_matrix(const Tensor& m, const ChannelVector& values) {
  if (!m.given()) return;
  for (std::int64_t n = 0; n < m.shape[0]; ++n) {
    write_vector(row(m, n), values.data() + n * m.shape[1]);
  }
}

// ---- What the passes share.

/// Block `block` of a group of channels of one sample.
inline Tile tile_of(const Plan& samples, std::int64_t sample, std::int64_t group,
                    std::int64_t block) {
  Tile tile = samples.tile(group, block);
  tile.sample = sample;
  return tile;
}

// Whether a thread takes one group of channels after the other through all steps, so that its map
// finds in the cache what its sums have read.
inline bool group_by_group(const Plan& samples, std::int64_t value_bytes, int threads) {
  // Below this many groups a thread, uneven shares would leave threads idle.
  constexpr int kGroupsPerThread = 4;

  return samples.group_fits_cache(value_bytes * samples.samples, threads) &&
         (threads == 1 || samples.groups >= kGroupsPerThread * threads);
}

/// The map of a group of channels of all samples. Works have start(sample, begin, end) for the
/// parameters of these channels, and map(tile).
template <class Work>
void map_group(const Plan& samples, std::int64_t group, Work& work) {
  for (std::int64_t sample = samples.samples; sample-- > 0;) {
    work.start(sample, samples.group_begin(group), samples.group_end(group));
    for (std::int64_t b = samples.blocks; b-- > 0;) work.map(tile_of(samples, sample, group, b));
  }
}

/// The map of everything, shared by the threads; works[i] is worker i's.
template <class Work>
void map_samples(const Plan& samples, const std::vector<std::unique_ptr<Work>>& works,
                 Order order) {
  const auto threads = static_cast<int>(works.size());
  const std::int64_t tiles = samples.tiles_in_memory_order();
  std::vector<std::int64_t> current(works.size(), -1);  // the sample whose parameters are set
  auto task = [&](std::int64_t task, int worker) {
    Tile tile = samples.tile_in_memory_order(task % tiles);
    tile.sample = task / tiles;
    const std::size_t w = index(worker);
    if (current[w] != tile.sample) works[w]->start(tile.sample, 0, samples.channels);
    current[w] = tile.sample;
    works[w]->map(tile);
  };
  parallel_for(samples.samples * tiles, threads, task, order);
}

/// make() for each worker.
template <class Make>
auto works_for(int threads, Make make) {
  std::vector<decltype(make())> works(index(threads));
  for (auto& work : works) work = make();
  return works;
}

}  // namespace bnpp
