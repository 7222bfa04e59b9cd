// How the groups of group normalization lie in x.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bnpp/group_norm.h"
#include "bnpp/tensor.h"
#include "norms/check.h"
#include "norms/weights.h"

namespace bnpp {

inline std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

inline std::int64_t group_channels(const GroupNormSaved& saved) {
  return saved.groups > 0 ? saved.x.shape[saved.axis] / saved.groups : 0;
}

/// The first sample of a tensor like x with its groups as channels: what was the samples' axis goes
/// through the channels of a group.
inline ConstTensor groups_as_channels(const GroupNormSaved& saved, ConstTensor x) {
  x.shape[0] = group_channels(saved);
  x.strides[0] = x.strides[saved.axis];
  x.shape[saved.axis] = saved.groups;
  x.strides[saved.axis] *= x.shape[0];
  return x;
}

/// The weights of the forward in x's shape; not given where it had none.
inline ConstTensor weights_of(const Check& check, const GroupNormSaved& saved) {
  return broadcast_weights(check, saved.x, saved.weights);
}

}  // namespace bnpp
