// Group and instance normalization: every sample is a batch of its own, whose groups are the
// channels that are reduced.
//   moments of groups -> var = M2 / m, inv_std -> affine
// With weights m is their sum over a group, and the weighted moments take the place of these.
#include "bnpp/group_norm.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "norms/check.h"
#include "norms/groups.h"
#include "norms/moments.h"
#include "norms/normalize.h"
#include "norms/sample_weights.h"
#include "norms/samples.h"
#include "norms/saved.h"
#include "norms/weights.h"
#include "runtime/dispatch.h"
#include "runtime/parallel.h"

namespace bnpp {
namespace {

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
  Forward(const GroupNormArgs& args, const ChannelVector& beta, const ConstTensor& weights,
          const Plan& sums, const Plan& plan, GroupNormSaved& saved, int workers)
      : beta_(beta),
        saved_(saved),
        group_channels_(group_channels(saved)),
        moments_(verbs(args.x.dtype, sums.layout)),
        affine_(verbs(args.x.dtype, plan.layout)),
        groups_(groups_as_channels(saved, args.x), sums, workers, args.x.strides[0]),
        input_(args.x, plan, workers),
        weights_(groups_as_channels(saved, weights), weights.strides[0], args.x.dtype, sums, true,
                 workers),
        of_groups_(saved.groups),
        blocks_(sums, of_groups_.view()),
        normalize_(plan, args.residual, args.activation, args.y, workers) {}

  void start(std::int64_t sample, std::int64_t, std::int64_t) {
    if (weights_.given()) blocks_.set_weights(weights_.start(sample));
  }

  void reduce(const Tile& tile, std::int64_t block, int worker) {
    blocks_.reduce(moments_, groups_, tile, block, worker);
  }

  void finish(std::int64_t sample, std::int64_t begin, std::int64_t end) {
    blocks_.merge(begin, end);
    GroupMoments& m = of_groups_;
    const std::size_t at = index(sample * saved_.groups + begin);
    std::copy(m.mean.begin() + begin, m.mean.begin() + end, &saved_.mean[at]);
    std::copy(m.mean_low.begin() + begin, m.mean_low.begin() + end, &saved_.mean_low[at]);
    if (weights_.given()) {
      for (std::int64_t k = 0; k < end - begin; ++k) {
        set_variances(begin + k, at + index(k), saved_.weight[at + index(k)], 1);
      }
    } else {
      set_variances(begin, at, static_cast<double>(saved_.count), end - begin);
    }
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
  /// Of `groups` groups of m values each, or the sum m of weights.
  void set_variances(std::int64_t first, std::size_t at, double m, std::int64_t groups) {
    if (m == 0) {
      saved_.var[at] = saved_.inv_std[at] = 0;
      return;
    }
    kernels().variances(
        {&of_groups_.m2[index(first)], m, saved_.eps, &saved_.var[at], &saved_.inv_std[at]},
        groups);
  }

  const ChannelVector& beta_;
  GroupNormSaved& saved_;
  const std::int64_t group_channels_;
  const Verbs &moments_, &affine_;
  const Operand groups_, input_;
  SampleWeights weights_;
  GroupMoments of_groups_;
  BlockMoments blocks_;
  Normalize normalize_;
};

int channel_axis_of(const Check& check, const ConstTensor& x, int axis) {
  const int from_start = check.axis_of(x, axis);
  if (from_start == 0) {
    check.refuse("axis is ", axis, ", where the samples lie, but the channels need another axis");
  }
  return from_start;
}

/// The sums of the weights of every group; returns whether all weights are finite and >= 0.
bool sum_weights(const ConstTensor& weights, const Plan& sums, GroupNormSaved& saved) {
  const ConstTensor& x = saved.x;
  const int threads = threads_for(x.size() * size_of(weights.dtype));
  std::vector<std::unique_ptr<SampleWeights>> of_workers(index(threads));
  for (auto& of_worker : of_workers) {
    of_worker = std::make_unique<SampleWeights>(groups_as_channels(saved, weights),
                                                weights.strides[0], x.dtype, sums, true, 1);
  }
  auto sum_sample = [&](std::int64_t sample, int worker) {
    const Weights& of_sample = of_workers[index(worker)]->start(sample);
    for (std::int64_t group = 0; group < saved.groups; ++group) {
      const WeightSum w = of_sample.of_channel(group);
      const std::size_t at = index(sample * saved.groups + group);
      saved.weight[at] = w.sum;
      saved.squared_weights[at] = w.squares;
    }
  };
  parallel_for(x.shape[0], threads, sum_sample);
  return std::all_of(saved.weight.begin(), saved.weight.end(),
                     [](double sum) { return std::isfinite(sum); });
}

// Every group needs more than one value with weight, or none at all.
void check_weights_of_groups(const Check& check, const GroupNormSaved& saved) {
  for (std::size_t i = 0; i < saved.weight.size(); ++i) {
    const double sum = saved.weight[i];
    if (!(sum > 0) || unbiased_divisor(sum, saved.squared_weights[i]) != 0) continue;
    const auto at = static_cast<std::int64_t>(i);
    check.refuse("weights leave one value in group ", at % saved.groups, " of sample ",
                 at / saved.groups,
                 ", but two or more (or none) are needed, or on_single=\"biased\"");
  }
}

/// A view of the weights, as of x, and their sums.
void set_weights(const Check& check, const GroupNormArgs& args, const ConstTensor& weights,
                 const Plan& sums, GroupNormSaved& saved) {
  saved.weights = args.weights;
  saved.weight.assign(saved.mean.size(), 0);
  saved.squared_weights = saved.weight;
  const bool good = saved.x.size() > 0 && sum_weights(weights, sums, saved);
  if (!good) refuse_bad_weights(check, args.weights);
  if (args.on_single == OnSingle::error) check_weights_of_groups(check, saved);
}

void check_count(const Check& check, const GroupNormArgs& args, int axis, std::int64_t count) {
  if (count != 1 || args.x.shape[0] == 0 || args.on_single != OnSingle::error) return;
  check.refuse("x has one value a group (shape ", shape_text(args.x), ", axis ", axis, ", ",
               args.groups, args.groups == 1 ? " group" : " groups",
               "), but two or more are needed, or on_single=\"biased\"");
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
  saved.activation = args.activation;
  saved.residual = args.residual.given();
  saved.mean.assign(index(samples * args.groups), 0);
  saved.mean_low = saved.var = saved.mean;
  saved.inv_std.assign(saved.mean.size(), inv_std_of(0, args.eps));
  if (args.activation == Activation::relu) {
    saved.mask.resize(index(plan.mask_bytes()));
  }
  const ConstTensor weights = broadcast_weights(check, x, args.weights);
  Plan sums(groups_as_channels(saved, x), axis);
  sums.samples = samples;
  if (weights.given()) {
    set_weights(check, args, weights, sums, saved);
  } else {
    check_count(check, args, axis, saved.count);
  }
  if (x.size() == 0) return saved;

  const std::int64_t value_bytes = size_of(x.dtype);
  const int threads = threads_for(2 * x.size() * value_bytes);
  for_each_sample({sums, plan, saved.groups, weights.given()}, threads, [&](int workers) {
    return std::make_unique<Forward>(args, beta, weights, sums, plan, saved, workers);
  });
  return saved;
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

}  // namespace bnpp
