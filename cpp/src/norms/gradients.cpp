#include "norms/gradients.h"

#include "norms/moments.h"
#include "norms/operand.h"
#include "norms/plan.h"
#include "norms/saved.h"
#include "norms/schedule.h"
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

BlockGradSums::BlockGradSums(const Plan& plan)
    : plan_(plan), g_(static_cast<std::size_t>(plan.blocks * plan.channels)), gx_(g_.size()) {}

void BlockGradSums::reduce(const Verbs& verbs, const GradTensors& t, const ChannelVector& center,
                           const Tile& tile, std::int64_t block, int worker) {
  const Operand::View dy = t.dy.read(tile, worker), x = t.x.read(tile, worker);
  const std::size_t first = index(block, tile.c0);
  GradSumsTile args;
  args.dy = dy.data;
  args.dy_stride = dy.stride;
  args.x = x.data;
  args.x_stride = x.stride;
  args.mask = t.mask ? t.mask + plan_.mask_offset(tile) : nullptr;
  args.mask_stride = plan_.mask_stride();
  args.rows = plan_.rows(tile);
  args.cols = plan_.cols(tile);
  args.repeat = plan_.inner;
  args.center = &center[static_cast<std::size_t>(tile.c0)];
  args.sum_g = &g_[first];
  args.sum_gx = &gx_[first];
  verbs.grad_sums(args);
}

void BlockGradSums::add_up(std::int64_t begin, std::int64_t end) {
  for_each_pair_of_blocks(plan_.blocks, [&](std::int64_t a, std::int64_t b) {
    const std::size_t to = index(a, begin), from = index(b, begin);
    for (std::size_t c = 0; c < static_cast<std::size_t>(end - begin); ++c) {
      g_[to + c] += g_[from + c];
      gx_[to + c] += gx_[from + c];
    }
  });
}

InputGradient::InputGradient(const Plan& plan, bool uses_x)
    : plan_(plan),
      uses_x_(uses_x),
      a_(static_cast<std::size_t>(plan.channels)),
      b_(a_.size()),
      c_(a_.size()) {}

void InputGradient::apply(const Verbs& verbs, const GradTensors& t, const ChannelVector& center,
                          const Tile& tile, int worker) const {
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
  args.stream = t.dx.stream();
  verbs.grad_input(args);
  t.dx.written(tile, worker);
  t.dresidual.written(tile, worker);
}

void check_backward(const Check& check, const BatchNormSaved& saved, const BatchNormGrads& grads) {
  if (!saved.x.given()) check.refuse("saved is empty, but it needs to come from a forward call");
  if (saved.activation == Activation::relu && saved.mask.empty() && saved.x.size() > 0) {
    check.refuse(
        "saved has no ReLU mask, but the forward call had a ReLU: it needs keep_mask = true");
  }
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
  const GradTensors tensors(grads.dy, saved.x, grads.dx, grads.dresidual,
                            saved.mask.empty() ? nullptr : saved.mask.data(), plan, threads);

  BlockGradSums sums(plan);
  InputGradient input(plan, !saved.frozen);
  const GradientTerms terms = input.terms(sums);
  ChannelVector center(saved.mean.size());
  get_centers(saved, 0, plan.channels, center.data(), terms.low);
  reduce_finish_map(
      plan, threads, 2 * size_of(saved.x.dtype),
      [&](const Tile& tile, std::int64_t block, int worker) {
        sums.reduce(kernel, tensors, center, tile, block, worker);
      },
      [&](std::int64_t begin, std::int64_t end) {
        sums.add_up(begin, end);
        finish(begin, end, terms);
      },
      [&](const Tile& tile, int worker) { input.apply(kernel, tensors, center, tile, worker); });
  write_vector(grads.dgamma, terms.sum_gx);
  write_vector(grads.dbeta, terms.sum_g);
}

}  // namespace bnpp
