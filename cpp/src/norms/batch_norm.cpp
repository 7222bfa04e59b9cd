// Batch normalization with the batch's own statistics (Ioffe & Szegedy 2015, Algorithm 1), and its
// backward:
//   moments -> var = M2 / m, inv_std -> affine
//   grad_sums -> dbeta, dgamma -> grad_input
// With weights m is their sum over a channel, and the weighted verbs take the place of these.
#include "bnpp/batch_norm.h"

#include <algorithm>
#include <utility>

#include "norms/check.h"
#include "norms/gradients.h"
#include "norms/keep.h"
#include "norms/map_plan.h"
#include "norms/moments.h"
#include "norms/normalize.h"
#include "norms/saved.h"
#include "norms/schedule.h"
#include "norms/training.h"
#include "norms/weights.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

// Every channel needs more than one value with weight, or none at all.
void check_weights_of_channels(const Check& check, const Weights& weights, const Plan& plan) {
  for (std::int64_t c = 0; c < plan.channels; ++c) {
    const WeightSum w = weights.of_channel(c);
    if (w.sum > 0 && unbiased_divisor(w.sum, w.squares) == 0) {
      check.refuse("weights leave one value in channel ", c,
                   ", but training needs two or more (or none), or on_single=\"biased\"");
    }
  }
}

// A view of the weights, as of x, and their sums.
void set_weights(BatchNormSaved& saved, const ConstTensor& given, const Weights& weights) {
  if (!weights.given()) return;
  saved.weights = given;
  saved.weight.resize(saved.mean.size());
  saved.squared_weights.resize(saved.mean.size());
  for (std::size_t c = 0; c < saved.mean.size(); ++c) {
    const WeightSum w = weights.of_channel(static_cast<std::int64_t>(c));
    saved.weight[c] = w.sum;
    saved.squared_weights[c] = w.squares;
  }
}

// f(first, last, m) for the runs of channels in [begin, end) that have m values each, or the sum m
// of weights.
template <class F>
void for_each_count(const BatchNormSaved& saved, std::int64_t begin, std::int64_t end, F f) {
  if (!saved.weights.given()) return f(begin, end, static_cast<double>(saved.count));
  for (std::int64_t first = begin, last; first < end; first = last) {
    const double m = saved.weight[static_cast<std::size_t>(first)];
    last = first + 1;
    while (last < end && saved.weight[static_cast<std::size_t>(last)] == m) ++last;
    f(first, last, m);
  }
}

}  // namespace

BatchNormSaved batch_norm(const BatchNormArgs& args) {
  return training_forward(Check("batch_norm"), args, nullptr);
}

BatchNormSaved training_forward(const Check& check, const BatchNormArgs& args,
                                const Adjust& adjust) {
  const ConstTensor& x = args.x;
  const int axis = check.axis_of(x, args.axis);
  check.eps(args.eps);
  check.like(x, args.y, "y");
  if (args.residual.given()) check.like(x, args.residual, "residual");
  ChannelVector gamma = check.vector(args.gamma, x, axis, "gamma", 1);
  ChannelVector beta = check.vector(args.beta, x, axis, "beta", 0);
  const Plan plan(x, axis);
  const int threads = threads_for(2 * x.size() * size_of(x.dtype));
  const Weights weights = checked_weights(check, x, args.weights, plan, threads);
  if (weights.given() && args.on_single == OnSingle::error) {
    check_weights_of_channels(check, weights, plan);
  } else if (plan.count == 1 && plan.channels > 0 && args.on_single == OnSingle::error) {
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
  set_weights(saved, args.weights, weights);
  if (plan.count == 0) return saved;

  const Plan maps =
      plan_of_maps(plan, {x, args.y, args.residual}, mask_of(saved) != nullptr, Reads::twice);
  const Verbs &sums = verbs(x.dtype, plan.layout), &map = verbs(x.dtype, maps.layout);
  const Operand input(x, maps, threads);
  BlockMoments blocks(plan, moments_of(saved), &weights);
  Normalize normalize(maps, args.residual, args.activation, args.y, threads);
  reduce_finish_map(
      plan, maps, threads, size_of(x.dtype),
      [&](const Tile& tile, std::int64_t block, int worker) {
        blocks.reduce(sums, input, tile, block, worker);
      },
      [&](std::int64_t begin, std::int64_t end) {
        blocks.merge(begin, end);
        for_each_count(saved, begin, end, [&](std::int64_t first, std::int64_t last, double m) {
          if (m > 0) return set_variances(saved, saved.m2.data(), m, first, last);
          for (ChannelVector* values : {&saved.var, &saved.inv_std}) {
            std::fill(values->begin() + first, values->begin() + last, 0.0);
          }
        });
        if (adjust) adjust(saved, beta, begin, end);
        normalize.set_channels(begin, end, saved, beta);
      },
      [&](const Tile& tile, int worker) {
        normalize.apply(map, input, mask_of(saved), tile, worker);
      });
  return saved;
}

void batch_norm_backward(const BatchNormSaved& saved, const BatchNormGrads& grads) {
  const Check check("batch_norm_backward");
  if (saved.frozen) {
    check.refuse(
        "saved comes from batch_norm_inference, whose backward is batch_norm_inference_backward");
  }
  if (!saved.r.empty()) {
    check.refuse("saved comes from batch_renorm, whose backward is batch_renorm_backward");
  }
  check_backward(check, saved, grads);
  training_backward(check, saved, grads);
}

void training_backward(const Check& check, const BatchNormSaved& saved,
                       const BatchNormGrads& grads) {
  const auto given = [&](const ConstTensor& v, const char* name) {
    return v.given() ? check.vector(v, saved.x, saved.axis, name, 0) : ChannelVector();
  };
  const ChannelVector mean_grad = given(grads.mean_grad, "dmean"),
                      var_grad = given(grads.var_grad, "dvar");
  const auto from = [](const ChannelVector& v, std::int64_t begin) {
    return v.empty() ? nullptr : v.data() + begin;
  };
  const auto finish = [&](std::int64_t begin, std::int64_t end, double m, const GradientTerms& t) {
    GradientArgs args;
    args.gamma = saved.gamma.data() + begin;
    args.inv_std = saved.inv_std.data() + begin;
    args.low = t.low + begin;
    args.slope = t.slope != nullptr ? t.slope + begin : nullptr;
    args.mean_grad = from(mean_grad, begin);
    args.var_grad = from(var_grad, begin);
    args.sum_g = t.sum_g + begin;
    args.count = m > 0 ? m : 1;  // where nothing has weight, inv_std is 0, and so is dx
    args.sum_gx = t.sum_gx + begin;
    args.a = t.a + begin;
    args.b = t.b + begin;
    args.c = t.c + begin;
    kernels().gradients(args, end - begin);
  };
  backward_pass(saved, grads, [&](std::int64_t begin, std::int64_t end, const GradientTerms& t) {
    for_each_count(saved, begin, end, [&](std::int64_t first, std::int64_t last, double m) {
      finish(first, last, m, t);
    });
  });
}

}  // namespace bnpp
