// Which instruction set's kernels run.
#pragma once

#include "bnpp/dtype.h"
#include "kernels/table.h"

namespace bnpp {

/// The kernels of the instruction set in use.
const KernelTable& kernels();
/// Its verbs for a dtype and a layout.
const Verbs& verbs(DType dtype, Layout layout);
/// Its verbs for statistics of rows.
const RowVerbs& row_verbs(DType dtype);

}  // namespace bnpp
