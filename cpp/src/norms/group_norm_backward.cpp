// The backward of group and instance normalization:
//   grad_sums -> their sums over the group, dbeta, dgamma -> grad_input
// With weights m is their sum over a group, and the weighted grad_input takes the place of the
// plain one.
#include <algorithm>
#include <memory>
#include <vector>

#include "bnpp/group_norm.h"
#include "fold/pair.h"
#include "norms/check.h"
#include "norms/gradients.h"
#include "norms/groups.h"
#include "norms/moments.h"
#include "norms/sample_weights.h"
#include "norms/samples.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

void add_to(PairSum& sum, const PairSum& term) {
  const PairSum s = two_sum(sum.hi, term.hi);
  sum = {s.hi, sum.lo + (s.lo + term.lo)};
}

/// dgamma and dbeta, summed over the samples of each run, then over the runs.
class ParameterSums {
 public:
  ParameterSums(std::int64_t samples, std::int64_t channels)
      : runs_(samples), channels_(channels), gamma_(index(runs_.count * channels)) {
    beta_ = gamma_;
  }

  void add(std::int64_t sample, std::int64_t channel, double dgamma, double dbeta) {
    const std::size_t at = index(runs_.of(sample) * channels_ + channel);
    add_to(gamma_[at], {dgamma, 0});
    add_to(beta_[at], {dbeta, 0});
  }

  ChannelVector dgamma() { return total(gamma_); }
  ChannelVector dbeta() { return total(beta_); }

 private:
  ChannelVector total(std::vector<PairSum>& sums) const {
    for_each_pair_of_blocks(runs_.count, [&](std::int64_t a, std::int64_t b) {
      for (std::int64_t c = 0; c < channels_; ++c) {
        add_to(sums[index(a * channels_ + c)], sums[index(b * channels_ + c)]);
      }
    });
    ChannelVector values(index(channels_), 0);
    for (std::size_t c = 0; c < values.size() && runs_.count > 0; ++c) {
      values[c] = sums[c].hi + sums[c].lo;
    }
    return values;
  }

  const SampleRuns runs_;
  const std::int64_t channels_;
  std::vector<PairSum> gamma_, beta_;
};

class Backward {
 public:
  Backward(const GroupNormSaved& saved, const GroupNormGrads& grads, const ConstTensor& weights,
           const Plan& plan, ParameterSums& parameters, int workers)
      : saved_(saved),
        plan_(plan),
        parameters_(parameters),
        group_channels_(group_channels(saved)),
        kernel_(verbs(saved.x.dtype, plan.layout)),
        tensors_(grads.dy, saved.x, grads.dx, grads.dresidual,
                 saved.mask.empty() ? nullptr : saved.mask.data(), plan, workers),
        weights_(first_sample(weights), weights.strides[0], saved.x.dtype, plan, false, workers),
        sums_(plan),
        input_(plan, true),
        terms_(input_.terms(sums_, nullptr, nullptr)),
        center_(index(plan.channels)),
        about_(center_.size()),
        low_(weights.given() ? center_.size() : 0),
        group_center_(index(saved.groups)),
        group_low_(group_center_.size()) {}

  void start(std::int64_t sample, std::int64_t begin, std::int64_t end) {
    const std::size_t at = index(sample * saved_.groups + begin);
    kernels().centers({&saved_.mean[at], &saved_.mean_low[at], saved_.x.dtype == DType::float64,
                       &group_center_[index(begin)], &group_low_[index(begin)]},
                      end - begin);
    for (std::int64_t group = begin; group < end; ++group) {
      const std::size_t first = index(group * group_channels_);
      std::fill_n(&center_[first], group_channels_, group_center_[index(group)]);
      std::fill_n(&about_[first], group_channels_, about(sample, group));
    }
    if (!weights_.given()) return;
    weights_.start(sample);
    for (std::int64_t group = begin; group < end; ++group) {
      std::fill_n(&low_[index(group * group_channels_)], group_channels_, group_low_[index(group)]);
    }
  }

  void reduce(const Tile& tile, std::int64_t block, int worker) {
    const GradSumsOf pair{tensors_.dy.read(tile, worker), tensors_.x.read(tile, worker),
                          tensors_.mask, about_};
    double* const sum_gx = sums_.at(1, block, tile.c0);
    grad_sums(kernel_, plan_, pair, tile, sums_.at(0, block, tile.c0), sum_gx);
    if (weights_.given()) {
      drop_weightless(plan_, tensors_, weights_.current(), {center_, low_}, tile, worker, sum_gx);
    }
  }

  void finish(std::int64_t sample, std::int64_t begin, std::int64_t end) {
    sums_.add_up(begin * group_channels_, end * group_channels_);
    for (std::int64_t group = begin; group < end; ++group) finish_group(sample, group);
  }

  void map(const Tile& tile, int worker) const {
    if (weights_.given()) {
      input_.apply_weighted(tensors_, weights_.current(), center_, tile, worker);
    } else {
      input_.apply(kernel_, tensors_, center_, tile, worker);
    }
  }

 private:
  static ConstTensor first_sample(ConstTensor weights) {
    weights.shape[0] = 1;
    return weights;
  }

  // The centre for the sums of a group; see center_of_sums.
  double about(std::int64_t sample, std::int64_t group) const {
    const double center = group_center_[index(group)];
    if (weights_.given()) return center;
    return center_of_sums(saved_.x.dtype, center,
                          saved_.var[index(sample * saved_.groups + group)]);
  }

  // Values of a group, or the sum of their weights.
  double count_of(std::size_t group) const {
    if (!weights_.given()) return static_cast<double>(saved_.count);
    // Where nothing has weight, inv_std is 0, and so is dx.
    return saved_.weight[group] > 0 ? saved_.weight[group] : 1;
  }

  void finish_group(std::int64_t sample, std::int64_t group) {
    const std::int64_t first = group * group_channels_, last = first + group_channels_;
    const std::size_t at = index(sample * saved_.groups + group);
    const double inv_std = saved_.inv_std[at];
    const double low = group_low_[index(group)];
    const double from_sums = group_center_[index(group)] - about_[index(first)] + low;
    PairSum of_g{0, 0}, of_gx{0, 0};  // sum gamma * r * g and sum gamma * r^2 * g * xh
    for (std::int64_t c = first; c < last; ++c) {
      const double dbeta = terms_.sum_g[c],
                   dgamma = (terms_.sum_gx[c] - from_sums * dbeta) * inv_std;
      parameters_.add(sample, c, dgamma, dbeta);
      const double a = saved_.gamma[index(c)] * inv_std;
      add_to(of_g, {a * dbeta, 0});
      add_to(of_gx, {a * inv_std * dgamma, 0});
      terms_.a[c] = a;
    }
    const double m = count_of(at);
    const double b = -(of_gx.hi + of_gx.lo) / m, k = -(of_g.hi + of_g.lo) / m;
    std::fill_n(terms_.b + first, group_channels_, b);
    std::fill_n(terms_.c + first, group_channels_, k - b * low);
  }

  const GroupNormSaved& saved_;
  const Plan& plan_;
  ParameterSums& parameters_;
  const std::int64_t group_channels_;
  const Verbs& kernel_;
  const GradTensors tensors_;
  SampleWeights weights_;
  BlockGradSums sums_;
  InputGradient input_;
  const GradientTerms terms_;
  ChannelVector center_, about_, low_, group_center_, group_low_;  // low_ only with weights
};

void backward(const Check& check, const GroupNormSaved& saved, const GroupNormGrads& grads) {
  const ConstTensor& x = saved.x;
  if (!x.given()) check.refuse("saved is empty, but it needs to come from a forward call");
  check.like(x, grads.dy, "dy");
  check.like(x, grads.dx, "dx");
  if (grads.dresidual.given()) {
    if (!saved.residual) check.refuse("dresidual is given, but the forward call had no residual");
    check.like(x, grads.dresidual, "dresidual");
  }
  check.out_vector(grads.dgamma, x, saved.axis, "dgamma");
  check.out_vector(grads.dbeta, x, saved.axis, "dbeta");

  const ConstTensor weights = weights_of(check, saved);
  const Plan plan = Plan::of_samples(x, saved.axis);
  ParameterSums parameters(plan.samples, plan.channels);
  if (x.size() > 0) {
    const int threads = threads_for(3 * x.size() * size_of(x.dtype));
    for_each_sample({plan, plan, saved.groups, weights.given()}, threads, [&](int workers) {
      return std::make_unique<Backward>(saved, grads, weights, plan, parameters, workers);
    });
  }
  write_vector(grads.dgamma, parameters.dgamma().data());
  write_vector(grads.dbeta, parameters.dbeta().data());
}

}  // namespace

void group_norm_backward(const GroupNormSaved& saved, const GroupNormGrads& grads) {
  backward(Check("group_norm_backward"), saved, grads);
}

void instance_norm_backward(const GroupNormSaved& saved, const GroupNormGrads& grads) {
  backward(Check("instance_norm_backward"), saved, grads);
}

}  // namespace bnpp
