// The moments of blocks, and their merging into the moments of channels.
#pragma once

#include <cstdint>
#include <vector>

#include "bnpp/moments.h"
#include "kernels/table.h"
#include "norms/operand.h"
#include "norms/plan.h"

namespace bnpp {

/// The moments of every (block, channel) of a plan.
class BlockMoments {
 public:
  explicit BlockMoments(const Plan& plan);

  /// Computes those of one tile.
  void reduce(const Verbs& verbs, const Operand& x, const Tile& tile, std::int64_t block,
              int worker);

  /// Merges a channel's blocks in a fixed tree by block index: pairs, pairs of pairs, and so on.
  ChannelMoments merged(std::int64_t channel) const;

 private:
  std::size_t index(std::int64_t block, std::int64_t channel) const {
    return static_cast<std::size_t>(block * plan_.channels + channel);
  }
  ChannelMoments of_block(std::int64_t block, std::int64_t channel) const;
  ChannelMoments merged(std::int64_t begin, std::int64_t end, std::int64_t channel) const;

  const Plan& plan_;
  std::vector<BlockSums> sums_;
};

/// The split of a fixed tree over [begin, end): the largest power of two that leaves something
/// right of it.
std::int64_t tree_split(std::int64_t begin, std::int64_t end);

}  // namespace bnpp
