// The forward derivative of batch normalization:
//   grad_sums of x_dot -> mean_dot, var_dot (training only) -> combine, the ReLU bits upon its
//   result
#include <vector>

#include "bnpp/derivatives.h"
#include "norms/check.h"
#include "norms/combine.h"
#include "norms/gradients.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

void check_tangents(const Check& check, const BatchNormSaved& saved, const BatchNormTangents& t) {
  check_saved(check, saved);
  check_no_renorm(check, saved);
  check_unweighted(check, saved);
  if (t.x_dot.given()) check.like(saved.x, t.x_dot, "x_dot");
  if (t.residual_dot.given()) {
    if (!saved.residual) {
      check.refuse("residual_dot is given, but the forward call had no residual");
    }
    check.like(saved.x, t.residual_dot, "residual_dot");
  }
  if (!saved.frozen && (t.mean_dot.given() || t.var_dot.given())) {
    check.refuse(t.mean_dot.given() ? "mean_dot" : "var_dot",
                 " is given, but saved comes from batch_norm, whose mean and var follow from x: "
                 "it needs to be None");
  }
  check.like(saved.x, t.y_dot, "y_dot");
  check.out_vector(t.out_mean_dot, saved.x, saved.axis, "mean_dot");
  check.out_vector(t.out_var_dot, saved.x, saved.axis, "var_dot");
}

ParameterTangents given_tangents(const Check& check, const BatchNormSaved& saved,
                                 const BatchNormTangents& t) {
  const auto vector = [&](const ConstTensor& v, const char* name) {
    return check.vector(v, saved.x, saved.axis, name, 0);
  };
  return {vector(t.gamma_dot, "gamma_dot"), vector(t.beta_dot, "beta_dot"),
          vector(t.mean_dot, "mean_dot"), vector(t.var_dot, "var_dot")};
}

/// Fills y_dot, and in training the tangents of mean and variance.
void tangent_pass(const BatchNormSaved& saved, const BatchNormTangents& t, const Plan& plan,
                  ParameterTangents& dot) {
  const int threads = threads_for(3 * saved.x.size() * size_of(saved.x.dtype));
  const Verbs& kernel = verbs(saved.x.dtype, plan.layout);
  const Operand x(kept(saved), plan, threads), x_dot(t.x_dot, plan, threads),
      residual_dot(t.residual_dot, plan, threads), y_dot(t.y_dot, plan, threads);
  const Sources sources(saved);
  // With given statistics an Inf in x does not spoil what does not depend on x.
  const bool uses_x = !saved.frozen || t.gamma_dot.given() || t.var_dot.given();
  BlockGradSums sums(plan);
  Combine tangent(plan, sources, mask_of(saved), Masked::out);

  const auto reduce = [&](const Tile& tile, std::int64_t block, int worker) {
    const GradSumsOf pair{x_dot.read(tile, worker), x.read(tile, worker), nullptr, sources.center};
    grad_sums(kernel, plan, pair, tile, sums.at(0, block, tile.c0), sums.at(1, block, tile.c0));
  };
  const auto finish = [&](std::int64_t begin, std::int64_t end) {
    sums.add_up(begin, end);
    for (std::int64_t channel = begin; channel < end; ++channel) {
      const auto c = static_cast<std::size_t>(channel);
      if (!saved.frozen) {
        const GradSums v = sums.of_channel(channel, sources.of_channel(c));
        dot.mean[c] = v.g / static_cast<double>(saved.count);
        dot.var[c] = 2 * v.gx / static_cast<double>(saved.count);
      }
      tangent.set_channel(c, tangent_of_y(saved, c, dot.of_channel(c)));
    }
  };
  const auto map = [&](const Tile& tile, int worker) {
    const Operand::View none{nullptr, 0};
    tangent.apply(kernel,
                  {residual_dot.read(tile, worker), x_dot.read(tile, worker),
                   uses_x ? x.read(tile, worker) : none},
                  y_dot, tile, worker);
  };
  if (!saved.frozen && t.x_dot.given()) {
    reduce_finish_map(plan, plan, threads, 2 * size_of(saved.x.dtype), reduce, finish, map);
  } else {  // the sums are 0, or not needed
    finish(0, plan.channels);
    map_all(plan, threads, map);
  }
}

}  // namespace

void batch_norm_jvp(const BatchNormSaved& saved, const BatchNormTangents& t) {
  const Check check("batch_norm_jvp");
  check_tangents(check, saved, t);
  ParameterTangents dot = given_tangents(check, saved, t);
  const Plan plan(saved.x, saved.axis);
  if (plan.count > 0) tangent_pass(saved, t, plan, dot);
  write_vector(t.out_mean_dot, dot.mean.data());
  write_vector(t.out_var_dot, dot.var.data());
}

}  // namespace bnpp
