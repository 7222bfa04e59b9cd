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
#include "norms/weights.h"

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

/// dx = a * g + b * (x - center) + c.
struct InputCoefficients {
  double *a, *b, *c;
};

/// The coefficients of dx, about the channels' centres.
class InputGradient {
 public:
  InputGradient(const Plan& plan, bool uses_x);

  GradientTerms terms(BlockGradSums& sums, const double* low, const double* slope);
  /// a, b and c of all channels alone.
  InputCoefficients coefficients() { return {a_.data(), b_.data(), c_.data()}; }

  void apply(const Verbs& verbs, const GradTensors& t, const ChannelVector& center,
             const Tile& tile, int worker) const;
  /// The same where statistics are weighted: dx = a * g + w * (b * (x - center) + c).
  void apply_weighted(const GradTensors& t, const Weights& weights, const ChannelVector& center,
                      const Tile& tile, int worker) const;

 private:
  template <class Verb>
  void map(const GradTensors& t, const ChannelVector& center, const Tile& tile, int worker,
           Verb verb) const;

  const Plan& plan_;
  bool uses_x_;
  ChannelVector a_, b_, c_;
};

/// The channels' means as center + low.
struct Means {
  const ChannelVector &center, &low;
};

/// Takes the sums of a tile's channels again without what has no weight and is not finite, which is
/// rare: only sums that show it.
void drop_weightless(const Plan& plan, const GradTensors& t, const Weights& weights,
                     const Means& means, const Tile& tile, int worker, double* sum_gx);

/// Refuses a `saved` that is empty or lacks its ReLU bits.
void check_saved(const Check& check, const BatchNormSaved& saved);
/// Refuses one of batch_renorm, for norms that do not know its r and d.
void check_no_renorm(const Check& check, const BatchNormSaved& saved);
/// Refuses one that has weights, for norms that do not heed them.
void check_unweighted(const Check& check, const BatchNormSaved& saved);
void check_backward(const Check& check, const BatchNormSaved& saved, const BatchNormGrads& grads);

/// Fills grads.dx, dresidual, dgamma and dbeta; finish(begin, end, terms) is called once for every
/// channel, from any thread.
using FinishGradients =
    std::function<void(std::int64_t begin, std::int64_t end, const GradientTerms& terms)>;
void backward_pass(const BatchNormSaved& saved, const BatchNormGrads& grads,
                   const FinishGradients& finish);

}  // namespace bnpp
