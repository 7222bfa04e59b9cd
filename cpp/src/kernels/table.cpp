// The table of an instruction set: what its units define.
#include "kernels/verbs.h"

namespace bnpp::BNPP_ISA {

#define BNPP_VERBS_OF(type, layout)          \
  {moments<type, Layout::layout>,            \
   affine<type, Layout::layout>,             \
   grad_sums<type, Layout::layout>,          \
   grad_input<type, Layout::layout>,         \
   combine<type, Layout::layout>,            \
   weight_sums<type, Layout::layout>,        \
   weighted_moments<type, Layout::layout>,   \
   weighted_grad_sums<type, Layout::layout>, \
   weighted_grad_input<type, Layout::layout>}
#define BNPP_VERBS(name, type) {BNPP_VERBS_OF(type, rows), BNPP_VERBS_OF(type, cols)},
#define BNPP_ROW_VERBS(name, type)                                                       \
  {row_moments<type>, row_weighted_moments<type>, row_affine<type>, row_grad_sums<type>, \
   row_grad_input<type>},

extern const KernelTable table;
const KernelTable table = {{BNPP_DTYPES(BNPP_VERBS)},
                           {BNPP_DTYPES(BNPP_ROW_VERBS)},
                           moments_of_sums,
                           merge_moments,
                           variances,
                           centers,
                           scales,
                           gradients};

}  // namespace bnpp::BNPP_ISA
