// The backward pass that training and frozen batch normalization share: sums of the gradient, a
// little algebra a channel, the gradient of the input.
#pragma once

#include <cstdint>
#include <functional>

#include "bnpp/batch_norm.h"
#include "bnpp/recycled.h"
#include "kernels/table.h"
#include "norms/check.h"
#include "norms/operand.h"
#include "norms/plan.h"

namespace bnpp {

/// What lies between the two passes, one value a channel; x - mean = (x - center) - low.
///   in: sum_g = sum g, sum_gx = sum g * (x - center), low
///   out: dbeta = sum_g, dgamma in sum_gx, and dx = a * g + b * (x - center) + c
struct GradientTerms {
  double *sum_g, *sum_gx, *low, *a, *b, *c;  // low and c share their place
};

/// The tensors of one backward call.
struct GradTensors {
  Operand dy, x, dx, dresidual;
  const std::uint8_t* mask;  // or null

  GradTensors(const ConstTensor& dy, const ConstTensor& x, const Tensor& dx,
              const Tensor& dresidual, const std::uint8_t* mask, const Plan& plan, int threads);
};

/// The gradient sums of every (block, channel), about the channels' centres.
class BlockGradSums {
 public:
  explicit BlockGradSums(const Plan& plan);

  void reduce(const Verbs& verbs, const GradTensors& t, const ChannelVector& center,
              const Tile& tile, std::int64_t block, int worker);

  /// Adds up the blocks of channels [begin, end) in a fixed tree.
  void add_up(std::int64_t begin, std::int64_t end);

  /// The channels' sums, once added up.
  double* g() { return g_.data(); }
  double* gx() { return gx_.data(); }

 private:
  std::size_t index(std::int64_t block, std::int64_t channel) const {
    return static_cast<std::size_t>(block * plan_.channels + channel);
  }

  const Plan& plan_;
  ChannelVector g_, gx_;
};

/// The coefficients of dx, about the channels' centres.
class InputGradient {
 public:
  InputGradient(const Plan& plan, bool uses_x);

  GradientTerms terms(BlockGradSums& sums) {
    return {sums.g(), sums.gx(), c_.data(), a_.data(), b_.data(), c_.data()};
  }

  void apply(const Verbs& verbs, const GradTensors& t, const ChannelVector& center,
             const Tile& tile, int worker) const;

 private:
  const Plan& plan_;
  bool uses_x_;
  ChannelVector a_, b_, c_;
};

void check_backward(const Check& check, const BatchNormSaved& saved, const BatchNormGrads& grads);

/// Fills grads.dx, dresidual, dgamma and dbeta; finish(begin, end, terms) is called once for every
/// channel, from any thread.
using FinishGradients =
    std::function<void(std::int64_t begin, std::int64_t end, const GradientTerms& terms)>;
void backward_pass(const BatchNormSaved& saved, const BatchNormGrads& grads,
                   const FinishGradients& finish);

}  // namespace bnpp
