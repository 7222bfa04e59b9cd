// The parts of a backward pass: sums of the gradient, a little algebra a channel, the gradient of
// the input; and the pass that training and frozen batch normalization share.
#pragma once

#include <cstdint>
#include <functional>

#include "bnpp/batch_norm.h"
#include "kernels/table.h"
#include "norms/check.h"
#include "norms/grad_sums.h"
#include "norms/operand.h"
#include "norms/plan.h"

namespace bnpp {

/// What lies between the two passes, one value a channel; x - mean = (x - center - low) * slope,
/// see Sources.
///   in: sum_g = sum g, sum_gx = sum g * (x - center)
///   out: dbeta = sum_g, dgamma in sum_gx, and dx = a * g + b * (x - center) + c
struct GradientTerms {
  double *sum_g, *sum_gx;
  const double *low, *slope;  // slope is null where it is 1
  double *a, *b, *c;
};

/// The tensors of one backward call.
struct GradTensors {
  Operand dy, x, dx, dresidual;
  const std::uint8_t* mask;  // or null

  GradTensors(const ConstTensor& dy, const ConstTensor& x, const Tensor& dx,
              const Tensor& dresidual, const std::uint8_t* mask, const Plan& plan, int threads);
};

/// The coefficients of dx, about the channels' centres.
class InputGradient {
 public:
  InputGradient(const Plan& plan, bool uses_x);

  GradientTerms terms(BlockGradSums& sums, const double* low, const double* slope);

  void apply(const Verbs& verbs, const GradTensors& t, const ChannelVector& center,
             const Tile& tile, int worker) const;

 private:
  const Plan& plan_;
  bool uses_x_;
  ChannelVector a_, b_, c_;
};

/// Refuses a `saved` that is empty or lacks its ReLU bits.
void check_saved(const Check& check, const BatchNormSaved& saved);
void check_backward(const Check& check, const BatchNormSaved& saved, const BatchNormGrads& grads);

/// Fills grads.dx, dresidual, dgamma and dbeta; finish(begin, end, terms) is called once for every
/// channel, from any thread.
using FinishGradients =
    std::function<void(std::int64_t begin, std::int64_t end, const GradientTerms& terms)>;
void backward_pass(const BatchNormSaved& saved, const BatchNormGrads& grads,
                   const FinishGradients& finish);

}  // namespace bnpp
