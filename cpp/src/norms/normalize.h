// The forward map of every channel: y = act((x - mean) * gamma * inv_std + beta + residual).
#pragma once

#include <cstdint>
#include <vector>

#include "bnpp/batch_norm.h"
#include "kernels/table.h"
#include "norms/operand.h"
#include "norms/plan.h"
#include "norms/saved.h"

namespace bnpp {

class Normalize {
 public:
  Normalize(const Plan& plan, const ConstTensor& residual, Activation activation, const Tensor& y,
            int threads);

  /// Takes a channel's statistics and gamma from `saved`.
  void set_channel(std::int64_t channel, const BatchNormSaved& saved, double beta);

  void set_channel(std::int64_t channel, const Center& mean, double scale, double beta);

  /// Writes one tile of y, and of the ReLU bits where there are any.
  void apply(const Verbs& verbs, const Operand& x, std::uint8_t* mask, const Tile& tile,
             int worker) const;

 private:
  const Plan& plan_;
  Operand residual_, y_;
  bool relu_;
  std::vector<double> center_, scale_, offset_;
};

}  // namespace bnpp
