// The moments of rows, and the merging of those of their pieces.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/table.h"
#include "norms/moments.h"
#include "norms/operand.h"
#include "norms/row_plan.h"
#include "runtime/dispatch.h"

namespace bnpp {

/// The moments of rows, piece by piece.
class RowMoments {
 public:
  RowMoments(const RowPlan& plan, const Operand& x, const Operand& weights, DType dtype,
             bool weighted, int threads)
      : plan_(plan),
        x_(x),
        weights_(weights),
        dtype_(dtype),
        weighted_(weighted),
        values_(plan, weighted ? 6 : 5, threads) {}

  void reduce(const Tile& tile, std::int64_t piece, int worker) {
    const Operand::View x = x_.read(tile, worker), w = weights_.read(tile, worker);
    const std::int64_t rows = plan_.rows(tile), cols = plan_.cols(tile);
    const BlockSums to = sums(tile, piece, worker);
    if (weighted_) {
      row_verbs(dtype_).weighted_moments(
          {x.data, w.data, x.stride, w.stride, rows, cols, to, weight(tile, piece, worker)});
      return;
    }
    row_verbs(dtype_).moments({x.data, x.stride, rows, cols, 1, to, false, false});
  }

  /// Merges the pieces of a tile's rows in a fixed tree.
  MomentsView merge(const Tile& tile, int worker) {
    if (weighted_) return merge_weighted(tile, worker);
    const KernelTable& kernel = kernels();
    const std::int64_t rows = plan_.rows(tile);
    for (std::int64_t p = 0; p < plan_.pieces; ++p) {
      kernel.moments_of_sums(sums(tile, p, worker), plan_.piece_count(p, p + 1), rows,
                             moments_at(sums(tile, p, worker)));
    }
    for_each_pair_of_blocks(plan_.pieces, [&](std::int64_t a, std::int64_t b) {
      const std::int64_t end = std::min(2 * b - a, plan_.pieces);
      kernel.merge_moments(moments_at(sums(tile, a, worker)), plan_.piece_count(a, b),
                           moments_at(sums(tile, b, worker)), plan_.piece_count(b, end), rows);
    });
    return moments_at(sums(tile, 0, worker));
  }

  /// The weights' sums, once merged.
  const double* weight(const Tile& tile, int worker) const {
    return weighted_ ? weight(tile, 0, worker) : nullptr;
  }

 private:
  // The same where each row has counts of its own: row by row.
  MomentsView merge_weighted(const Tile& tile, int worker) {
    const KernelTable& kernel = kernels();
    for (std::int64_t i = 0; i < plan_.rows(tile); ++i) {
      const auto moments = [&](std::int64_t p) {
        return moments_at(row_of(sums(tile, p, worker), i));
      };
      const auto count = [&](std::int64_t p) -> double& { return weight(tile, p, worker)[i]; };
      for (std::int64_t p = 0; p < plan_.pieces; ++p) {
        const MomentsView to = moments(p);
        if (count(p) > 0) {
          kernel.moments_of_sums(row_of(sums(tile, p, worker), i), count(p), 1, to);
        } else {
          *to.mean = *to.mean_low = *to.m2 = *to.m2_low = 0;
        }
      }
      for_each_pair_of_blocks(plan_.pieces, [&](std::int64_t a, std::int64_t b) {
        const MomentsView to = moments(a), from = moments(b);
        if (!(count(b) > 0)) return;
        if (count(a) > 0) {
          kernel.merge_moments(to, count(a), from, count(b), 1);
        } else {
          *to.mean = *from.mean;
          *to.mean_low = *from.mean_low;
          *to.m2 = *from.m2;
          *to.m2_low = *from.m2_low;
        }
        count(a) += count(b);
      });
    }
    return moments_at(sums(tile, 0, worker));
  }

  BlockSums sums(const Tile& t, std::int64_t piece, int worker) const {
    const auto field = [&](int k) { return values_.at(k, piece, t, worker); };
    return {field(0), field(1), field(2), field(3), field(4)};
  }
  double* weight(const Tile& t, std::int64_t piece, int worker) const {
    return values_.at(5, piece, t, worker);
  }
  static BlockSums row_of(const BlockSums& s, std::int64_t i) {
    return {s.shift + i, s.s1 + i, s.s1_low + i, s.s2 + i, s.s2_low + i};
  }
  // In the place of the first four of the five sums.
  static MomentsView moments_at(const BlockSums& s) { return {s.shift, s.s1, s.s1_low, s.s2}; }

  const RowPlan& plan_;
  const Operand &x_, &weights_;
  DType dtype_;
  bool weighted_;
  PieceValues values_;
};

}  // namespace bnpp
