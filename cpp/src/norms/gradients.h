// The backward pass that training and frozen batch normalization share: sums of the gradient, a
// little algebra a channel, the gradient of the input.
#pragma once

#include <cstdint>
#include <functional>

#include "bnpp/batch_norm.h"
#include "norms/check.h"

namespace bnpp {

/// sum g and sum g * (x - mean) of a channel.
struct GradSums {
  double g, gx;
};

/// dx = a * g + b * (x - mean) + c.
struct InputCoefficients {
  double a = 0, b = 0, c = 0;
};

void check_backward(const Check& check, const BatchNormSaved& saved, const BatchNormGrads& grads);

/// Fills grads.dx and grads.dresidual; `finish` is called once for every channel, from any thread.
void backward_pass(const BatchNormSaved& saved, const BatchNormGrads& grads,
                   const std::function<InputCoefficients(std::size_t channel, GradSums)>& finish);

}  // namespace bnpp
