// Weights of a call: how much each element of x counts in the statistics. Their sums over blocks
// and channels, and where the weights of a tile lie: in place wherever they can be read there,
// which one weight a row of the tile and one for all channels can.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bnpp/tensor.h"
#include "kernels/table.h"
#include "norms/check.h"
#include "norms/operand.h"
#include "norms/plan.h"

namespace bnpp {

/// The dtype of the weights of tensors of a dtype.
DType weights_dtype(DType x);

/// `weights` seen in x's shape, with stride 0 where they are broadcast; not given stays so.
ConstTensor broadcast_weights(const Check& check, const ConstTensor& x, const ConstTensor& weights);

/// Names the first weight that is negative, Inf or NaN; returns if there is none.
void refuse_bad_weights(const Check& check, const ConstTensor& weights);

/// W = sum w and sum w^2 of a channel.
struct WeightSum {
  double sum = 0, squares = 0;
};

/// The correction of a weighted variance, W - sum w^2 / W, by which M2 is divided (for 0 and 1 as
/// weights n - 1); 0 where one value has all the weight, or none has any.
double unbiased_divisor(double sum, double squares);

class Weights {
 public:
  /// `weights` has the shape of x, whose dtype is `x_dtype`; or is not given.
  Weights(const ConstTensor& weights, DType x_dtype, const Plan& plan, int threads);

  bool given() const { return data_ != nullptr; }

  /// Sums up the weights of all blocks and channels; they are not finite where a weight is bad.
  void sum_up(int threads);
  WeightSum of_channel(std::int64_t channel) const {
    return total_[static_cast<std::size_t>(shared_ ? 0 : channel)];
  }
  /// The sums of weights of a block's channels from `channel` on, and their distance: 0 where all
  /// channels have the same weights.
  const double* counts(std::int64_t block, std::int64_t channel) const {
    return &sum_[static_cast<std::size_t>(shared_ ? block : block * plan_.channels + channel)];
  }
  std::int64_t count_step() const { return shared_ ? 0 : 1; }

  /// f(part) for the parts a tile is worked on in, by these verbs: the tile itself, or, where short
  /// runs of all channels have the same weights, its channels, each as a tile of rows.
  template <class F>
  void for_each_part(const Tile& tile, F f) const {
    if (!by_channel_) return f(tile);
    Tile part = tile;
    for (part.c0 = tile.c0; part.c0 < tile.c1; ++part.c0) {
      part.c1 = part.c0 + 1;
      f(part);
    }
  }
  const Verbs& verbs() const { return *verbs_; }
  /// The weights of such a part.
  WeightsTile read(const Tile& part, int worker) const;

  /// The rows of a block that have weight, and a few beside them (scattered rows without weight are
  /// cheaper read than left out): see WeightedMomentsTile. Where there is one weight a row in
  /// layout cols; else all rows.
  struct Rows {
    std::int64_t n;
    const std::int32_t* start;
  };
  Rows rows_with_weight(const Tile& tile, std::int64_t block) const;

 private:
  struct ListedRows {
    std::int64_t n = 0;
    std::vector<std::int32_t> start;
  };
  // What a worker has read last: with weights shared by all channels the next group's are the same.
  struct alignas(64) Held {
    Tile tile{0, -1, 0, 0, 0, 0};
    Operand::View view{nullptr, 0};
  };

  WeightsTile read_rows(const Tile& part, int worker) const;
  void list_rows(const Tile& tile, const WeightsTile& weights, std::int64_t block);

  const Plan& plan_;
  const char* data_;
  std::int64_t item_ = 0, channel_stride_ = 0;
  Dims outer_, inner_;
  bool shared_ = false;      // the same for all channels
  bool per_row_ = false;     // one weight a row of a tile
  bool by_channel_ = false;  // short runs, the same for all channels
  bool in_place_ = false;    // one of the latter two, and can be read where it lies
  const Verbs *verbs_ = nullptr, *rows_verbs_ = nullptr;
  std::optional<Operand> operand_;  // of one weight an element
  std::int64_t buffer_bytes_ = 0;
  std::unique_ptr<char[]> buffers_;  // of one weight a row
  std::vector<double> sum_, squares_;
  std::vector<WeightSum> total_;
  std::vector<ListedRows> rows_;  // of each block
  mutable std::vector<Held> held_;
};

/// The weights as a caller gave them, summed up; refused unless they broadcast to x and are finite
/// and at least 0.
Weights checked_weights(const Check& check, const ConstTensor& x, const ConstTensor& weights,
                        const Plan& plan, int threads);

}  // namespace bnpp
