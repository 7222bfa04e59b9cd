// The forward map of every channel: y = act((x - mean) * gamma * inv_std + beta + residual).
#pragma once

#include <cstdint>

#include "bnpp/batch_norm.h"
#include "kernels/table.h"
#include "norms/operand.h"
#include "norms/plan.h"

namespace bnpp {

class Normalize {
 public:
  Normalize(const Plan& plan, const ConstTensor& residual, Activation activation, const Tensor& y,
            int threads);

  /// Takes the statistics and gamma of channels [begin, end) from `saved`.
  void set_channels(std::int64_t begin, std::int64_t end, const BatchNormSaved& saved,
                    const ChannelVector& beta);

  /// Gives channels [begin, end) the same mean, center + low, and inv_std.
  void set_group(std::int64_t begin, std::int64_t end, double center, double low, double inv_std,
                 const ChannelVector& gamma, const ChannelVector& beta);

  /// Writes one tile of y, and of the ReLU bits where there are any.
  void apply(const Verbs& verbs, const Operand& x, std::uint8_t* mask, const Tile& tile,
             int worker) const;

 private:
  const Plan& plan_;
  Operand residual_, y_;
  bool relu_;
  ChannelVector center_, scale_, offset_;
};

}  // namespace bnpp
