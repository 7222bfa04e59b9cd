#include "norms/plan.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "runtime/memory.h"

namespace bnpp {
namespace {

// Values a block of layout rows holds: enough that merging its partial sums costs nothing beside
// reading it (64 KiB of float32), small enough to spread few channels over many threads.
constexpr std::int64_t kRowsBlock = 32768;
// Borders inside a run lie on multiples of this, so that vectors and mask bytes never straddle
// them.
constexpr std::int64_t kPieceAlign = 64;
// Runs up to this long are columns: below it, partial vectors and the start of each run cost more
// than reading parameters for every column does.
constexpr std::int64_t kShortRun = 256;
// The same where a channel has one run only, so that no other row shares what a row of columns
// reads.
constexpr std::int64_t kShortSingleRun = 96;
// Columns of a group of layout cols: its parameters and sums fit the first-level cache, and its
// rows are long enough to be read as a stream.
constexpr std::int64_t kColsColumns = kTileColumns, kColsColumnsMin = 256;
// Groups of channels start on multiples of this, so that their vectors are whole and aligned.
constexpr std::int64_t kGroupAlign = 16;
// Rows of a block of layout cols: enough that merging blocks costs little, at least this many
// blocks if the rows suffice.
constexpr std::int64_t kColsRowsMin = 512, kColsRowsMax = 8192, kColsBlocks = 32;
// The part of the last-level cache that the groups in work may take.
constexpr std::int64_t kGroupsPart = 2;
// Values of a tile that stays in the second-level cache, with those of two more tensors.
constexpr std::int64_t kSmallTile = 32768;
// Values of a tile of whole rows.
constexpr std::int64_t kMapTile = 65536;
// The same where runs are walked by themselves, and nothing is to be shared by many rows: small
// enough to be shared by many threads.
constexpr std::int64_t kRunsTile = 16384;
// Tiles to have for threads to share, if the channels suffice.
constexpr std::int64_t kColsTasks = 8;

// The fewest channels whose columns' mask bits fill whole bytes.
std::int64_t byte_channels(std::int64_t inner) { return 8 / std::gcd(std::int64_t{8}, inner); }

}  // namespace

Axes axes_in_memory(const ConstTensor& x) {
  Axes sorted;
  for (int d = 0; d < x.ndim; ++d) {
    if (x.shape[d] != 1) sorted.axis[sorted.n++] = d;
  }
  std::stable_sort(sorted.axis, sorted.axis + sorted.n,
                   [&](int a, int b) { return std::abs(x.strides[a]) > std::abs(x.strides[b]); });
  return sorted;
}

std::int64_t Plan::group_of_columns(std::int64_t wanted) const {
  const std::int64_t most = kColsColumns / inner;
  const std::int64_t align = most >= kGroupAlign ? kGroupAlign : byte_channels(inner);
  const std::int64_t least = std::max(wanted, ceil_div(kColsColumnsMin, inner));
  return std::min(ceil_div(least, align) * align, most - most % align);
}

Plan::Plan(const ConstTensor& x, int axis) : outer(1), inner(1), channel_axis(axis) {
  channels = x.shape[axis];
  const Axes sorted = axes_in_memory(x);
  for (int k = 0; k < sorted.n; ++k) {
    const int d = sorted.axis[k];
    if (d == axis) continue;
    const bool inside = channels == 1 || std::abs(x.strides[d]) < std::abs(x.strides[axis]);
    Axes& axes = inside ? inner_axes : outer_axes;
    axes.axis[axes.n++] = d;
    (inside ? inner : outer) *= x.shape[d];
  }
  count = outer * inner;
  const bool short_runs = inner <= (outer > 1 ? kShortRun : kShortSingleRun) &&
                          byte_channels(inner) * inner <= kColsColumns;
  layout = short_runs && channels > 1 ? Layout::cols : Layout::rows;
  if (count == 0 || channels == 0) return;

  piece_length_ = inner;
  if (layout == Layout::cols) {
    const std::int64_t rows = std::clamp(ceil_div(outer, kColsBlocks), kColsRowsMin, kColsRowsMax);
    blocks = ceil_div(outer, rows);
    runs_per_block_ = ceil_div(outer, blocks);
    blocks = ceil_div(outer, runs_per_block_);
    // Wider rows are mapped in groups, whose parameters stay in the first-level cache.
    if (channels * inner <= kColsColumns) {
      map_rows_ = kMapTile / (channels * inner);
      map_channels_ = channels;
    }
    group_channels_ = group_of_columns(ceil_div(channels, ceil_div(kColsTasks, blocks)));
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

bool Plan::has_long_runs(bool has_mask) const {
  return channels > 1 && inner >= kRunColumns && inner <= kRunsTile &&
         (!has_mask || inner % 8 == 0);
}

Plan Plan::of_whole_rows() const {
  Plan plan = *this;
  plan.layout = Layout::cols;
  plan.whole_rows = true;
  plan.map_channels_ = std::min(channels, kRunsTile / inner);
  plan.map_rows_ = std::min(outer, kRunsTile / (plan.map_channels_ * inner));
  return plan;
}

Plan Plan::of_samples(ConstTensor x, int axis) {
  const std::int64_t samples = x.shape[0];
  x.shape[0] = 1;
  Plan plan(x, axis);
  plan.samples = samples;
  return plan;
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

// A channel in rows is read as a stream either way; a group of columns that is read twice from
// memory is better read as whole rows.
bool Plan::group_fits_cache(std::int64_t value_bytes, int threads) const {
  return layout == Layout::rows ||
         count * group_channels_ * value_bytes * threads <= last_level_cache() / kGroupsPart;
}

Tile Plan::tile_in_memory_order(std::int64_t index) const {
  if (layout == Layout::cols) {
    if (map_rows_ == 0) return tile(index % groups, index / groups);
    const std::int64_t parts = ceil_div(channels, map_channels_);
    const std::int64_t c0 = index % parts * map_channels_, o0 = index / parts * map_rows_;
    return {c0,   std::min(c0 + map_channels_, channels), o0, std::min(o0 + map_rows_, outer), 0,
            inner};
  }
  const std::int64_t run = index / pieces_, i0 = index % pieces_ * piece_length_;
  const std::int64_t c = run % channels, o = run / channels;
  return {c, c + 1, o, o + 1, i0, std::min(i0 + piece_length_, inner)};
}

std::int64_t Plan::tiles_in_memory_order() const {
  if (layout == Layout::rows) return outer * channels * pieces_;
  if (map_rows_ == 0) return groups * blocks;
  return ceil_div(outer, map_rows_) * ceil_div(channels, map_channels_);
}

std::int64_t Plan::max_tile_size() const {
  return std::max(group_channels_ * runs_per_block_ * piece_length_,
                  map_rows_ * map_channels_ * inner);
}

bool Plan::is_small(const Tile& t) const { return rows(t) <= 1 || rows(t) * cols(t) <= kSmallTile; }

std::int64_t Plan::mask_row() const {
  return ceil_div(layout == Layout::rows ? inner : channels * inner, 8);
}

std::int64_t Plan::mask_stride() const {
  return layout == Layout::rows ? channels * mask_row() : mask_row();
}

std::int64_t Plan::mask_bytes() const { return samples * outer * mask_stride(); }

std::int64_t Plan::mask_offset(const Tile& t) const {
  const std::int64_t in_row =
      layout == Layout::rows ? t.c0 * mask_row() + t.i0 / 8 : t.c0 * inner / 8;
  return (t.sample * outer + t.o0) * mask_stride() + in_row;
}

}  // namespace bnpp
