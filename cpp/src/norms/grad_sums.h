// The gradient sums of tiles and blocks, and their adding up into those of channels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/table.h"
#include "norms/operand.h"
#include "norms/plan.h"
#include "norms/saved.h"

namespace bnpp {

/// sum g and sum g * (x - mean) of a channel.
struct GradSums {
  double g = 0, gx = 0;
};

/// About what the gradient sums of a channel are taken, given where its values lie: 0 where that is
/// so near that sum g * x - center * sum g loses nothing that narrow gradients would show. There is
/// nothing to subtract then, and the products are exact.
inline double center_of_sums(DType dtype, double center, double var) {
  constexpr double kNear = 16;  // standard deviations
  return dtype != DType::float64 && center * center <= kNear * kNear * var ? 0 : center;
}

/// What the sums of one pair of tensors are taken of: g = dy where the mask has a bit (or is null).
struct GradSumsOf {
  Operand::View dy, x;
  const std::uint8_t* mask;
  const ChannelVector& center;
};

/// The arguments for the sums of one tile's channels.
GradSumsTile grad_sums_tile(const Plan& plan, const GradSumsOf& of, const Tile& tile, double* sum_g,
                            double* sum_gx);

/// sum g and sum g * (x - center) of the channels of one tile.
void grad_sums(const Verbs& verbs, const Plan& plan, const GradSumsOf& of, const Tile& tile,
               double* sum_g, double* sum_gx);

/// The gradient sums of every (block, channel) of a plan, for some pairs of tensors; zeros until
/// they are written.
class BlockGradSums {
 public:
  explicit BlockGradSums(const Plan& plan, int pairs = 1);

  /// One value for each channel from `channel` on: sum g (field 0) or sum g * (x - center) (field
  /// 1) of a pair; the next field lies `stride()` further.
  double* at(int field, std::int64_t block, std::int64_t channel);
  std::size_t stride() const { return stride_; }

  /// Adds up the blocks of channels [begin, end) in a fixed tree.
  void add_up(std::int64_t begin, std::int64_t end);

  /// A channel's sums, once added up, with x - mean in place of x - center.
  GradSums of_channel(std::int64_t channel, const Source& x, int pair = 0) const;

 private:
  const Plan& plan_;
  std::size_t stride_;
  int fields_;
  ChannelVector values_;
};

}  // namespace bnpp
