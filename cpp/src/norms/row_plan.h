// From shape and strides to rows, columns, tiles and blocks, for norms that reduce over the
// features of each sample (layer norm): a row is a sample, its columns are the features, both in
// the order in which x's axes lie in memory. All choices that a bit of such a result depends on
// live here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bnpp/recycled.h"
#include "norms/plan.h"
#include "runtime/parallel.h"

namespace bnpp {

/// Rows of a tile at most.
inline constexpr std::int64_t kTileRowsMax = kTileRows;

class RowPlan : public Plan {
 public:
  /// `features` are ascending axes of x, in [0, x.ndim); they become the inner axes.
  RowPlan(const ConstTensor& x, const std::vector<int>& features);

  std::int64_t pieces = 1;      // that each row is cut into
  std::int64_t tile_rows = 0;   // rows of a tile, of one piece each
  std::int64_t row_tiles = 0;   // tiles above each other
  std::int64_t row_blocks = 0;  // each a few tiles above each other, whose columns' sums are one

  /// Piece `piece` of the rows of tile `tile`.
  Tile piece_of(std::int64_t tile, std::int64_t piece) const {
    return Plan::tile(0, tile * pieces + piece);
  }
  /// Values a row of pieces [begin, end).
  double piece_count(std::int64_t begin, std::int64_t end) const {
    return static_cast<double>(std::min(end * piece_length_, inner) - begin * piece_length_);
  }
  std::int64_t tiles_begin(std::int64_t block) const { return block * block_tiles_; }
  std::int64_t tiles_end(std::int64_t block) const;
  bool is_first_of_block(const Tile& t, std::int64_t block) const {
    return t.o0 == tiles_begin(block) * tile_rows;
  }

  /// Whether a tile's rows, of `value_bytes` bytes a value, are worked on in one go: they stay in
  /// the cache from the reduction to the map, and the blocks suffice for the threads.
  bool rows_in_one_go(std::int64_t value_bytes, int threads) const;

 private:
  std::int64_t block_tiles_ = 0;
};

/// `fields` float64 numbers for every piece of every row. Where a row is one piece, only those of
/// the tile that each worker is at.
class PieceValues {
 public:
  PieceValues(const RowPlan& plan, int fields, int threads);

  /// One number a row of the tile.
  double* at(int field, std::int64_t piece, const Tile& tile, int worker) const {
    const std::int64_t first = plan_.pieces == 1 ? worker * worker_rows_ : tile.o0;
    return values_.data() + (field * plan_.pieces + piece) * rows_ + first;
  }

 private:
  const RowPlan& plan_;
  std::int64_t worker_rows_, rows_;
  mutable ChannelVector values_;
};

/// Columns of float64 on whole cache lines, so that no vector straddles two.
class ColumnArray {
 public:
  ColumnArray(std::int64_t arrays, std::int64_t columns);
  explicit ColumnArray(const std::vector<double>& values);
  double* array(std::int64_t index) const { return first_ + index * stride_; }

 private:
  std::int64_t stride_;
  ChannelVector memory_;
  double* first_;
};

/// reduce(tile, piece, worker) for each piece of a tile's rows, then finish(tile, worker), then
/// map(tile, block, worker) for each piece: for all tiles of all blocks.
template <class Reduce, class Finish, class Map>
void reduce_finish_map_rows(const RowPlan& plan, int threads, std::int64_t value_bytes,
                            Reduce reduce, Finish finish, Map map) {
  const auto reduce_tile = [&](std::int64_t tile, std::int64_t piece, int worker) {
    reduce(plan.piece_of(tile, piece), piece, worker);
  };
  const auto map_tile = [&](std::int64_t tile, std::int64_t piece, std::int64_t block, int worker) {
    map(plan.piece_of(tile, piece), block, worker);
  };
  if (plan.rows_in_one_go(value_bytes, threads)) {
    auto whole_block = [&](std::int64_t block, int worker) {
      for (std::int64_t t = plan.tiles_begin(block); t < plan.tiles_end(block); ++t) {
        for (std::int64_t p = 0; p < plan.pieces; ++p) reduce_tile(t, p, worker);
        finish(plan.piece_of(t, 0), worker);
        for (std::int64_t p = 0; p < plan.pieces; ++p) map_tile(t, p, block, worker);
      }
    };
    parallel_for(plan.row_blocks, threads, whole_block);
    return;
  }
  auto reduce_task = [&](std::int64_t task, int worker) {
    reduce_tile(task / plan.pieces, task % plan.pieces, worker);
  };
  auto finish_task = [&](std::int64_t tile, int worker) { finish(plan.piece_of(tile, 0), worker); };
  auto map_task = [&](std::int64_t task, int worker) {
    const std::int64_t block = task / plan.pieces, piece = task % plan.pieces;
    for (std::int64_t t = plan.tiles_begin(block); t < plan.tiles_end(block); ++t) {
      map_tile(t, piece, block, worker);
    }
  };
  parallel_for(plan.row_tiles * plan.pieces, threads, reduce_task);
  parallel_for(plan.row_tiles, threads, finish_task);
  // What was read last is in the cache still.
  parallel_for(plan.row_blocks * plan.pieces, threads, map_task, Order::backward);
}

}  // namespace bnpp
