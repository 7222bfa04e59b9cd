// The backward of conditional batch normalization:
//   grad_sums of each sample = its dbeta, dgamma -> their sums with gamma over the samples
//     -> grad_input, sample by sample
#include <memory>
#include <utility>

#include "bnpp/conditional_batch_norm.h"
#include "fold/pair.h"
#include "norms/check.h"
#include "norms/conditional.h"
#include "norms/gradients.h"
#include "norms/moments.h"
#include "norms/saved.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

/// dgamma and dbeta of every sample (N, C), and with h = gamma[n, c] * g the sums over the batch of
/// h and h * xh (C).
struct Sums {
  Sums(std::size_t samples_and_channels, std::size_t channels)
      : dgamma(samples_and_channels, 0),
        dbeta(samples_and_channels, 0),
        batch_h(channels, 0),
        batch_hx(channels, 0) {}

  ChannelVector dgamma, dbeta, batch_h, batch_hx;
};

class SampleSums {
 public:
  SampleSums(const Plan& plan, const ConditionalBatchNormSaved& saved, const ConstTensor& dy,
             const Sources& means, Sums& sums, int workers)
      : plan_(plan),
        saved_(saved),
        means_(means),
        sums_(sums),
        kernel_(verbs(saved.x.dtype, plan.layout)),
        tensors_(dy, saved.x, Tensor(), Tensor(), mask_of(saved), plan, workers),
        blocks_(plan) {}

  void reduce(const Tile& tile, std::int64_t block, int worker) {
    const GradSumsOf pair{tensors_.dy.read(tile, worker), tensors_.x.read(tile, worker),
                          tensors_.mask, means_.center};
    grad_sums(kernel_, plan_, pair, tile, blocks_.at(0, block, tile.c0),
              blocks_.at(1, block, tile.c0));
  }

  void finish(std::int64_t sample, std::int64_t begin, std::int64_t end) {
    blocks_.add_up(begin, end);
    for (std::int64_t c = begin; c < end; ++c) {
      const GradSums sum = blocks_.of_channel(c, means_.of_channel(index(c)));
      const std::size_t at = index(sample * plan_.channels + c);
      sums_.dbeta[at] = sum.g;
      sums_.dgamma[at] = sum.gx * saved_.inv_std[index(c)];
    }
  }

  /// A group of channels of one sample, all of it.
  void reduce_group(std::int64_t sample, std::int64_t group) {
    for (std::int64_t b = 0; b < plan_.blocks; ++b) reduce(tile_of(plan_, sample, group, b), b, 0);
    finish(sample, plan_.group_begin(group), plan_.group_end(group));
  }

 private:
  const Plan& plan_;
  const ConditionalBatchNormSaved& saved_;
  const Sources& means_;
  Sums& sums_;
  const Verbs& kernel_;
  const GradTensors tensors_;
  BlockGradSums blocks_;
};

/// The sums over the batch of channels [begin, end), once those of all samples are there.
void add_up_samples(Sums& sums, const Plan& samples, const ChannelVector& gamma, std::int64_t begin,
                    std::int64_t end) {
  for (std::int64_t c = begin; c < end; ++c) {
    PairSum h{0, 0}, hx{0, 0};
    for (std::int64_t sample = 0; sample < samples.samples; ++sample) {
      const std::size_t at = index(sample * samples.channels + c);
      add_product(h, gamma[at], sums.dbeta[at]);
      add_product(hx, gamma[at], sums.dgamma[at]);
    }
    sums.batch_h[index(c)] = h.hi + h.lo;
    sums.batch_hx[index(c)] = hx.hi + hx.lo;
  }
}

/// dx and dresidual of one sample at a time.
class SampleInputGradient {
 public:
  SampleInputGradient(const Plan& plan, const ConditionalBatchNormSaved& saved,
                      const BatchNormGrads& grads, const Sources& means, const Sums& sums)
      : plan_(plan),
        saved_(saved),
        means_(means),
        sums_(sums),
        kernel_(verbs(saved.x.dtype, plan.layout)),
        tensors_(grads.dy, saved.x, grads.dx, grads.dresidual, mask_of(saved), plan, 1),
        input_(plan, !saved.frozen) {}

  void start(std::int64_t sample, std::int64_t begin, std::int64_t end) {
    const auto m = static_cast<double>(saved_.count);
    const InputCoefficients to = input_.coefficients();
    for (std::int64_t channel = begin; channel < end; ++channel) {
      const std::size_t c = index(channel);
      const double r = saved_.inv_std[c];
      to.a[c] = saved_.gamma[index(sample * plan_.channels) + c] * r;
      to.b[c] = saved_.frozen ? 0 : -r * r * sums_.batch_hx[c] / m;
      to.c[c] = saved_.frozen ? 0 : -r * sums_.batch_h[c] / m - to.b[c] * means_.low[c];
    }
  }

  void map(const Tile& tile) { input_.apply(kernel_, tensors_, means_.center, tile, 0); }

 private:
  const Plan& plan_;
  const ConditionalBatchNormSaved& saved_;
  const Sources& means_;
  const Sums& sums_;
  const Verbs& kernel_;
  const GradTensors tensors_;
  InputGradient input_;
};

/// Fills dx and dresidual.
Sums back(const ConditionalBatchNormSaved& saved, const BatchNormGrads& grads) {
  Sums sums(saved.gamma.size(), saved.mean.size());
  if (saved.x.size() == 0) return sums;
  const Plan samples = Plan::of_samples(saved.x, saved.axis);
  const std::int64_t value_bytes = size_of(saved.x.dtype);
  const int threads = threads_for(3 * saved.x.size() * value_bytes);
  const Sources means(saved);

  auto sums_of = [&](int workers) {
    return std::make_unique<SampleSums>(samples, saved, grads.dy, means, sums, workers);
  };
  const auto inputs = works_for(threads, [&] {
    return std::make_unique<SampleInputGradient>(samples, saved, grads, means, sums);
  });
  auto finish = [&](std::int64_t group, int) {
    add_up_samples(sums, samples, saved.gamma, samples.group_begin(group),
                   samples.group_end(group));
  };
  if (group_by_group(samples, 2 * value_bytes, threads)) {
    const auto works = works_for(threads, [&] { return sums_of(1); });
    auto whole_group = [&](std::int64_t group, int worker) {
      for (std::int64_t sample = 0; sample < samples.samples; ++sample) {
        works[index(worker)]->reduce_group(sample, group);
      }
      finish(group, worker);
      map_group(samples, group, *inputs[index(worker)]);
    };
    parallel_for(samples.groups, threads, whole_group);
    return sums;
  }
  // With pairs (sample, group) enough for the threads each takes some; with few, they share the
  // blocks of one sample after the other.
  constexpr int kPairsPerThread = 4;
  const std::int64_t pairs = samples.samples * samples.groups;
  if (threads == 1 || pairs >= kPairsPerThread * threads) {
    const auto works = works_for(threads, [&] { return sums_of(1); });
    auto task = [&](std::int64_t task, int worker) {
      works[index(worker)]->reduce_group(task / samples.groups, task % samples.groups);
    };
    parallel_for(pairs, threads, task);
  } else {
    const auto work = sums_of(threads);
    for (std::int64_t sample = 0; sample < samples.samples; ++sample) {
      reduce_all(samples, threads, [&](Tile tile, std::int64_t block, int worker) {
        tile.sample = sample;
        work->reduce(tile, block, worker);
      });
      work->finish(sample, 0, samples.channels);
    }
  }
  parallel_for(samples.groups, threads, finish);
  map_samples(samples, inputs, Order::backward);
  return sums;
}

}  // namespace

void conditional_batch_norm_backward(const ConditionalBatchNormSaved& saved,
                                     const ConditionalBatchNormGrads& grads) {
  const Check check("conditional_batch_norm_backward");
  BatchNormGrads vectors = grads;
  vectors.dgamma = vectors.dbeta = Tensor();  // not vectors here
  check_backward(check, saved, vectors);
  const ConstTensor& x = saved.x;
  check_matrix(check, grads.dgamma, x, saved.axis, "dgamma");
  check_matrix(check, grads.dbeta, x, saved.axis, "dbeta");

  const Sums sums = back(saved, grads);
  write_matrix(grads.dgamma, sums.dgamma);
  write_matrix(grads.dbeta, sums.dbeta);
  ChannelVector dmean = sums.batch_h, dvar = sums.batch_hx;
  for (std::size_t c = 0; c < dmean.size(); ++c) {
    dmean[c] *= -saved.inv_std[c];
    dvar[c] *= -0.5 * saved.inv_std[c] * saved.inv_std[c];
  }
  write_vector(grads.dmean, dmean.data());
  write_vector(grads.dvar, dvar.data());
}

}  // namespace bnpp
