// The backward of batch normalization's backward:
//   grad_sums of (dy, x), (ddx, x) and (dy, ddx) -> d_gamma, d_mean, d_var
//   -> combine twice: d_dy, the tangent of y along the dd's, and d_x
#include <utility>
#include <vector>

#include "bnpp/derivatives.h"
#include "norms/check.h"
#include "norms/combine.h"
#include "norms/gradients.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

/// A channel's sums, of g = dy under the ReLU's bits and of v = ddx.
struct ChannelSums {
  GradSums g, v;  // with x - mean
  double gv;      // sum g * v
};

/// What comes of a channel, d_x = a * g + b * v + d * (x - mean) + k.
struct ChannelResult {
  CombineCoefficients x;
  double gamma = 0, mean = 0, var = 0;
};

ChannelResult training_result(const BatchNormSaved& saved, std::size_t c, const ChannelSums& sum,
                              const ChannelTangents& dd, double var_grad) {
  const auto m = static_cast<double>(saved.count);
  const double r = saved.inv_std[c], scale = saved.gamma[c] * r;
  const double mean_g = sum.g.g / m, mean_v = sum.v.g / m;
  const double g_xh = sum.g.gx * r / m, v_xh = sum.v.gx * r / m;
  const double covariance = sum.gv / m - mean_g * mean_v;
  ChannelResult d;
  d.gamma = r * m * (covariance - g_xh * v_xh);
  d.x.a = r * (dd.gamma - scale * v_xh);
  d.x.b = 2 * var_grad / m - r * scale * g_xh;
  d.x.k = -d.x.a * mean_g - d.x.b * mean_v;
  d.x.d = r * r * (scale * (3 * g_xh * v_xh - covariance) - dd.gamma * g_xh);
  return d;
}

ChannelResult frozen_result(const BatchNormSaved& saved, std::size_t c, const ChannelSums& sum,
                            const ChannelTangents& dd) {
  const double r = saved.inv_std[c], gamma = saved.gamma[c];
  const double sum_gxh = sum.g.gx * r, half_var = 0.5 * r * dd.var;
  const double weight = dd.gamma - gamma * r * half_var;
  ChannelResult d;
  d.x.a = r * weight;
  d.gamma = r * (sum.gv - half_var * sum_gxh - dd.mean * sum.g.g);
  d.mean = -d.x.a * sum.g.g;
  d.var = -0.5 * r * r * (gamma * d.gamma + (weight - gamma * r * half_var) * sum_gxh);
  return d;
}

void check_given(const Check& check, const BatchNormSaved& saved, const BatchNormDoubleGrads& g) {
  check_saved(check, saved);
  check_no_renorm(check, saved);
  check_unweighted(check, saved);
  check.like(saved.x, g.dy, "dy");
  if (g.ddx.given()) check.like(saved.x, g.ddx, "ddx");
  if (g.ddresidual.given()) {
    if (!saved.residual) check.refuse("ddresidual is given, but the forward call had no residual");
    check.like(saved.x, g.ddresidual, "ddresidual");
  }
  if (!saved.frozen && (g.ddmean.given() || g.ddvar.given())) {
    check.refuse(
        g.ddmean.given() ? "ddmean" : "ddvar",
        " is given, but saved comes from batch_norm, whose backward has no dmean and dvar: "
        "it needs to be None");
  }
  if (saved.frozen && g.var_grad.given()) {
    check.refuse(
        "dvar is given, but saved comes from batch_norm_inference, whose backward takes none: "
        "it needs to be None");
  }
  check.like(saved.x, g.d_dy, "d_dy");
  check.like(saved.x, g.d_x, "d_x");
  check.out_vector(g.d_gamma, saved.x, saved.axis, "d_gamma");
  check.out_vector(g.d_mean, saved.x, saved.axis, "d_mean");
  check.out_vector(g.d_var, saved.x, saved.axis, "d_var");
}

ParameterTangents given_tangents(const Check& check, const BatchNormSaved& saved,
                                 const BatchNormDoubleGrads& g) {
  const auto vector = [&](const ConstTensor& v, const char* name) {
    return check.vector(v, saved.x, saved.axis, name, 0);
  };
  return {vector(g.ddgamma, "ddgamma"), vector(g.ddbeta, "ddbeta"), vector(g.ddmean, "ddmean"),
          vector(g.ddvar, "ddvar")};
}

/// The tensors of one call, and both its passes over them.
class DoubleBackward {
 public:
  DoubleBackward(const BatchNormSaved& saved, const BatchNormDoubleGrads& grads,
                 const ParameterTangents& dd, const ChannelVector& var_grad, const Plan& plan,
                 int threads)
      : saved_(saved),
        plan_(plan),
        dd_(dd),
        var_grad_(var_grad),
        kernel_(verbs(saved.x.dtype, plan.layout)),
        dy_(grads.dy, plan, threads),
        v_(grads.ddx, plan, threads),
        x_(kept(saved), plan, threads),
        ddresidual_(grads.ddresidual, plan, threads),
        d_dy_(grads.d_dy, plan, threads),
        d_x_(grads.d_x, plan, threads),
        has_v_(grads.ddx.given()),
        uses_x_(!saved.frozen || grads.ddgamma.given() || grads.ddvar.given()),
        sources_(saved),
        zeros_(sources_.center.size(), 0.0),
        sums_(plan, kPairs),
        map_dy_(plan, sources_, mask_of(saved), Masked::out),
        map_x_(plan, sources_, mask_of(saved), Masked::u) {}

  void reduce(const Tile& tile, std::int64_t block, int worker) {
    reduce_halves(tile, {sums_.at(0, block, tile.c0), sums_.stride()}, worker);
  }

  void add_up(std::int64_t begin, std::int64_t end) { sums_.add_up(begin, end); }

  ChannelResult finish(std::int64_t channel) {
    const auto c = static_cast<std::size_t>(channel);
    const Source x = sources_.of_channel(c);
    const ChannelSums sum{sums_.of_channel(channel, x, kGX), sums_.of_channel(channel, x, kVX),
                          sums_.of_channel(channel, {0, 0, 1}, kGV).gx};
    ChannelTangents dd = dd_.of_channel(c);
    const ChannelResult result = saved_.frozen ? frozen_result(saved_, c, sum, dd)
                                               : training_result(saved_, c, sum, dd, var_grad_[c]);
    if (!saved_.frozen) {
      dd.mean = sum.v.g / static_cast<double>(saved_.count);
      dd.var = 2 * sum.v.gx / static_cast<double>(saved_.count);
    }
    map_dy_.set_channel(c, tangent_of_y(saved_, c, dd));
    map_x_.set_channel(c, result.x);
    return result;
  }

  // Both outputs of a small tile, so that the second finds the first's inputs in the cache. With
  // given statistics only what a result depends on is read: an Inf elsewhere shall not spoil it.
  void map(const Tile& tile, int worker) const {
    if (!plan_.is_small(tile)) {
      const auto [upper, lower] = halves(tile);
      map(upper, worker);
      return map(lower, worker);
    }
    constexpr Operand::View none{nullptr, 0};
    const Operand::View v = v_.read(tile, worker), x = uses_x_ ? x_.read(tile, worker) : none,
                        dy = uses_x_ ? dy_.read(tile, worker) : none;
    map_dy_.apply(kernel_, {ddresidual_.read(tile, worker), v, x}, d_dy_, tile, worker);
    map_x_.apply(kernel_, {dy, saved_.frozen ? none : v, saved_.frozen ? none : x}, d_x_, tile,
                 worker);
  }

 private:
  enum Pair { kGX, kVX, kGV, kPairs };
  // One value a channel for each field, the fields `stride` apart.
  struct Fields {
    double* first;
    std::size_t stride;
    double* at(std::size_t field) const { return first + field * stride; }
  };

  static std::pair<Tile, Tile> halves(const Tile& tile) {
    Tile upper = tile, lower = tile;
    upper.o1 = lower.o0 = tile.o0 + (tile.o1 - tile.o0) / 2;
    return {upper, lower};
  }

  // Three readings of each tensor, but one from memory: large tiles are halved until they are
  // small.
  void reduce_halves(const Tile& tile, const Fields& to, int worker) {
    if (plan_.is_small(tile)) return reduce_small(tile, to, worker);
    const auto [upper, lower] = halves(tile);
    const auto channels = static_cast<std::size_t>(tile.c1 - tile.c0);
    ChannelVector more(2 * kPairs * channels, 0.0);
    reduce_halves(upper, to, worker);
    reduce_halves(lower, {more.data(), channels}, worker);
    for (std::size_t field = 0; field < 2 * kPairs; ++field) {
      for (std::size_t c = 0; c < channels; ++c) to.at(field)[c] += more[field * channels + c];
    }
  }

  void reduce_small(const Tile& tile, const Fields& to, int worker) {
    const Operand::View dy = dy_.read(tile, worker), x = x_.read(tile, worker),
                        v = v_.read(tile, worker);
    const std::uint8_t* mask = mask_of(saved_);
    const auto pair = [&](Pair pair, const GradSumsOf& of) {
      grad_sums(kernel_, plan_, of, tile, to.at(2 * pair), to.at(2 * pair + 1));
    };
    pair(kGX, {dy, x, mask, sources_.center});
    if (!has_v_) return;
    pair(kVX, {v, x, nullptr, sources_.center});
    pair(kGV, {dy, v, mask, zeros_});
  }

  const BatchNormSaved& saved_;
  const Plan& plan_;
  const ParameterTangents& dd_;
  const ChannelVector& var_grad_;
  const Verbs& kernel_;
  Operand dy_, v_, x_, ddresidual_, d_dy_, d_x_;
  bool has_v_, uses_x_;
  Sources sources_;
  ChannelVector zeros_;
  BlockGradSums sums_;
  Combine map_dy_, map_x_;
};

}  // namespace

void batch_norm_double_backward(const BatchNormSaved& saved, const BatchNormDoubleGrads& grads) {
  const Check check("batch_norm_double_backward");
  check_given(check, saved, grads);
  const ParameterTangents dd = given_tangents(check, saved, grads);
  const ChannelVector var_grad = check.vector(grads.var_grad, saved.x, saved.axis, "dvar", 0);

  ChannelVector d_gamma(saved.mean.size(), 0.0), d_mean(d_gamma), d_var(d_gamma);
  const Plan plan(saved.x, saved.axis);
  if (plan.count > 0) {
    const std::int64_t item = size_of(saved.x.dtype);
    const int threads = threads_for(5 * saved.x.size() * item);
    DoubleBackward pass(saved, grads, dd, var_grad, plan, threads);
    reduce_finish_map(
        plan, plan, threads, 3 * item,
        [&](const Tile& tile, std::int64_t block, int worker) { pass.reduce(tile, block, worker); },
        [&](std::int64_t begin, std::int64_t end) {
          pass.add_up(begin, end);
          for (std::int64_t channel = begin; channel < end; ++channel) {
            const ChannelResult result = pass.finish(channel);
            const auto c = static_cast<std::size_t>(channel);
            d_gamma[c] = result.gamma;
            d_mean[c] = result.mean;
            d_var[c] = result.var;
          }
        },
        [&](const Tile& tile, int worker) { pass.map(tile, worker); });
  }
  write_vector(grads.d_gamma, d_gamma.data());
  write_vector(grads.d_mean, d_mean.data());
  write_vector(grads.d_var, d_var.data());
}

}  // namespace bnpp
