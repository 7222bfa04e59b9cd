// From shape and strides to {layout, outer, channels, inner}, blocks and tiles. All choices that a
// bit of a result depends on live here; the recipes do not know why.
//
// The axes of x that lie outside the channel axis in memory (larger strides) are `outer`, those
// inside it are `inner`, whatever their order in the shape; so NCHW, NHWC, Fortran order and any
// permutation are walked as they lie. Long runs of a channel are layout `rows`; where a channel's
// runs are short (7 x 7 planes) or single values (NHWC), a row of all channels is layout `cols`,
// with `inner` columns a channel.
//
// Block borders depend on the shape and memory order of x alone, never on the number of threads or
// on the instruction set: the partial sums, and so the bits of every result, are the same for all.
#pragma once

#include <cstdint>

#include "bnpp/tensor.h"
#include "kernels/table.h"

namespace bnpp {

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// A part of the data: channels [c0, c1), outer positions [o0, o1), inner positions [i0, i1). In
/// layout rows it has one channel, in layout cols all inner positions. Where the plan is that of
/// each sample, it lies in one of them.
struct Tile {
  std::int64_t c0, c1, o0, o1, i0, i1;
  std::int64_t sample = 0;
};

struct Axes {
  int n = 0;
  int axis[kMaxDims] = {};  // major to minor
};

/// The axes of more than one element as they lie in memory, those with the largest strides first.
Axes axes_in_memory(const ConstTensor& x);

class Plan {
 public:
  /// `axis` must be in [0, x.ndim).
  Plan(const ConstTensor& x, int axis);
  /// The plan of every sample x[n:n+1], which is the same for all; `axis` is not 0.
  static Plan of_samples(ConstTensor x, int axis);

  Layout layout;
  std::int64_t outer, channels, inner;
  std::int64_t count;  // values a channel: outer * inner
  std::int64_t groups = 0, blocks = 0;
  std::int64_t samples = 1;  // more than one only for a plan of samples
  int channel_axis;          // -1: there is one channel, and no axis of it
  Axes outer_axes, inner_axes;

  std::int64_t group_begin(std::int64_t group) const { return group * group_channels_; }
  std::int64_t group_end(std::int64_t group) const;

  /// Block `block` of the channels of group `group`.
  Tile tile(std::int64_t group, std::int64_t block) const;

  /// Whether the groups of all threads are still in the cache when they have been read once, in
  /// tensors of `value_bytes` bytes a value.
  bool group_fits_cache(std::int64_t value_bytes, int threads) const;

  /// The same data for maps that go through memory as it lies: whole rows, of whose channels the
  /// kernels walk run after run. Only where `has_long_runs`.
  Plan of_whole_rows() const;
  bool has_long_runs(bool has_mask) const;
  bool whole_rows = false;

  /// All data again, where channels need not come together: single runs or whole rows.
  Tile tile_in_memory_order(std::int64_t index) const;
  std::int64_t tiles_in_memory_order() const;

  /// Rows and columns of a tile, as the kernels see it.
  std::int64_t rows(const Tile& t) const { return t.o1 - t.o0; }
  std::int64_t cols(const Tile& t) const {
    return layout == Layout::rows ? t.i1 - t.i0 : (t.c1 - t.c0) * inner;
  }
  std::int64_t max_tile_size() const;
  /// Whether rows are narrow, and all of a row's channels one group: see MomentsTile.
  bool has_narrow_rows() const {
    return layout == Layout::cols && inner == 1 && is_narrow(channels);
  }
  /// Whether a tile of a few tensors stays in the second-level cache while it is read repeatedly.
  bool is_small(const Tile& t) const;

  /// The ReLU bits: one row of whole bytes for each row of the data.
  std::int64_t mask_bytes() const;
  std::int64_t mask_offset(const Tile& t) const;
  std::int64_t mask_stride() const;

 protected:
  explicit Plan(Layout layout)
      : layout(layout), outer(1), channels(1), inner(1), channel_axis(-1) {}

  std::int64_t group_channels_ = 0;
  std::int64_t runs_per_block_ = 0;  // outer positions of a block
  std::int64_t pieces_ = 1;          // blocks a run is cut into (rows, long runs)
  std::int64_t piece_length_ = 0;    // inner positions of a block
  // Of a tile in memory order in layout cols; 0 where it is a block of a group.
  std::int64_t map_rows_ = 0, map_channels_ = 0;

 private:
  std::int64_t mask_row() const;
  std::int64_t group_of_columns(std::int64_t wanted) const;
};

}  // namespace bnpp
