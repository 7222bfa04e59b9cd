// Batch normalization with given statistics (Ioffe & Szegedy 2015, Algorithm 2), and its backward,
// in which the statistics are constants with gradients of their own:
//   affine
//   grad_sums -> dbeta, dgamma, dmean, dvar -> grad_input
#include <algorithm>
#include <utility>

#include "bnpp/batch_norm.h"
#include "norms/check.h"
#include "norms/gradients.h"
#include "norms/map_plan.h"
#include "norms/normalize.h"
#include "norms/saved.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

// Channels of a task, and bytes of its vectors for each: worth a thread where rows are few and
// channels many.
constexpr std::int64_t kTaskChannels = 1024, kChannelBytes = 64;

/// f(begin, end) for all channels, by as many threads as that is worth.
template <class F>
void for_each_channels(std::int64_t channels, F f) {
  auto task = [&](std::int64_t task, int) {
    f(task * kTaskChannels, std::min((task + 1) * kTaskChannels, channels));
  };
  parallel_for(ceil_div(channels, kTaskChannels), threads_for(channels * kChannelBytes), task);
}

}  // namespace

BatchNormSaved batch_norm_inference(const BatchNormInferenceArgs& args) {
  const Check check("batch_norm_inference");
  const ConstTensor& x = args.x;
  const int axis = check.axis_of(x, args.axis);
  check.eps(args.eps);
  check.like(x, args.y, "y");
  if (args.residual.given()) check.like(x, args.residual, "residual");
  ChannelVector gamma = check.vector(args.gamma, x, axis, "gamma", 1);
  const ChannelVector beta = check.vector(args.beta, x, axis, "beta", 0);
  if (!args.mean.given()) check.refuse("mean is not given, but it needs one value a channel");
  if (!args.var.given()) check.refuse("var is not given, but it needs one value a channel");
  ChannelVector mean = check.vector(args.mean, x, axis, "mean", 0);
  ChannelVector var = check.vector(args.var, x, axis, "var", 1);
  check.variances(var);

  const Plan plan(x, axis);
  BatchNormSaved saved = new_saved(x, plan, args.eps, std::move(gamma));
  saved.frozen = true;
  saved.activation = args.activation;
  saved.residual = args.residual.given();
  saved.mean = std::move(mean);
  saved.mean_low.assign(saved.mean.size(), 0);
  saved.var = std::move(var);
  if (args.activation == Activation::relu && args.keep_mask) add_mask(saved, plan);

  const int threads = threads_for(2 * x.size() * size_of(x.dtype));
  const Plan maps =
      plan_of_maps(plan, {x, args.y, args.residual}, mask_of(saved) != nullptr, Reads::once);
  Normalize normalize(maps, args.residual, args.activation, args.y, threads);
  for_each_channels(plan.channels, [&](std::int64_t begin, std::int64_t end) {
    set_variances(saved, saved.var.data(), 1, begin, end);
    normalize.set_channels(begin, end, saved, beta);
  });
  if (plan.count == 0) return saved;

  const Verbs& kernel = verbs(x.dtype, maps.layout);
  const Operand input(x, maps, threads);
  map_all(maps, threads, [&](const Tile& tile, int worker) {
    normalize.apply(kernel, input, mask_of(saved), tile, worker);
  });
  return saved;
}

void batch_norm_inference_backward(const BatchNormSaved& saved, const BatchNormGrads& grads) {
  const Check check("batch_norm_inference_backward");
  if (!saved.frozen) {
    check.refuse("saved comes from batch_norm, whose backward is batch_norm_backward");
  }
  check_backward(check, saved, grads);

  ChannelVector dmean(saved.mean.size(), 0), dvar(dmean);
  backward_pass(saved, grads, [&](std::int64_t begin, std::int64_t end, const GradientTerms& t) {
    for (std::int64_t k = begin; k < end; ++k) {
      const auto c = static_cast<std::size_t>(k);
      const double inv_std = saved.inv_std[c], scale = saved.gamma[c] * inv_std;
      t.sum_gx[k] = (t.sum_gx[k] - t.low[k] * t.sum_g[k]) * inv_std;
      dmean[c] = -scale * t.sum_g[k];
      dvar[c] = -0.5 * scale * inv_std * t.sum_gx[k];
      t.a[k] = scale;
      t.b[k] = t.c[k] = 0;
    }
  });
  write_vector(grads.dmean, dmean.data());
  write_vector(grads.dvar, dvar.data());
}

}  // namespace bnpp
