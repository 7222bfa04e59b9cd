// The forward derivative is the transpose of the backward, for every instruction set and layout
// with the same bits; the second derivative is linear where it shall be; the backward from y
// agrees.
#include <cmath>

#include "check.h"

namespace {

using bnpp::dense;
using Values = std::vector<double>;

double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

bool close(double a, double b) { return std::abs(a - b) <= 1e-10 * (std::abs(a) + std::abs(b)); }

// One layer with a residual and a ReLU, or without both, and one direction of its inputs.
struct Layer {
  std::int64_t n, c, s;
  bool channels_last, fused;
  std::size_t size = static_cast<std::size_t>(n * c * s), channels = static_cast<std::size_t>(c);
  Values x = normal<double>(size, 1e3), residual = normal<double>(size, 0, 2), y = Values(size);
  Values gamma = normal<double>(channels, 1, 3), beta = normal<double>(channels, 0, 4);
  Values x_dot = normal<double>(size, 0, 5), residual_dot = normal<double>(size, 0, 6);
  Values gamma_dot = normal<double>(channels, 0, 7), beta_dot = normal<double>(channels, 0, 8);
  Values dy = normal<double>(size, 0, 9);
  bnpp::BatchNormSaved saved;

  Layer(std::int64_t n, std::int64_t c, std::int64_t s, bool channels_last, bool fused,
        bnpp::Keep keep = bnpp::Keep::input)
      : n(n), c(c), s(s), channels_last(channels_last), fused(fused) {
    bnpp::BatchNormArgs args;
    args.x = view(x);
    args.y = view(y);
    args.gamma = vector(gamma);
    args.beta = vector(beta);
    args.axis = channels_last ? -1 : 1;
    args.keep = keep;
    if (fused) args.residual = view(residual);
    if (fused) args.activation = bnpp::Activation::relu;
    saved = bnpp::batch_norm(args);
  }

  bnpp::Tensor view(Values& data) const {
    return channels_last ? dense(data.data(), {n, s, c}) : dense(data.data(), {n, c, s});
  }
  bnpp::Tensor vector(Values& data) const { return dense(data.data(), {c}); }

  Values jvp() {
    Values y_dot(size);
    bnpp::BatchNormTangents t;
    t.x_dot = view(x_dot);
    t.gamma_dot = vector(gamma_dot);
    t.beta_dot = vector(beta_dot);
    if (fused) t.residual_dot = view(residual_dot);
    t.y_dot = view(y_dot);
    bnpp::batch_norm_jvp(saved, t);
    return y_dot;
  }

  // How fast sum(dy * y) grows along the direction, by the gradients.
  double along_gradients() {
    Values dx(size), dgamma(channels), dbeta(channels), dresidual(size);
    bnpp::BatchNormGrads grads;
    grads.dy = view(dy);
    grads.dx = view(dx);
    grads.dgamma = vector(dgamma);
    grads.dbeta = vector(dbeta);
    if (fused) grads.dresidual = view(dresidual);
    bnpp::batch_norm_backward(saved, grads);
    return dot(x_dot, dx) + dot(gamma_dot, dgamma) + dot(beta_dot, dbeta) +
           dot(residual_dot, dresidual);
  }

  // d_dy, d_x and d_gamma, one after the other.
  Values double_backward() {
    Values d_dy(size), d_x(size), d_gamma(channels);
    bnpp::BatchNormDoubleGrads grads;
    grads.dy = view(dy);
    grads.ddx = view(x_dot);
    grads.ddgamma = vector(gamma_dot);
    grads.ddbeta = vector(beta_dot);
    if (fused) grads.ddresidual = view(residual_dot);
    grads.d_dy = view(d_dy);
    grads.d_x = view(d_x);
    grads.d_gamma = vector(d_gamma);
    bnpp::batch_norm_double_backward(saved, grads);
    for (const Values& part : {d_x, d_gamma}) d_dy.insert(d_dy.end(), part.begin(), part.end());
    return d_dy;
  }
};

void transposed_with_the_same_bits() {
  bnpp::set_min_work(1);
  for (const bool channels_last : {false, true}) {
    for (const bool fused : {false, true}) {
      for (const std::int64_t s : {std::int64_t{49}, std::int64_t{700}}) {
        Layer layer(6, 19, s, channels_last, fused);
        const Values y_dot = layer.jvp(), second = layer.double_backward();
        CHECK(close(dot(y_dot, layer.dy), layer.along_gradients()));
        CHECK(std::equal(y_dot.begin(), y_dot.end(), second.begin()));
        for (const std::string& isa : bnpp::usable_isas()) {
          bnpp::set_isa(isa);
          for (const int threads : {1, 2, 7}) {
            bnpp::set_thread_limit(threads);
            CHECK(same_bits(layer.jvp(), y_dot));
            CHECK(same_bits(layer.double_backward(), second));
          }
        }
        bnpp::set_thread_limit(0);
      }
    }
  }
}

void from_y() {
  Layer from_x(6, 19, 50, false, false), layer(6, 19, 50, false, false);
  for (std::size_t c = 0; c < layer.channels; ++c) layer.gamma[c] = 2 + std::abs(layer.gamma[c]);
  from_x.gamma = layer.gamma;
  bnpp::BatchNormArgs args;
  args.x = from_x.view(from_x.x);
  args.y = from_x.view(from_x.y);
  args.gamma = from_x.vector(from_x.gamma);
  args.beta = from_x.vector(from_x.beta);
  from_x.saved = bnpp::batch_norm(args);
  args.x = args.y = layer.view(layer.x);  // in place
  args.keep = bnpp::Keep::output;
  layer.saved = bnpp::batch_norm(args);
  CHECK(layer.saved.y.given() && layer.x == from_x.y);
  CHECK(close(layer.along_gradients(), from_x.along_gradients()));
  const Values a = layer.double_backward(), b = from_x.double_backward();
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::abs(a[i] - b[i]) < 1e-10);
}

void refusals() {
  CHECK(throws<bnpp::ValueError>([] { Layer(2, 3, 4, false, true, bnpp::Keep::output); },
                                 "batch_norm: keep is 'output', but an activation"));
  Layer layer(2, 3, 4, false, false);
  bnpp::BatchNormTangents tangents;
  tangents.y_dot = layer.view(layer.y);
  tangents.mean_dot = layer.vector(layer.gamma);
  CHECK(throws<bnpp::ValueError>([&] { bnpp::batch_norm_jvp(layer.saved, tangents); },
                                 "batch_norm_jvp: mean_dot is given"));
  bnpp::BatchNormDoubleGrads grads;
  CHECK(throws<bnpp::ValueError>([&] { bnpp::batch_norm_double_backward(layer.saved, grads); },
                                 "batch_norm_double_backward: dy has shape"));
}

}  // namespace

int main() {
  transposed_with_the_same_bits();
  from_y();
  refusals();
  return failures != 0;
}
