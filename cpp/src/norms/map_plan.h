// The plan of the forward maps of batch norm. What a call's sums have just read lies in the
// second-level cache channel by channel, and is best mapped there; but where x and y fill much of
// the last-level cache, and where there are no sums, memory is best gone through as it lies.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "bnpp/tensor.h"
#include "norms/plan.h"

namespace bnpp {

enum class Reads : std::uint8_t { once, twice };

/// The plan for maps of these tensors, some of which may not be given: whole rows, or `plan` itself
/// where these do not pay, or some tensor has no whole rows. Operands of the one serve tiles of
/// both.
Plan plan_of_maps(const Plan& plan, std::initializer_list<ConstTensor> tensors, bool has_mask,
                  Reads reads);

}  // namespace bnpp
