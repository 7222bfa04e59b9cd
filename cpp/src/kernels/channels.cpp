// The algebra between two passes, a channel a lane: formulas in table.h. With thousands of channels
// it is a part of the time that counts.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class Lanes>
BNPP_INLINE Vec load_or(const double* from, std::ptrdiff_t c, Lanes lanes, double otherwise) {
  return from != nullptr ? load(from + c, lanes) : splat(otherwise);
}

}  // namespace

void variances(const VarianceArgs& t, std::ptrdiff_t channels) {
  const Vec count = splat(t.count), eps = splat(t.eps), zero = splat(0), one = splat(1);
  for_each_vector(channels, [&](std::ptrdiff_t c, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec var = load(t.m2 + c, lanes) / count, std = root(var + eps);
    // Neither positive nor 0 is NaN, which passes through.
    const Vec inv_std = choose(positive(std), one / std, zero * std);
    store(t.var + c, var, lanes);
    store(t.inv_std + c, inv_std, lanes);
  });
}

void centers(const CenterArgs& t, std::ptrdiff_t channels) {
  for_each_vector(channels, [&](std::ptrdiff_t c, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec mean = load(t.mean + c, lanes), mean_low = load(t.mean_low + c, lanes);
    if (t.is_float64) {
      store(t.center + c, mean, lanes);
      store(t.low + c, mean_low, lanes);
      return;
    }
    const Vec center = round_to<float>(mean), low = (mean - center) + mean_low;
    // Inf and NaN stay as they are, and so do means beyond float32.
    const Vec finite = finite_or_zero(center) - center;
    const Mask same = positive(splat(1) - finite * finite);
    store(t.center + c, choose(same, center, mean), lanes);
    store(t.low + c, choose(same, low, splat(0)), lanes);
  });
}

void scales(const ScaleArgs& t, std::ptrdiff_t channels) {
  for_each_vector(channels, [&](std::ptrdiff_t c, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec scale = load(t.gamma + c, lanes) * load(t.inv_std + c, lanes);
    store(t.scale + c, scale, lanes);
    store(t.offset + c, load(t.beta + c, lanes) - load(t.low + c, lanes) * scale, lanes);
  });
}

void gradients(const GradientArgs& t, std::ptrdiff_t channels) {
  const Vec count = splat(t.count), two = splat(2);
  for_each_vector(channels, [&](std::ptrdiff_t c, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec inv_std = load(t.inv_std + c, lanes), low = load(t.low + c, lanes);
    const Vec slope = load_or(t.slope, c, lanes, 1);
    const Vec dbeta = load(t.sum_g + c, lanes);
    const Vec dgamma = (load(t.sum_gx + c, lanes) - low * dbeta) * slope * inv_std;
    const Vec a = load(t.gamma + c, lanes) * inv_std;
    const Vec of_var = two * load_or(t.var_grad, c, lanes, 0);
    const Vec b = (of_var - a * inv_std * dgamma) / count * slope;
    const Vec of_mean = load_or(t.mean_grad, c, lanes, 0);
    store(t.sum_gx + c, dgamma, lanes);
    store(t.a + c, a, lanes);
    store(t.b + c, b, lanes);
    store(t.c + c, (of_mean - a * dbeta) / count - b * low, lanes);
  });
}

}  // namespace bnpp::BNPP_ISA
