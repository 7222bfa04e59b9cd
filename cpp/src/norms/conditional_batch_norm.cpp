// Conditional batch normalization: the moments of the batch, then every sample's own scale and
// shift.
//   moments of the whole -> var = M2 / m, inv_std -> affine, sample by sample
#include "bnpp/conditional_batch_norm.h"

#include <memory>
#include <utility>

#include "norms/check.h"
#include "norms/conditional.h"
#include "norms/moments.h"
#include "norms/normalize.h"
#include "norms/saved.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

/// y, and the ReLU bits, of one sample at a time.
class SampleAffine {
 public:
  SampleAffine(const Plan& plan, ConditionalBatchNormSaved& saved, const ChannelVector& beta,
               const ConstTensor& residual, const Tensor& y)
      : plan_(plan),
        saved_(saved),
        beta_(beta),
        mask_(mask_of(saved)),
        kernel_(verbs(saved.x.dtype, plan.layout)),
        input_(saved.x, plan, 1),
        normalize_(plan, residual, saved.activation, y, 1) {}

  void start(std::int64_t sample, std::int64_t begin, std::int64_t end) {
    const std::int64_t row = sample * plan_.channels;
    normalize_.set_channels(begin, end, saved_, saved_.gamma.data() + row, beta_.data() + row);
  }

  void map(const Tile& tile) { normalize_.apply(kernel_, input_, mask_, tile, 0); }

 private:
  const Plan& plan_;
  const ConditionalBatchNormSaved& saved_;
  const ChannelVector& beta_;
  std::uint8_t* const mask_;
  const Verbs& kernel_;
  const Operand input_;
  Normalize normalize_;
};

/// The moments of the batch and y.
void train(ConditionalBatchNormSaved& saved, const Plan& plan, const Plan& samples,
           const ChannelVector& beta, const ConstTensor& residual, const Tensor& y) {
  const std::int64_t value_bytes = size_of(saved.x.dtype);
  const int threads = threads_for(2 * saved.x.size() * value_bytes);
  const Verbs& kernel = verbs(saved.x.dtype, plan.layout);
  const Operand input(saved.x, plan, threads);
  BlockMoments blocks(plan, moments_of(saved));
  const auto works = works_for(
      threads, [&] { return std::make_unique<SampleAffine>(samples, saved, beta, residual, y); });
  auto finish = [&](std::int64_t group, int) {
    const std::int64_t begin = plan.group_begin(group), end = plan.group_end(group);
    blocks.merge(begin, end);
    set_variances(saved, saved.m2.data(), static_cast<double>(plan.count), begin, end);
  };
  // In rows the groups of both plans are single channels.
  const bool rows = plan.layout == Layout::rows && samples.layout == Layout::rows;
  if (rows && group_by_group(samples, value_bytes, threads)) {
    auto whole_group = [&](std::int64_t group, int worker) {
      for (std::int64_t b = 0; b < plan.blocks; ++b) {
        blocks.reduce(kernel, input, plan.tile(group, b), b, worker);
      }
      finish(group, worker);
      map_group(samples, group, *works[index(worker)]);
    };
    parallel_for(plan.groups, threads, whole_group);
    return;
  }
  reduce_all(plan, threads, [&](const Tile& tile, std::int64_t block, int worker) {
    blocks.reduce(kernel, input, tile, block, worker);
  });
  parallel_for(plan.groups, threads, finish);
  map_samples(samples, works, Order::backward);  // what was read last is in the cache still
}

}  // namespace

ConditionalBatchNormSaved conditional_batch_norm(const ConditionalBatchNormArgs& args) {
  const Check check("conditional_batch_norm");
  const ConstTensor& x = args.x;
  const int axis = channel_axis_of(check, x, args.axis);
  check.eps(args.eps);
  check.like(x, args.y, "y");
  if (args.residual.given()) check.like(x, args.residual, "residual");
  ChannelVector gamma = read_matrix(check, args.gamma, x, axis, "gamma", 1);
  const ChannelVector beta = read_matrix(check, args.beta, x, axis, "beta", 0);
  const Plan plan(x, axis);
  if (plan.count == 1 && plan.channels > 0 && args.on_single == OnSingle::error) {
    check.refuse("x has one value a channel (shape ", shape_text(x), ", axis ", axis,
                 "), but training needs two or more, or on_single=\"biased\"");
  }

  ConditionalBatchNormSaved saved;
  static_cast<BatchNormSaved&>(saved) = new_saved(x, plan, args.eps, std::move(gamma));
  saved.activation = args.activation;
  saved.residual = args.residual.given();
  const Plan samples = Plan::of_samples(x, axis);
  if (args.activation == Activation::relu) add_mask(saved, samples);
  if (x.size() > 0) train(saved, plan, samples, beta, args.residual, args.y);
  return saved;
}

ConditionalBatchNormSaved conditional_batch_norm_inference(
    const ConditionalBatchNormInferenceArgs& args) {
  const Check check("conditional_batch_norm_inference");
  const ConstTensor& x = args.x;
  const int axis = channel_axis_of(check, x, args.axis);
  check.eps(args.eps);
  check.like(x, args.y, "y");
  if (args.residual.given()) check.like(x, args.residual, "residual");
  ChannelVector gamma = read_matrix(check, args.gamma, x, axis, "gamma", 1);
  const ChannelVector beta = read_matrix(check, args.beta, x, axis, "beta", 0);
  if (!args.mean.given()) check.refuse("mean is not given, but it needs one value a channel");
  if (!args.var.given()) check.refuse("var is not given, but it needs one value a channel");
  ChannelVector mean = check.vector(args.mean, x, axis, "mean", 0);
  ChannelVector var = check.vector(args.var, x, axis, "var", 1);
  check.variances(var);

  ConditionalBatchNormSaved saved;
  static_cast<BatchNormSaved&>(saved) = new_saved(x, Plan(x, axis), args.eps, std::move(gamma));
  saved.frozen = true;
  saved.activation = args.activation;
  saved.residual = args.residual.given();
  saved.mean = std::move(mean);
  saved.mean_low.assign(saved.mean.size(), 0);
  saved.var = std::move(var);
  const Plan samples = Plan::of_samples(x, axis);
  set_variances(saved, saved.var.data(), 1, 0, samples.channels);
  if (args.activation == Activation::relu && args.keep_mask) add_mask(saved, samples);
  if (x.size() == 0) return saved;
  const auto works = works_for(threads_for(2 * x.size() * size_of(x.dtype)), [&] {
    return std::make_unique<SampleAffine>(samples, saved, beta, args.residual, args.y);
  });
  map_samples(samples, works, Order::forward);
  return saved;
}

}  // namespace bnpp
