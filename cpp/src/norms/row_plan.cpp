#include "norms/row_plan.h"

#include <algorithm>

namespace bnpp {
namespace {

// Values of a tile: their rows lie in the first-level cache from the moments to the map (32 KiB of
// float32).
constexpr std::int64_t kTileValues = 8192;
// At least as many rows as the kernel adds up before it touches the columns' sums.
constexpr std::int64_t kTileRowsMin = 4;
// The same where rows lie side by side in memory: those of a cache line go together.
constexpr std::int64_t kNeighbours = 16;
// Columns of a piece: their parameters and sums fit the second-level cache beside the data.
constexpr std::int64_t kPieceColumns = 8192;
// Borders inside a row lie on multiples of this, so that vectors are whole.
constexpr std::int64_t kPieceAlign = 64;
// Blocks of rows, each with sums of its own for every column: enough for many threads, few enough
// that the sums are small beside the data. So the least rows of a block, too.
constexpr std::int64_t kBlocks = 64, kBlockRowsMin = 16;
// Bytes of a tile's rows that stay in the second-level cache.
constexpr std::int64_t kRowsInCache = 1 << 20;
// Below this many blocks a thread, uneven shares would leave threads idle.
constexpr int kBlocksPerThread = 4;
// Float64 numbers of a cache line.
constexpr std::int64_t kLine = 8;

}  // namespace

RowPlan::RowPlan(const ConstTensor& x, const std::vector<int>& features) : Plan(Layout::rows) {
  for (const int d : features) inner *= x.shape[d];
  for (int d = 0; d < x.ndim; ++d) {
    if (std::find(features.begin(), features.end(), d) == features.end()) outer *= x.shape[d];
  }
  const Axes sorted = axes_in_memory(x);
  for (int k = 0; k < sorted.n; ++k) {
    const int d = sorted.axis[k];
    const bool feature = std::find(features.begin(), features.end(), d) != features.end();
    Axes& axes = feature ? inner_axes : outer_axes;
    axes.axis[axes.n++] = d;
  }
  count = outer * inner;
  if (count == 0) return;

  pieces = ceil_div(inner, kPieceColumns);
  piece_length_ =
      pieces == 1 ? inner : ceil_div(ceil_div(inner, pieces), kPieceAlign) * kPieceAlign;
  pieces = pieces_ = ceil_div(inner, piece_length_);
  const std::int64_t rows = kTileValues / inner;
  const bool side_by_side =
      outer_axes.n > 0 && sorted.axis[sorted.n - 1] == outer_axes.axis[outer_axes.n - 1];
  const std::int64_t least = side_by_side ? kNeighbours : kTileRowsMin;
  tile_rows = std::clamp(rows - rows % least, least, kTileRowsMax);
  row_tiles = ceil_div(outer, tile_rows);
  const std::int64_t most = std::max<std::int64_t>(1, outer / kBlockRowsMin);
  const std::int64_t wanted = std::clamp<std::int64_t>(kBlocks / pieces, 1, most);
  block_tiles_ = ceil_div(row_tiles, wanted);
  row_blocks = ceil_div(row_tiles, block_tiles_);
  groups = group_channels_ = 1;
  runs_per_block_ = tile_rows;
  blocks = row_tiles * pieces;
}

std::int64_t RowPlan::tiles_end(std::int64_t block) const {
  return std::min(tiles_begin(block + 1), row_tiles);
}

bool RowPlan::rows_in_one_go(std::int64_t value_bytes, int threads) const {
  if (pieces == 1) return true;
  const bool enough = threads == 1 || row_blocks >= kBlocksPerThread * threads;
  return enough && tile_rows * inner * value_bytes <= kRowsInCache;
}

ColumnArray::ColumnArray(std::int64_t arrays, std::int64_t columns)
    : stride_(ceil_div(columns, kLine) * kLine),
      memory_(static_cast<std::size_t>(arrays * stride_ + kLine)) {
  const auto past = reinterpret_cast<std::uintptr_t>(memory_.data()) / sizeof(double) % kLine;
  first_ = memory_.data() + (kLine - static_cast<std::int64_t>(past));
}

ColumnArray::ColumnArray(const std::vector<double>& values)
    : ColumnArray(1, static_cast<std::int64_t>(values.size())) {
  std::copy(values.begin(), values.end(), first_);
}

PieceValues::PieceValues(const RowPlan& plan, int fields, int threads) : plan_(plan) {
  worker_rows_ = ceil_div(plan.tile_rows, kLine) * kLine;  // so that workers share no line
  rows_ = plan.pieces == 1 ? worker_rows_ * threads : plan.outer;
  values_.resize(static_cast<std::size_t>(fields * plan.pieces * rows_));
}

}  // namespace bnpp
