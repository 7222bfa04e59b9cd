// Whether the backward can do with y in place of x.
#pragma once

#include <vector>

#include "bnpp/batch_norm.h"
#include "norms/check.h"

namespace bnpp {

/// Whether y is to be kept: args.keep, and for Keep::automatic whether it can be. Refuses
/// Keep::output where it cannot.
bool keeps_output(const Check& check, const BatchNormArgs& args, const ChannelVector& gamma,
                  const ChannelVector& beta);

}  // namespace bnpp
