// mean = K + s1 / n, M2 = s2 - s1^2 / n for a block (K its shift), and for two
//   d = mean_b - mean_a,  mean = mean_a + d * n_b / n,  M2 = M2_a + M2_b + d^2 * n_a * n_b / n
// (Chan, Golub & LeVeque 1979). Sums are kept exactly as pairs hi + lo, so neither the order of
// merging nor the number of parts costs digits.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

// Arithmetic to twice float64's digits, on unevaluated sums hi + lo. Where hi is Inf or NaN, lo
// is 0.
struct Pair {
  Vec hi, lo;
};

BNPP_INLINE Pair exact_sum(Vec a, Vec b) {
  Vec error;
  const Vec sum = two_sum(a, b, error);
  return {sum, finite_or_zero(error)};
}

BNPP_INLINE Pair add(Pair a, Pair b) {
  const Pair s = exact_sum(a.hi, b.hi);
  return exact_sum(s.hi, s.lo + (finite_or_zero(a.lo) + finite_or_zero(b.lo)));
}

BNPP_INLINE Pair negative(Pair a) {
  const Vec zero = splat(-0.0);
  return {zero - a.hi, zero - a.lo};
}

BNPP_INLINE Pair multiply(Pair a, Pair b) {
  const Vec hi = a.hi * b.hi, error = fused(a.hi, b.hi, negative({hi, hi}).hi);
  return {hi, finite_or_zero(error + (a.hi * b.lo + a.lo * b.hi))};
}

BNPP_INLINE Pair divide(Pair a, Vec b) {
  const Vec hi = a.hi / b, rest = fused(splat(-0.0) - hi, b, a.hi);
  return {hi, finite_or_zero((rest + a.lo) / b)};
}

template <class Lanes>
BNPP_INLINE Pair load_pair(const double* hi, const double* lo, std::ptrdiff_t c, Lanes lanes) {
  return {load(hi + c, lanes), load(lo + c, lanes)};
}
template <class Lanes>
BNPP_INLINE void store_pair(double* hi, double* lo, std::ptrdiff_t c, Pair v, Lanes lanes) {
  store(hi + c, v.hi, lanes);
  store(lo + c, v.lo, lanes);
}

}  // namespace

void moments_of_sums(const BlockSums& sums, double count, std::ptrdiff_t channels,
                     const MomentsView& to) {
  const Vec n = splat(count), zero = splat(0);
  for_each_vector(channels, [&](std::ptrdiff_t c, auto lanes) BNPP_INLINE_LAMBDA {
    Pair s1 = load_pair(sums.s1, sums.s1_low, c, lanes);
    s1.lo = finite_or_zero(s1.lo);
    const Pair s2 = load_pair(sums.s2, sums.s2_low, c, lanes);
    const Pair step = divide(s1, n);
    const Pair mean = add({load(sums.shift + c, lanes), zero}, step);
    const Pair m2 = add(s2, negative(multiply(step, s1)));
    // Below 0 are the sums of equal values, but for rounding.
    const Mask rounding = positive(zero - m2.hi);
    store_pair(to.mean, to.mean_low, c, mean, lanes);
    store_pair(to.m2, to.m2_low, c, {choose(rounding, zero, m2.hi), choose(rounding, zero, m2.lo)},
               lanes);
  });
}

void merge_moments(const MomentsView& a, double count_a, const MomentsView& b, double count_b,
                   std::ptrdiff_t channels) {
  const Vec n_a = splat(count_a), n_b = splat(count_b), n = splat(count_a + count_b);
  const Vec zero = splat(0);
  for_each_vector(channels, [&](std::ptrdiff_t c, auto lanes) BNPP_INLINE_LAMBDA {
    const Pair mean_a = load_pair(a.mean, a.mean_low, c, lanes);
    const Pair d = add(load_pair(b.mean, b.mean_low, c, lanes), negative(mean_a));
    const Pair step = divide(multiply(d, {n_b, zero}), n);
    const Pair between = multiply(multiply(d, step), {n_a, zero});
    const Pair within =
        add(load_pair(a.m2, a.m2_low, c, lanes), load_pair(b.m2, b.m2_low, c, lanes));
    store_pair(a.mean, a.mean_low, c, add(mean_a, step), lanes);
    store_pair(a.m2, a.m2_low, c, add(within, between), lanes);
  });
}

}  // namespace bnpp::BNPP_ISA
