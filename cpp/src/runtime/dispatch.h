// Which instruction set's kernels run.
#pragma once

#include "bnpp/dtype.h"
#include "kernels/table.h"

namespace bnpp {

/// The verbs of the instruction set in use.
const Verbs& verbs(DType dtype, Layout layout);

}  // namespace bnpp
