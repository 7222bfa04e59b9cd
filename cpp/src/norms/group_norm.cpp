// Group and instance normalization: every sample is a batch of its own, whose groups are the
// channels that are reduced.
//   moments of groups -> var = M2 / m, inv_std -> affine
//   grad_sums -> their sums over the group, dbeta, dgamma -> grad_input
#include "bnpp/group_norm.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "fold/pair.h"
#include "norms/check.h"
#include "norms/gradients.h"
#include "norms/moments.h"
#include "norms/normalize.h"
#include "norms/samples.h"
#include "norms/saved.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

std::int64_t group_channels(const GroupNormSaved& saved) {
  return saved.groups > 0 ? saved.x.shape[saved.axis] / saved.groups : 0;
}

/// A sample of x with its groups as channels: what was the samples' axis goes through the channels
/// of a group.
ConstTensor groups_as_channels(const GroupNormSaved& saved) {
  ConstTensor x = saved.x;
  x.shape[0] = group_channels(saved);
  x.strides[0] = x.strides[saved.axis];
  x.shape[saved.axis] = saved.groups;
  x.strides[saved.axis] *= x.shape[0];
  return x;
}

/// Where the groups' moments of one sample at a time go, and their centres.
struct GroupMoments {
  explicit GroupMoments(std::int64_t groups)
      : mean(index(groups)),
        mean_low(mean.size()),
        m2(mean.size()),
        m2_low(mean.size()),
        center(mean.size()),
        low(mean.size()) {}

  MomentsView view() { return {mean.data(), mean_low.data(), m2.data(), m2_low.data()}; }

  ChannelVector mean, mean_low, m2, m2_low, center, low;
};

class Forward {
 public:
  Forward(const GroupNormArgs& args, const ChannelVector& beta, const Plan& sums, const Plan& plan,
          GroupNormSaved& saved, int workers)
      : beta_(beta),
        saved_(saved),
        group_channels_(group_channels(saved)),
        moments_(verbs(args.x.dtype, sums.layout)),
        affine_(verbs(args.x.dtype, plan.layout)),
        groups_(groups_as_channels(saved), sums, workers, args.x.strides[0]),
        input_(args.x, plan, workers),
        of_groups_(saved.groups),
        blocks_(sums, of_groups_.view()),
        normalize_(plan, args.residual, args.activation, args.y, workers) {}

  void start(std::int64_t, std::int64_t, std::int64_t) {}

  void reduce(const Tile& tile, std::int64_t block, int worker) {
    blocks_.reduce(moments_, groups_, tile, block, worker);
  }

  void finish(std::int64_t sample, std::int64_t begin, std::int64_t end) {
    blocks_.merge(begin, end);
    GroupMoments& m = of_groups_;
    const std::size_t at = index(sample * saved_.groups + begin);
    std::copy(m.mean.begin() + begin, m.mean.begin() + end, &saved_.mean[at]);
    std::copy(m.mean_low.begin() + begin, m.mean_low.begin() + end, &saved_.mean_low[at]);
    kernels().variances({&m.m2[index(begin)], static_cast<double>(saved_.count), saved_.eps,
                         &saved_.var[at], &saved_.inv_std[at]},
                        end - begin);
    kernels().centers({&saved_.mean[at], &saved_.mean_low[at], saved_.x.dtype == DType::float64,
                       &m.center[index(begin)], &m.low[index(begin)]},
                      end - begin);
    for (std::int64_t group = begin; group < end; ++group) {
      const std::int64_t first = group * group_channels_;
      normalize_.set_group(first, first + group_channels_, m.center[index(group)],
                           m.low[index(group)], saved_.inv_std[at + index(group - begin)],
                           saved_.gamma, beta_);
    }
  }

  void map(const Tile& tile, int worker) const {
    std::uint8_t* mask = saved_.mask.empty() ? nullptr : saved_.mask.data();
    normalize_.apply(affine_, input_, mask, tile, worker);
  }

 private:
  const ChannelVector& beta_;
  GroupNormSaved& saved_;
  const std::int64_t group_channels_;
  const Verbs &moments_, &affine_;
  const Operand groups_, input_;
  GroupMoments of_groups_;
  BlockMoments blocks_;
  Normalize normalize_;
};

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
  Backward(const GroupNormSaved& saved, const GroupNormGrads& grads, const Plan& plan,
           ParameterSums& parameters, int workers)
      : saved_(saved),
        plan_(plan),
        parameters_(parameters),
        group_channels_(group_channels(saved)),
        kernel_(verbs(saved.x.dtype, plan.layout)),
        tensors_(grads.dy, saved.x, grads.dx, grads.dresidual,
                 saved.mask.empty() ? nullptr : saved.mask.data(), plan, workers),
        sums_(plan),
        input_(plan, true),
        terms_(input_.terms(sums_, nullptr, nullptr)),
        center_(index(plan.channels)),
        group_center_(index(saved.groups)),
        group_low_(group_center_.size()) {}

  void start(std::int64_t sample, std::int64_t begin, std::int64_t end) {
    const std::size_t at = index(sample * saved_.groups + begin);
    kernels().centers({&saved_.mean[at], &saved_.mean_low[at], saved_.x.dtype == DType::float64,
                       &group_center_[index(begin)], &group_low_[index(begin)]},
                      end - begin);
    for (std::int64_t group = begin; group < end; ++group) {
      std::fill_n(&center_[index(group * group_channels_)], group_channels_,
                  group_center_[index(group)]);
    }
  }

  void reduce(const Tile& tile, std::int64_t block, int worker) {
    const GradSumsOf pair{tensors_.dy.read(tile, worker), tensors_.x.read(tile, worker),
                          tensors_.mask, center_};
    grad_sums(kernel_, plan_, pair, tile, sums_.at(0, block, tile.c0), sums_.at(1, block, tile.c0));
  }

  void finish(std::int64_t sample, std::int64_t begin, std::int64_t end) {
    sums_.add_up(begin * group_channels_, end * group_channels_);
    for (std::int64_t group = begin; group < end; ++group) finish_group(sample, group);
  }

  void map(const Tile& tile, int worker) const {
    input_.apply(kernel_, tensors_, center_, tile, worker);
  }

 private:
  void finish_group(std::int64_t sample, std::int64_t group) {
    const std::int64_t first = group * group_channels_, last = first + group_channels_;
    const double inv_std = saved_.inv_std[index(sample * saved_.groups + group)];
    const double low = group_low_[index(group)];
    PairSum of_g{0, 0}, of_gx{0, 0};  // sum gamma * r * g and sum gamma * r^2 * g * xh
    for (std::int64_t c = first; c < last; ++c) {
      const double dbeta = terms_.sum_g[c], dgamma = (terms_.sum_gx[c] - low * dbeta) * inv_std;
      parameters_.add(sample, c, dgamma, dbeta);
      const double a = saved_.gamma[index(c)] * inv_std;
      add_to(of_g, {a * dbeta, 0});
      add_to(of_gx, {a * inv_std * dgamma, 0});
      terms_.a[c] = a;
    }
    const auto m = static_cast<double>(saved_.count);
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
  BlockGradSums sums_;
  InputGradient input_;
  const GradientTerms terms_;
  ChannelVector center_, group_center_, group_low_;
};

int channel_axis_of(const Check& check, const ConstTensor& x, int axis) {
  const int from_start = check.axis_of(x, axis);
  if (from_start == 0) {
    check.refuse("axis is ", axis, ", where the samples lie, but the channels need another axis");
  }
  return from_start;
}

GroupNormSaved forward(const Check& check, const GroupNormArgs& args, int axis) {
  const ConstTensor& x = args.x;
  const std::int64_t samples = x.shape[0];
  check.eps(args.eps);
  check.like(x, args.y, "y");
  if (args.residual.given()) check.like(x, args.residual, "residual");

  GroupNormSaved saved;
  saved.gamma = check.vector(args.gamma, x, axis, "gamma", 1);
  const ChannelVector beta = check.vector(args.beta, x, axis, "beta", 0);
  saved.x = x;
  saved.axis = axis;
  saved.eps = args.eps;
  saved.groups = args.groups;
  const Plan plan = Plan::of_samples(x, axis);
  saved.count = group_channels(saved) * plan.count;
  if (saved.count == 1 && samples > 0 && args.on_single == OnSingle::error) {
    check.refuse("x has one value a group (shape ", shape_text(x), ", axis ", axis, ", ",
                 args.groups, args.groups == 1 ? " group" : " groups",
                 "), but two or more are needed, or on_single=\"biased\"");
  }
  saved.activation = args.activation;
  saved.residual = args.residual.given();
  saved.mean.assign(index(samples * args.groups), 0);
  saved.mean_low = saved.var = saved.mean;
  saved.inv_std.assign(saved.mean.size(), inv_std_of(0, args.eps));
  if (args.activation == Activation::relu) {
    saved.mask.resize(index(plan.mask_bytes()));
  }
  if (x.size() == 0) return saved;

  const std::int64_t value_bytes = size_of(x.dtype);
  Plan sums(groups_as_channels(saved), axis);
  sums.samples = samples;
  const int threads = threads_for(2 * x.size() * value_bytes);
  for_each_sample({sums, plan, saved.groups}, threads, [&](int workers) {
    return std::make_unique<Forward>(args, beta, sums, plan, saved, workers);
  });
  return saved;
}

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

  const Plan plan = Plan::of_samples(x, saved.axis);
  ParameterSums parameters(plan.samples, plan.channels);
  if (x.size() > 0) {
    const int threads = threads_for(3 * x.size() * size_of(x.dtype));
    for_each_sample({plan, plan, saved.groups}, threads, [&](int workers) {
      return std::make_unique<Backward>(saved, grads, plan, parameters, workers);
    });
  }
  write_vector(grads.dgamma, parameters.dgamma().data());
  write_vector(grads.dbeta, parameters.dbeta().data());
}

}  // namespace

GroupNormSaved group_norm(const GroupNormArgs& args) {
  const Check check("group_norm");
  const int axis = channel_axis_of(check, args.x, args.axis);
  const std::int64_t channels = args.x.shape[axis];
  if (args.groups < 1 || channels % args.groups != 0) {
    check.refuse("groups is ", args.groups, ", but it needs to divide x's ", channels,
                 channels == 1 ? " channel" : " channels", " along axis ", axis);
  }
  return forward(check, args, axis);
}

GroupNormSaved instance_norm(const InstanceNormArgs& args) {
  const Check check("instance_norm");
  const int axis = channel_axis_of(check, args.x, args.axis);
  return forward(check, {args, args.x.shape[axis]}, axis);
}

void group_norm_backward(const GroupNormSaved& saved, const GroupNormGrads& grads) {
  backward(Check("group_norm_backward"), saved, grads);
}

void instance_norm_backward(const GroupNormSaved& saved, const GroupNormGrads& grads) {
  backward(Check("instance_norm_backward"), saved, grads);
}

}  // namespace bnpp
