// Batch normalization with the batch's own statistics (Ioffe & Szegedy 2015, Algorithm 1), and its
// backward:
//   moments -> var = M2 / m, inv_std -> affine
//   grad_sums -> dbeta, dgamma -> grad_input
#include "bnpp/batch_norm.h"

#include <utility>

#include "norms/check.h"
#include "norms/gradients.h"
#include "norms/keep.h"
#include "norms/moments.h"
#include "norms/normalize.h"
#include "norms/saved.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {

BatchNormSaved batch_norm(const BatchNormArgs& args) {
  const Check check("batch_norm");
  const ConstTensor& x = args.x;
  const int axis = check.axis_of(x, args.axis);
  check.eps(args.eps);
  check.like(x, args.y, "y");
  if (args.residual.given()) check.like(x, args.residual, "residual");
  ChannelVector gamma = check.vector(args.gamma, x, axis, "gamma", 1);
  const ChannelVector beta = check.vector(args.beta, x, axis, "beta", 0);
  const Plan plan(x, axis);
  if (plan.count == 1 && plan.channels > 0 && args.on_single == OnSingle::error) {
    check.refuse("x has one value a channel (shape ", shape_text(x), ", axis ", axis,
                 "), but training needs two or more, or on_single=\"biased\"");
  }

  const bool from_output = keeps_output(check, args, gamma, beta);

  BatchNormSaved saved = new_saved(x, plan, args.eps, std::move(gamma));
  if (from_output) {
    saved.y = args.y;
    saved.beta = beta;
  }
  saved.activation = args.activation;
  saved.residual = args.residual.given();
  if (args.activation == Activation::relu) add_mask(saved, plan);
  if (plan.count == 0) return saved;

  const int threads = threads_for(2 * x.size() * size_of(x.dtype));
  const Verbs& kernel = verbs(x.dtype, plan.layout);
  const Operand input(x, plan, threads);
  BlockMoments blocks(plan, moments_of(saved));
  Normalize normalize(plan, args.residual, args.activation, args.y, threads);
  reduce_finish_map(
      plan, threads, size_of(x.dtype),
      [&](const Tile& tile, std::int64_t block, int worker) {
        blocks.reduce(kernel, input, tile, block, worker);
      },
      [&](std::int64_t begin, std::int64_t end) {
        blocks.merge(begin, end);
        set_variances(saved, saved.m2.data(), static_cast<double>(plan.count), begin, end);
        normalize.set_channels(begin, end, saved, beta);
      },
      [&](const Tile& tile, int worker) {
        normalize.apply(kernel, input, mask_of(saved), tile, worker);
      });
  return saved;
}

void batch_norm_backward(const BatchNormSaved& saved, const BatchNormGrads& grads) {
  const Check check("batch_norm_backward");
  if (saved.frozen) {
    check.refuse(
        "saved comes from batch_norm_inference, whose backward is batch_norm_inference_backward");
  }
  check_backward(check, saved, grads);

  const auto given = [&](const ConstTensor& v, const char* name) {
    return v.given() ? check.vector(v, saved.x, saved.axis, name, 0) : ChannelVector();
  };
  const ChannelVector mean_grad = given(grads.mean_grad, "dmean"),
                      var_grad = given(grads.var_grad, "dvar");
  const auto from = [](const ChannelVector& v, std::int64_t begin) {
    return v.empty() ? nullptr : v.data() + begin;
  };
  backward_pass(saved, grads, [&](std::int64_t begin, std::int64_t end, const GradientTerms& t) {
    GradientArgs args;
    args.gamma = saved.gamma.data() + begin;
    args.inv_std = saved.inv_std.data() + begin;
    args.low = t.low + begin;
    args.slope = t.slope != nullptr ? t.slope + begin : nullptr;
    args.mean_grad = from(mean_grad, begin);
    args.var_grad = from(var_grad, begin);
    args.sum_g = t.sum_g + begin;
    args.count = static_cast<double>(saved.count);
    args.sum_gx = t.sum_gx + begin;
    args.a = t.a + begin;
    args.b = t.b + begin;
    args.c = t.c + begin;
    kernels().gradients(args, end - begin);
  });
}

}  // namespace bnpp
