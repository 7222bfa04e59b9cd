// Affine maps and folding, against sums written out here.
#include <cmath>

#include "check.h"

namespace {

using bnpp::Affine;
using bnpp::dense;
using bnpp::FoldArgs;
using bnpp::Folded;
using bnpp::Padding;
using bnpp::ValueError;

Affine some_map(std::size_t channels, unsigned seed) {
  return {normal<double>(channels, 0, seed), normal<double>(channels, 0, seed + 1)};
}

bool near(double a, double b) {
  return std::abs(a - b) <= 1e-14 * (std::abs(a) + std::abs(b)) + 1e-14;
}

// y[o] = bias[o] + sum of weight[o, i] * x[i].
std::vector<double> linear(const std::vector<double>& weight, const std::vector<double>& bias,
                           const std::vector<double>& x) {
  std::vector<double> y = bias;
  for (std::size_t o = 0; o < y.size(); ++o) {
    for (std::size_t i = 0; i < x.size(); ++i) y[o] += weight[o * x.size() + i] * x[i];
  }
  return y;
}

void the_algebra() {
  const std::vector<float> gamma = {3, 1}, mean = {2, 5}, var = {9, 0};
  const Affine bn = bnpp::affine(dense(gamma.data(), {2}), {}, dense(mean.data(), {2}),
                                 dense(var.data(), {2}), 0);
  CHECK(bn.scale == (std::vector<double>{1, 0}));
  CHECK(bn.shift == (std::vector<double>{-2, 0}));
  CHECK(bn.variance == (std::vector<std::uint8_t>{0, bnpp::kZeroVariance}));
  CHECK(throws<ValueError>([&] { inverse(bn); }, "scale[1] is 0"));

  const Affine a = some_map(3, 1), b = some_map(3, 5), both = compose(a, b);
  for (std::size_t c = 0; c < 3; ++c) {
    CHECK(both.scale[c] == a.scale[c] * b.scale[c]);
    CHECK(near(compose(inverse(a), both).shift[c], b.shift[c]));
  }
  CHECK(bnpp::concat({&a, &b}).channels() == 6);
  CHECK(take(bnpp::concat({&a, &b}), {4}).scale[0] == b.scale[1]);
  CHECK(throws<ValueError>([&] { take(a, {3}); }, "indices[0] is 3"));
  CHECK(throws<ValueError>([&] { compose(a, bn); }, "first has 2 channels, but second has 3"));

  const std::vector<float> x = normal<float>(12);
  std::vector<float> y(12);
  apply(a, dense(x.data(), {4, 3}), dense(y.data(), {4, 3}));
  for (std::size_t i = 0; i < 12; ++i) {
    CHECK(y[i] == static_cast<float>(x[i] * a.scale[i % 3] + a.shift[i % 3]));
  }
}

void both_sides_of_a_linear_layer() {
  const std::vector<double> weight = normal<double>(12), bias = normal<double>(3, 0, 2),
                            x = normal<double>(4, 0, 3);
  const Affine after = some_map(3, 4), before = some_map(4, 6);
  std::vector<double> moved = x;
  for (std::size_t i = 0; i < 4; ++i) moved[i] = x[i] * before.scale[i] + before.shift[i];
  std::vector<double> expected = linear(weight, bias, moved);
  for (std::size_t o = 0; o < 3; ++o) expected[o] = expected[o] * after.scale[o] + after.shift[o];

  FoldArgs args;
  args.weight = dense(weight.data(), {3, 4});
  args.bias = dense(bias.data(), {3});
  args.after = &after;
  args.before = &before;
  std::vector<double> folded(12), folded_bias(3);
  const Folded result =
      fold_linear(args, dense(folded.data(), {3, 4}), dense(folded_bias.data(), {3}));
  const std::vector<double> y = linear(folded, folded_bias, x), bound = result.report.bound(4);
  for (std::size_t o = 0; o < 3; ++o) {
    CHECK(near(y[o], expected[o]));
    CHECK(bound[o] > 0 && bound[o] < 1e-13);
    CHECK(result.report.bound(4, 0x1p-24)[o] > 1e6 * bound[o]);
  }

  std::vector<double> in_place = weight;
  args.weight = dense(static_cast<const double*>(in_place.data()), {3, 4});
  fold_linear(args, dense(in_place.data(), {3, 4}), dense(folded_bias.data(), {3}));
  CHECK(same_bits(in_place, folded));
}

void groups_and_layouts() {
  // 2 groups, 1 input and 3 outputs each, a kernel of 2: (6, 1, 2) and the same as (2, 3, 1, 2).
  const std::vector<float> weight = normal<float>(12);
  const Affine after = some_map(6, 1), before = some_map(2, 2);
  FoldArgs args;
  args.after = &after;
  args.before = &before;
  args.weight = dense(weight.data(), {6, 1, 2});
  args.groups = 2;
  CHECK(output_channels_of_conv(args) == 6);
  std::vector<float> folded(12), bias(6), other(12), other_bias(6);
  const Folded result = fold_conv(args, dense(folded.data(), {6, 1, 2}), dense(bias.data(), {6}));
  CHECK(result.report.terms == 2);
  for (std::size_t o = 0; o < 6; ++o) {
    const double t = before.shift[o / 3], sum = double(weight[2 * o]) + double(weight[2 * o + 1]);
    CHECK(bias[o] == static_cast<float>(after.scale[o] * sum * t + after.shift[o]));
  }
  args.groups = 1;
  args.layout = "GOIW";
  args.weight = dense(weight.data(), {2, 3, 1, 2});
  fold_conv(args, dense(other.data(), {2, 3, 1, 2}), dense(other_bias.data(), {6}));
  CHECK(same_bits(folded, other));
  CHECK(same_bits(bias, other_bias));
}

void refusals_write_nothing() {
  const std::vector<float> weight(8, 1e38f);
  const Affine large({1, 1, 1, 100}, {0, 0, 0, 0}), shifted({1, 1}, {0, 1});
  std::vector<float> folded(8, 7), bias(4, 7);
  FoldArgs args;
  args.weight = dense(weight.data(), {4, 2, 1});
  const auto fold = [&] {
    fold_conv(args, dense(folded.data(), {4, 2, 1}), dense(bias.data(), {4}));
  };
  CHECK(throws<ValueError>(fold, "neither after nor before"));
  args.after = &large;
  CHECK(throws<ValueError>(fold, "output channel 3 is 1e+40, too large for float32"));
  args.after = nullptr;
  args.before = &shifted;
  args.padding = Padding::zeros;
  CHECK(throws<ValueError>(fold, "before has shift 1 in channel 1"));
  args.layout = "OI";
  CHECK(throws<ValueError>(fold, "layout 'OI' names 2 axes"));
  args.layout = "OIH";
  args.weight = {};
  CHECK(throws<ValueError>(fold, "weight is not given"));
  args.weight = dense(weight.data(), {4, 2, 1});
  args.padding = Padding::none;
  CHECK(throws<ValueError>(
      [&] { fold_conv(args, dense(folded.data(), {2, 4, 1}), dense(bias.data(), {4})); },
      "the folded weight needs"));
  CHECK(throws<ValueError>(
      [&] { fold_conv(args, dense(folded.data(), {4, 2, 1}), dense(bias.data(), {3})); },
      "the folded bias needs"));
  CHECK(folded == std::vector<float>(8, 7));
  CHECK(bias == std::vector<float>(4, 7));
  args.padding = Padding::pad_value;
  const Folded result = fold_conv(args, dense(folded.data(), {4, 2, 1}), dense(bias.data(), {4}));
  CHECK(result.pad_value == (std::vector<double>{0, -1}));
}

void gradients() {
  // sum(dW' W') + sum(db' b') is linear in each argument, so its difference is its slope.
  std::vector<double> weight = normal<double>(12), bias = normal<double>(3, 0, 2);
  const std::vector<double> dfolded = normal<double>(12, 0, 3),
                            dfolded_bias = normal<double>(3, 0, 4);
  Affine after = some_map(3, 5), before = some_map(4, 7);
  FoldArgs args;
  args.weight = dense(static_cast<const double*>(weight.data()), {3, 4});
  args.bias = dense(static_cast<const double*>(bias.data()), {3});
  args.after = &after;
  args.before = &before;
  const auto loss = [&] {
    std::vector<double> folded(12), folded_bias(3);
    fold_linear(args, dense(folded.data(), {3, 4}), dense(folded_bias.data(), {3}));
    double sum = 0;
    for (std::size_t i = 0; i < 12; ++i) sum += dfolded[i] * folded[i];
    for (std::size_t o = 0; o < 3; ++o) sum += dfolded_bias[o] * folded_bias[o];
    return sum;
  };
  std::vector<double> dweight(12), dbias(3);
  bnpp::FoldGrads grads;
  grads.dfolded_weight = dense(dfolded.data(), {3, 4});
  grads.dfolded_bias = dense(dfolded_bias.data(), {3});
  grads.dweight = dense(dweight.data(), {3, 4});
  grads.dbias = dense(dbias.data(), {3});
  const bnpp::FoldMapGrads maps = fold_linear_backward(args, grads);
  const auto slopes = [&](std::vector<double>& values, const std::vector<double>& gradient) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double value = values[i];
      values[i] = value + 0.5;
      const double up = loss();
      values[i] = value - 0.5;
      CHECK(std::abs(up - loss() - gradient[i]) < 1e-12);
      values[i] = value;
    }
  };
  slopes(weight, dweight);
  slopes(bias, dbias);
  slopes(after.scale, maps.after.dscale);
  slopes(after.shift, maps.after.dshift);
  slopes(before.scale, maps.before.dscale);
  slopes(before.shift, maps.before.dshift);
  const std::vector<float> short_vector(2, 1);
  grads.dfolded_bias = dense(short_vector.data(), {2});
  CHECK(throws<ValueError>([&] { fold_linear_backward(args, grads); }, "dbias has 2 values"));

  const std::vector<double> two = {2}, four = {4};
  const bnpp::AffineParameterGrads p = bnpp::affine_backward(
      {{1}, {1}}, dense(two.data(), {1}), dense(two.data(), {1}), dense(four.data(), {1}), 0);
  CHECK(p.dgamma[0] == -0.5 && p.dbeta[0] == 1 && p.dmean[0] == -1 && p.dvar[0] == 0.125);
}

}  // namespace

int main() {
  the_algebra();
  both_sides_of_a_linear_layer();
  groups_and_layouts();
  refusals_write_nothing();
  gradients();
  return failures != 0;
}
