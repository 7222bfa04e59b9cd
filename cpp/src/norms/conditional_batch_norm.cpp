// Conditional batch normalization: the moments of the batch, then every sample's own scale and
// shift.
//   moments of the whole -> var = M2 / m, inv_std -> affine, sample by sample
//   grad_sums of each sample = its dbeta, dgamma -> their sums with gamma over the samples
//     -> grad_input, sample by sample
#include "bnpp/conditional_batch_norm.h"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <utility>

#include "fold/pair.h"
#include "norms/check.h"
#include "norms/gradients.h"
#include "norms/moments.h"
#include "norms/normalize.h"
#include "norms/saved.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

int channel_axis_of(const Check& check, const ConstTensor& x, int axis) {
  const int from_start = check.axis_of(x, axis);
  if (from_start == 0) {
    check.refuse("axis is ", axis, ", where the samples lie, but the channels need another axis");
  }
  return from_start;
}

// ---- Matrices (N, C): a row for each sample.

void check_matrix(const Check& check, const ConstTensor& m, const ConstTensor& x, int axis,
                  const char* name) {
  if (!m.given() || (m.ndim == 2 && m.shape[0] == x.shape[0] && m.shape[1] == x.shape[axis]))
    return;
  check.refuse(name, " has shape ", shape_text(m), ", but it needs (", x.shape[0], ", ",
               x.shape[axis], "): a row for each sample, a value for each channel");
}

template <class Void>
BasicTensor<Void> row(const BasicTensor<Void>& matrix, std::int64_t n) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
  BasicTensor<Void> row;
  row.data = static_cast<Byte*>(matrix.data) + n * matrix.strides[0];
  row.dtype = matrix.dtype;
  row.ndim = 1;
  row.shape[0] = matrix.shape[1];
  row.strides[0] = matrix.strides[1];
  return row;
}

ChannelVector read_matrix(const Check& check, const ConstTensor& m, const ConstTensor& x, int axis,
                          const char* name, double fallback) {
  check_matrix(check, m, x, axis, name);
  ChannelVector values(index(x.shape[0] * x.shape[axis]), fallback);
  for (std::int64_t n = 0; m.given() && n < x.shape[0]; ++n) {
    const ChannelVector one = check.vector(row(m, n), x, axis, name, fallback);
    std::copy(one.begin(), one.end(), values.begin() + n * x.shape[axis]);
  }
  return values;
}

void write_matrix(const Tensor& m, const ChannelVector& values) {
  if (!m.given()) return;
  for (std::int64_t n = 0; n < m.shape[0]; ++n) {
    write_vector(row(m, n), values.data() + n * m.shape[1]);
  }
}

// ---- What the passes share.

/// Block `block` of a group of channels of one sample.
Tile tile_of(const Plan& samples, std::int64_t sample, std::int64_t group, std::int64_t block) {
  Tile tile = samples.tile(group, block);
  tile.sample = sample;
  return tile;
}

// Whether a thread takes one group of channels after the other through all steps, so that its map
// finds in the cache what its sums have read.
bool group_by_group(const Plan& samples, std::int64_t value_bytes, int threads) {
  // Below this many groups a thread, uneven shares would leave threads idle.
  constexpr int kGroupsPerThread = 4;

  return samples.group_fits_cache(value_bytes * samples.samples, threads) &&
         (threads == 1 || samples.groups >= kGroupsPerThread * threads);
}

/// The map of a group of channels of all samples. Works have start(sample, begin, end) for the
/// parameters of these channels, and map(tile).
template <class Work>
void map_group(const Plan& samples, std::int64_t group, Work& work) {
  for (std::int64_t sample = samples.samples; sample-- > 0;) {
    work.start(sample, samples.group_begin(group), samples.group_end(group));
    for (std::int64_t b = samples.blocks; b-- > 0;) work.map(tile_of(samples, sample, group, b));
  }
}

/// The map of everything, shared by the threads; works[i] is worker i's.
template <class Work>
void map_samples(const Plan& samples, const std::vector<std::unique_ptr<Work>>& works,
                 Order order) {
  const auto threads = static_cast<int>(works.size());
  const std::int64_t tiles = samples.tiles_in_memory_order();
  std::vector<std::int64_t> current(works.size(), -1);  // the sample whose parameters are set
  auto task = [&](std::int64_t task, int worker) {
    Tile tile = samples.tile_in_memory_order(task % tiles);
    tile.sample = task / tiles;
    const std::size_t w = index(worker);
    if (current[w] != tile.sample) works[w]->start(tile.sample, 0, samples.channels);
    current[w] = tile.sample;
    works[w]->map(tile);
  };
  parallel_for(samples.samples * tiles, threads, task, order);
}

/// make() for each worker.
template <class Make>
auto works_for(int threads, Make make) {
  std::vector<decltype(make())> works(index(threads));
  for (auto& work : works) work = make();
  return works;
}

// ---- The forward.

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

// ---- The backward.

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
  for (std::size_t c = 0; c < var.size(); ++c) {
    if (var[c] < 0) check.refuse("var[", c, "] is ", var[c], ", but variances need to be >= 0");
  }

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
