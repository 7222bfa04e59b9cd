#include "norms/plan.h"

#include <algorithm>
#include <cstdlib>

namespace bnpp {
namespace {

// Values a block of layout rows holds: enough that merging its partial sums costs nothing beside
// reading it (64 KiB of float32), small enough to spread few channels over many threads.
constexpr std::int64_t kRowsBlock = 32768;
// Borders inside a run lie on multiples of this, so that vectors and mask bytes never straddle
// them.
constexpr std::int64_t kPieceAlign = 64;
// Rows and channels of a block of layout cols.
constexpr std::int64_t kColsBlock = 4096;
constexpr std::int64_t kColsChannels = 128;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

Plan::Plan(const ConstTensor& x, int axis) : outer(1), inner(1), channel_axis(axis) {
  channels = x.shape[axis];
  Axes sorted;
  for (int d = 0; d < x.ndim; ++d) {
    if (d != axis && x.shape[d] != 1) sorted.axis[sorted.n++] = d;
  }
  std::stable_sort(sorted.axis, sorted.axis + sorted.n,
                   [&](int a, int b) { return std::abs(x.strides[a]) > std::abs(x.strides[b]); });
  for (int k = 0; k < sorted.n; ++k) {
    const int d = sorted.axis[k];
    const bool inside = channels == 1 || std::abs(x.strides[d]) < std::abs(x.strides[axis]);
    Axes& axes = inside ? inner_axes : outer_axes;
    axes.axis[axes.n++] = d;
    (inside ? inner : outer) *= x.shape[d];
  }
  count = outer * inner;
  layout = inner_axes.n == 0 && channels > 1 ? Layout::cols : Layout::rows;
  if (count == 0 || channels == 0) return;

  piece_length_ = inner;
  if (layout == Layout::cols) {
    group_channels_ = std::min(kColsChannels, channels);
    runs_per_block_ = std::min(kColsBlock, outer);
    blocks = ceil_div(outer, runs_per_block_);
  } else if (inner <= kRowsBlock) {
    group_channels_ = 1;
    runs_per_block_ = std::min(std::max<std::int64_t>(1, kRowsBlock / inner), outer);
    blocks = ceil_div(outer, runs_per_block_);
  } else {
    group_channels_ = 1;
    runs_per_block_ = 1;
    piece_length_ =
        ceil_div(ceil_div(inner, ceil_div(inner, kRowsBlock)), kPieceAlign) * kPieceAlign;
    pieces_ = ceil_div(inner, piece_length_);
    blocks = outer * pieces_;
  }
  groups = ceil_div(channels, group_channels_);
}

std::int64_t Plan::group_end(std::int64_t group) const {
  return std::min(group_begin(group + 1), channels);
}

Tile Plan::tile(std::int64_t group, std::int64_t block) const {
  const std::int64_t o0 = block / pieces_ * runs_per_block_;
  const std::int64_t i0 = block % pieces_ * piece_length_;
  return {group_begin(group),
          group_end(group),
          o0,
          std::min(o0 + runs_per_block_, outer),
          i0,
          std::min(i0 + piece_length_, inner)};
}

std::int64_t Plan::max_tile_size() const {
  return group_channels_ * runs_per_block_ * piece_length_;
}

std::int64_t Plan::mask_row() const {
  return ceil_div(layout == Layout::rows ? inner : channels, 8);
}

std::int64_t Plan::mask_stride() const {
  return layout == Layout::rows ? channels * mask_row() : mask_row();
}

std::int64_t Plan::mask_bytes() const { return outer * mask_stride(); }

std::int64_t Plan::mask_offset(const Tile& t) const {
  const std::int64_t in_row = layout == Layout::rows ? t.c0 * mask_row() + t.i0 / 8 : t.c0 / 8;
  return t.o0 * mask_stride() + in_row;
}

}  // namespace bnpp
