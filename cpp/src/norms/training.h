// The passes of training, for norms that are batch normalization with a scale and shift that
// follow from the batch's statistics.
#pragma once

#include <cstdint>
#include <functional>

#include "bnpp/batch_norm.h"
#include "norms/check.h"

namespace bnpp {

/// Changes saved.gamma and beta of channels [begin, end), whose moments are set; from any thread.
using Adjust = std::function<void(BatchNormSaved& saved, ChannelVector& beta, std::int64_t begin,
                                  std::int64_t end)>;

BatchNormSaved training_forward(const Check& check, const BatchNormArgs& args,
                                const Adjust& adjust);

/// Fills grads with the gradients of saved.gamma and its shift. The arguments must have been
/// checked.
void training_backward(const Check& check, const BatchNormSaved& saved,
                       const BatchNormGrads& grads);

}  // namespace bnpp
