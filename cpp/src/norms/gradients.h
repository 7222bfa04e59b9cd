// The parts of a backward pass: sums of the gradient, a little algebra a channel, the gradient of
// the input; and the pass that training and frozen batch normalization share.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "bnpp/batch_norm.h"
#include "kernels/table.h"
#include "norms/check.h"
#include "norms/operand.h"
#include "norms/plan.h"

namespace bnpp {

/// sum g and sum g * (x - mean) of a channel.
struct GradSums {
  double g, gx;
};

/// dx = a * g + b * (x - mean) + c.
struct InputCoefficients {
  double a = 0, b = 0, c = 0;
};

/// The tensors of one backward call.
struct GradTensors {
  Operand dy, x, dx, dresidual;
  const std::uint8_t* mask;
};

/// The gradient sums of every (block, channel), about the channels' centres.
class BlockGradSums {
 public:
  explicit BlockGradSums(const Plan& plan) : plan_(plan) {
    g_.resize(static_cast<std::size_t>(plan.blocks * plan.channels));
    gx_.resize(g_.size());
  }

  void reduce(const Verbs& verbs, const GradTensors& t, const std::vector<double>& center,
              const Tile& tile, std::int64_t block, int worker);

  /// Adds up the blocks of channels [begin, end) in a fixed tree.
  void add_up(std::int64_t begin, std::int64_t end);

  /// A channel's sums, once added up.
  GradSums of_channel(std::int64_t channel) const {
    return {g_[index(0, channel)], gx_[index(0, channel)]};
  }

 private:
  std::size_t index(std::int64_t block, std::int64_t channel) const {
    return static_cast<std::size_t>(block * plan_.channels + channel);
  }

  const Plan& plan_;
  std::vector<double> g_, gx_;
};

/// The coefficients of dx, about the channels' centres.
class InputGradient {
 public:
  InputGradient(const Plan& plan, bool uses_x) : plan_(plan), uses_x_(uses_x) {
    const auto channels = static_cast<std::size_t>(plan.channels);
    a_.resize(channels);
    b_.resize(channels);
    c_.resize(channels);
  }

  void set_channel(std::int64_t channel, const InputCoefficients& k, double low);

  void apply(const Verbs& verbs, const GradTensors& t, const std::vector<double>& center,
             const Tile& tile, int worker) const;

 private:
  const Plan& plan_;
  bool uses_x_;
  std::vector<double> a_, b_, c_;
};

void check_backward(const Check& check, const BatchNormSaved& saved, const BatchNormGrads& grads);

/// Fills grads.dx and grads.dresidual; `finish` is called once for every channel, from any thread.
void backward_pass(const BatchNormSaved& saved, const BatchNormGrads& grads,
                   const std::function<InputCoefficients(std::size_t channel, GradSums)>& finish);

}  // namespace bnpp
