// The moments of blocks, and their merging into the moments of channels.
#pragma once

#include <cstdint>
#include <vector>

#include "bnpp/moments.h"
#include "bnpp/recycled.h"
#include "kernels/table.h"
#include "norms/operand.h"
#include "norms/plan.h"
#include "norms/weights.h"

namespace bnpp {

/// The moments of every (block, channel) of a plan, and of all blocks of a channel; weighted where
/// weights are given, whose sums are the counts then and must have been added up.
class BlockMoments {
 public:
  /// `whole` receives the channels' moments.
  BlockMoments(const Plan& plan, const MomentsView& whole, const Weights* weights = nullptr);

  /// Other weights for the next values, where some were or are given.
  void set_weights(const Weights& weights) { weights_ = &weights; }

  /// Computes the sums of one tile; weighted ones by the verbs of the weights.
  void reduce(const Verbs& verbs, const Operand& x, const Tile& tile, std::int64_t block,
              int worker);

  /// Merges the blocks of channels [begin, end) in a fixed tree by block index: pairs, pairs of
  /// pairs, and so on. To be called once for each channel, when all its blocks are reduced.
  void merge(std::int64_t begin, std::int64_t end);

 private:
  double* field(int index, std::int64_t block, std::int64_t channel) {
    return values_.data() + (index * plan_.blocks + block) * plan_.channels + channel;
  }
  void reduce_weighted(const Operand& x, const Tile& tile, std::int64_t block, int worker);
  // Of channels whose blocks have these counts.
  void merge(std::int64_t begin, std::int64_t end, std::vector<double> count);
  BlockSums sums(std::int64_t block, std::int64_t channel);
  // In the place of the first four of the five sums; the first block's, which becomes the root of
  // the tree, are the whole's.
  MomentsView moments(std::int64_t block, std::int64_t channel);

  const Plan& plan_;
  MomentsView whole_;
  const Weights* weights_;  // or null
  ChannelVector values_;
};

/// join(a, b) for blocks a < b, in the order of a fixed tree whose root becomes block 0:
/// neighbours, neighbouring pairs, and so on.
template <class Join>
void for_each_pair_of_blocks(std::int64_t blocks, Join join) {
  for (std::int64_t step = 1; step < blocks; step *= 2) {
    for (std::int64_t a = 0; a + step < blocks; a += 2 * step) join(a, a + step);
  }
}

}  // namespace bnpp
