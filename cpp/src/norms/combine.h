// Linear combinations of up to three tensors, the map of the derivatives: of channel c
//   out = a * u + b * v + d * (x - mean) + k
#pragma once

#include <cstdint>
#include <vector>

#include "bnpp/batch_norm.h"
#include "kernels/table.h"
#include "norms/grad_sums.h"
#include "norms/operand.h"
#include "norms/plan.h"
#include "norms/saved.h"

namespace bnpp {

struct CombineCoefficients {
  double a = 0, b = 0, d = 0, k = 0;
};

/// What the ReLU bits hold back.
enum class Masked : std::uint8_t { u, out };

class Combine {
 public:
  Combine(const Plan& plan, const Sources& sources, const std::uint8_t* mask, Masked masked);

  void set_channel(std::size_t c, const CombineCoefficients& coefficients);

  struct Views {
    Operand::View u, v, x;  // each or null: its term is left out
  };
  /// Writes one tile of out.
  void apply(const Verbs& verbs, const Views& from, const Operand& out, const Tile& tile,
             int worker) const;

 private:
  const Plan& plan_;
  const Sources& sources_;
  const std::uint8_t* mask_;
  bool mask_out_;
  ChannelVector a_, b_, d_, k_;
};

/// The tangents of one channel's parameters and given statistics.
struct ChannelTangents {
  double gamma = 0, beta = 0, mean = 0, var = 0;
};
/// Those of all channels.
struct ParameterTangents {
  ChannelVector gamma, beta, mean, var;
  ChannelTangents of_channel(std::size_t c) const { return {gamma[c], beta[c], mean[c], var[c]}; }
};

/// The tangent of y, with v = x_dot and u the residual's; mean and var are those of the statistics
/// used, the batch's too.
CombineCoefficients tangent_of_y(const BatchNormSaved& saved, std::size_t c,
                                 const ChannelTangents& dot);

}  // namespace bnpp
