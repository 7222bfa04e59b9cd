#include "norms/map_plan.h"

#include "norms/operand.h"
#include "runtime/memory.h"

namespace bnpp {
Plan plan_of_maps(const Plan& plan, std::initializer_list<ConstTensor> tensors, bool has_mask,
                  Reads reads) {
  if (!plan.has_long_runs(has_mask)) return plan;
  std::int64_t bytes = 0;
  for (const ConstTensor& t : tensors) {
    if (t.given()) bytes += t.size() * size_of(t.dtype);
  }
  const bool far = reads == Reads::once || bytes > apart_above();
  if (!far || bytes > stream_above()) return plan;
  const Plan rows = plan.of_whole_rows();
  for (const ConstTensor& t : tensors) {
    if (!Operand(t, rows, 0).direct()) return plan;
  }
  return rows;
}

}  // namespace bnpp
