// The one translation unit that is compiled once for each instruction set; it exports `table`,
// nothing else. It may include only what is here: a library template emitted with this unit's flags
// could be the copy the linker keeps for everybody, an illegal instruction on older machines.
#include <cstddef>
#include <cstdint>
#if defined(__x86_64__) && !defined(BNPP_SCALAR)
#include <immintrin.h>
#endif

#include "bnpp/dtype.h"
#include "kernels/table.h"
// clang-format off: each builds on the ones before
#include "kernels/parts.h"
#include "kernels/vec.h"
#include "kernels/single.h"
#include "kernels/single_halves.h"
#include "kernels/walk.inl.h"
#include "kernels/narrow.inl.h"
#include "kernels/small.inl.h"
#include "kernels/sums.inl.h"
#include "kernels/moments.inl.h"
#include "kernels/merge.inl.h"
#include "kernels/channels.inl.h"
#include "kernels/affine.inl.h"
#include "kernels/grad_sums.inl.h"
#include "kernels/grad_input.inl.h"
#include "kernels/weights.inl.h"
#include "kernels/row_norm.inl.h"
#include "kernels/combine.inl.h"
#include "kernels/weight_sums.inl.h"
#include "kernels/weighted_moments.inl.h"
#include "kernels/weighted_gradients.inl.h"
// clang-format on

namespace bnpp::BNPP_ISA {

extern const KernelTable table;
const KernelTable table = {{
#define BNPP_VERBS_OF(type, layout)          \
  {moments_##layout<type>,                   \
   affine<type, Layout::layout>,             \
   grad_sums<type, Layout::layout>,          \
   grad_input<type, Layout::layout>,         \
   combine<type, Layout::layout>,            \
   weight_sums_##layout<type>,               \
   weighted_moments_##layout<type>,          \
   weighted_grad_sums<type, Layout::layout>, \
   weighted_grad_input<type, Layout::layout>}
#define BNPP_VERBS(name, type) {BNPP_VERBS_OF(type, rows), BNPP_VERBS_OF(type, cols)},
                               BNPP_DTYPES(BNPP_VERBS)
#undef BNPP_VERBS
#undef BNPP_VERBS_OF
                           },
                           {
#define BNPP_VERBS(name, type)                                                       \
  {row_moments<type>, weighted_moments<type>, row_affine<type>, row_grad_sums<type>, \
   row_grad_input<type>},
                               BNPP_DTYPES(BNPP_VERBS)
#undef BNPP_VERBS
                           },
                           moments_of_sums,
                           merge_moments,
                           variances,
                           centers,
                           scales,
                           gradients};

}  // namespace bnpp::BNPP_ISA
