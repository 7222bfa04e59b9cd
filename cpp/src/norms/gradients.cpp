#include "norms/gradients.h"

#include <algorithm>
#include <cmath>

#include "norms/operand.h"
#include "norms/plan.h"
#include "norms/saved.h"
#include "norms/schedule.h"
#include "norms/weights.h"
#include "runtime/dispatch.h"

namespace bnpp {
GradTensors::GradTensors(const ConstTensor& dy, const ConstTensor& x, const Tensor& dx,
                         const Tensor& dresidual, const std::uint8_t* mask, const Plan& plan,
                         int threads)
    : dy(dy, plan, threads),
      x(x, plan, threads),
      dx(dx, plan, threads),
      dresidual(dresidual, plan, threads),
      mask(mask) {}

InputGradient::InputGradient(const Plan& plan, bool uses_x)
    : plan_(plan),
      uses_x_(uses_x),
      a_(static_cast<std::size_t>(plan.channels)),
      b_(a_.size()),
      c_(a_.size()) {}

GradientTerms InputGradient::terms(BlockGradSums& sums, const double* low, const double* slope) {
  return {sums.at(0, 0, 0), sums.at(1, 0, 0), low, slope, a_.data(), b_.data(), c_.data()};
}

template <class Verb>
void InputGradient::map(const GradTensors& t, const ChannelVector& center, const Tile& tile,
                        int worker, Verb verb) const {
  const Operand::View dy = t.dy.read(tile, worker), dx = t.dx.write(tile, worker),
                      dresidual = t.dresidual.write(tile, worker);
  const Operand::View x = uses_x_ ? t.x.read(tile, worker) : Operand::View{nullptr, 0};
  const auto first = static_cast<std::size_t>(tile.c0);
  GradInputTile args;
  args.dy = dy.data;
  args.dy_stride = dy.stride;
  args.x = x.data;
  args.x_stride = x.stride;
  args.mask = t.mask ? t.mask + plan_.mask_offset(tile) : nullptr;
  args.mask_stride = plan_.mask_stride();
  args.dx = dx.data;
  args.dx_stride = dx.stride;
  args.dresidual = dresidual.data;
  args.dresidual_stride = dresidual.stride;
  args.rows = plan_.rows(tile);
  args.cols = plan_.cols(tile);
  args.repeat = plan_.inner;
  args.center = &center[first];
  args.a = &a_[first];
  args.b = &b_[first];
  args.c = &c_[first];
  const int tensors = 2 + (uses_x_ ? 1 : 0) + (dresidual.data != nullptr ? 1 : 0);
  args.stream = t.dx.stream(tensors);
  args.ahead = t.dx.ahead(tensors);
  verb(args);
  t.dx.written(tile, worker);
  t.dresidual.written(tile, worker);
}

void InputGradient::apply(const Verbs& verbs, const GradTensors& t, const ChannelVector& center,
                          const Tile& tile, int worker) const {
  map(t, center, tile, worker, [&](const GradInputTile& args) { verbs.grad_input(args); });
}

void InputGradient::apply_weighted(const GradTensors& t, const Weights& weights,
                                   const ChannelVector& center, const Tile& tile,
                                   int worker) const {
  weights.for_each_part(tile, [&](const Tile& part) {
    map(t, center, part, worker, [&](const GradInputTile& args) {
      weights.verbs().weighted_grad_input({args, weights.read(part, worker)});
    });
  });
}

void drop_weightless(const Plan& plan, const GradTensors& t, const Weights& weights,
                     const Means& means, const Tile& tile, int worker, double* sum_gx) {
  weights.for_each_part(tile, [&](const Tile& part) {
    double* const to = sum_gx + (part.c0 - tile.c0);
    const auto channels = static_cast<std::size_t>(part.c1 - part.c0);
    if (std::all_of(to, to + channels, [](double s) { return std::isfinite(s); })) return;
    ChannelVector g(channels), gx(channels);
    const GradSumsOf of{t.dy.read(part, worker), t.x.read(part, worker), t.mask, means.center};
    weights.verbs().weighted_grad_sums({grad_sums_tile(plan, of, part, g.data(), gx.data()),
                                        weights.read(part, worker), means.low.data() + part.c0});
    for (std::size_t c = 0; c < channels; ++c) {
      if (!std::isfinite(to[c])) to[c] = gx[c];
    }
  });
}

void check_saved(const Check& check, const BatchNormSaved& saved) {
  if (!saved.x.given()) check.refuse("saved is empty, but it needs to come from a forward call");
  if (saved.activation == Activation::relu && saved.mask.empty() && saved.x.size() > 0) {
    check.refuse(
        "saved has no ReLU mask, but the forward call had a ReLU: it needs keep_mask = true");
  }
}

void check_no_renorm(const Check& check, const BatchNormSaved& saved) {
  if (saved.r.empty()) return;
  check.refuse(
      "saved comes from batch_renorm, but it needs to come from batch_norm or "
      "batch_norm_inference");
}

void check_unweighted(const Check& check, const BatchNormSaved& saved) {
  if (!saved.weights.given()) return;
  check.refuse(
      "saved comes from a forward call with weights, but only batch_norm_backward takes it");
}

void check_backward(const Check& check, const BatchNormSaved& saved, const BatchNormGrads& grads) {
  check_saved(check, saved);
  check.like(saved.x, grads.dy, "dy");
  check.like(saved.x, grads.dx, "dx");
  if (grads.dresidual.given()) {
    if (!saved.residual) check.refuse("dresidual is given, but the forward call had no residual");
    check.like(saved.x, grads.dresidual, "dresidual");
  }
  check.out_vector(grads.dgamma, saved.x, saved.axis, "dgamma");
  check.out_vector(grads.dbeta, saved.x, saved.axis, "dbeta");
  check.out_vector(grads.dmean, saved.x, saved.axis, "dmean");
  check.out_vector(grads.dvar, saved.x, saved.axis, "dvar");
}

namespace {

// The centres for the sums; see center_of_sums. With weights, and with statistics that are not
// those of x, the centres themselves.
ChannelVector centers_of_sums(const BatchNormSaved& saved, const Sources& sources) {
  ChannelVector centers = sources.center;
  if (saved.frozen || saved.weights.given()) return centers;
  for (std::size_t c = 0; c < centers.size(); ++c) {
    const double as_x = centers[c] * sources.slope[c];  // in the units of the variance
    if (center_of_sums(saved.x.dtype, as_x, saved.var[c]) == 0) centers[c] = 0;
  }
  return centers;
}

}  // namespace

void backward_pass(const BatchNormSaved& saved, const BatchNormGrads& grads,
                   const FinishGradients& finish) {
  const Plan plan(saved.x, saved.axis);
  if (plan.count == 0) {
    const ChannelVector none(saved.mean.size(), 0);
    write_vector(grads.dgamma, none.data());
    write_vector(grads.dbeta, none.data());
    return;
  }
  const int threads = threads_for(3 * saved.x.size() * size_of(saved.x.dtype));
  const Verbs& kernel = verbs(saved.x.dtype, plan.layout);
  const GradTensors tensors(grads.dy, kept(saved), grads.dx, grads.dresidual, mask_of(saved), plan,
                            threads);

  const Weights weights(broadcast_weights(Check("batch_norm_backward"), saved.x, saved.weights),
                        saved.x.dtype, plan, threads);

  const Sources sources(saved);
  const ChannelVector about = centers_of_sums(saved, sources);
  BlockGradSums sums(plan);
  InputGradient input(plan, !saved.frozen);
  const GradientTerms terms = input.terms(sums, sources.low.data(), sources.slope_of_all());
  reduce_finish_map(
      plan, plan, threads, 2 * size_of(saved.x.dtype),
      [&](const Tile& tile, std::int64_t block, int worker) {
        const GradSumsOf pair{tensors.dy.read(tile, worker), tensors.x.read(tile, worker),
                              tensors.mask, about};
        double* const sum_gx = sums.at(1, block, tile.c0);
        grad_sums(kernel, plan, pair, tile, sums.at(0, block, tile.c0), sum_gx);
        if (weights.given()) {
          drop_weightless(plan, tensors, weights, {sources.center, sources.low}, tile, worker,
                          sum_gx);
        }
      },
      [&](std::int64_t begin, std::int64_t end) {
        sums.add_up(begin, end);
        for (std::int64_t c = begin; c < end; ++c) {
          const auto at = static_cast<std::size_t>(c);
          terms.sum_gx[c] -= (sources.center[at] - about[at]) * terms.sum_g[c];
        }
        finish(begin, end, terms);
      },
      [&](const Tile& tile, int worker) {
        if (weights.given()) {
          input.apply_weighted(tensors, weights, sources.center, tile, worker);
        } else {
          input.apply(kernel, tensors, sources.center, tile, worker);
        }
      });
  write_vector(grads.dgamma, terms.sum_gx);
  write_vector(grads.dbeta, terms.sum_g);
}

}  // namespace bnpp
