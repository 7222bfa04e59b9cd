// Forward and backward against the formulas, and the same bits for every instruction set and thread
// count.
#include <cmath>

#include "check.h"

namespace {

using bnpp::dense;

struct Shape {
  std::int64_t n, c, s;  // batch, channels, positions
};

// NCHW-like data through every call, as one flat vector of all results.
template <class T>
std::vector<T> everything(Shape shape, bool channels_last, bnpp::Activation activation,
                          bool residual) {
  const auto size = static_cast<std::size_t>(shape.n * shape.c * shape.s);
  const std::vector<T> x = normal<T>(size, 1e3), r = normal<T>(size, 0, 2),
                       dy = normal<T>(size, 0, 3);
  const std::vector<T> gamma = normal<T>(static_cast<std::size_t>(shape.c), 1, 4),
                       beta = normal<T>(static_cast<std::size_t>(shape.c), 0, 5);
  std::vector<T> y(size), dx(size), dresidual(size), dgamma(gamma.size()), dbeta(gamma.size());
  const auto view = [&](auto* data) {
    return channels_last ? dense(data, {shape.n, shape.s, shape.c})
                         : dense(data, {shape.n, shape.c, shape.s});
  };
  bnpp::BatchNormArgs args;
  args.x = view(x.data());
  args.y = view(y.data());
  args.gamma = dense(gamma.data(), {shape.c});
  args.beta = dense(beta.data(), {shape.c});
  args.axis = channels_last ? -1 : 1;
  args.activation = activation;
  if (residual) args.residual = view(r.data());
  const bnpp::BatchNormSaved saved = bnpp::batch_norm(args);

  bnpp::BatchNormGrads grads;
  grads.dy = view(dy.data());
  grads.dx = view(dx.data());
  grads.dgamma = dense(dgamma.data(), {shape.c});
  grads.dbeta = dense(dbeta.data(), {shape.c});
  if (residual) grads.dresidual = view(dresidual.data());
  bnpp::batch_norm_backward(saved, grads);

  std::vector<T> all = y;
  for (const auto* part : {&dx, &dresidual, &dgamma, &dbeta}) {
    all.insert(all.end(), part->begin(), part->end());
  }
  return all;
}

template <class T>
void same_bits_everywhere() {
  const Shape shapes[] = {{3, 5, 7}, {2, 33, 1}, {40, 3, 700}, {5, 200, 49}, {2500, 20, 1}};
  bnpp::set_min_work(1);
  for (const Shape& shape : shapes) {
    for (const bool channels_last : {false, true}) {
      for (const bool fused : {false, true}) {
        const auto activation = fused ? bnpp::Activation::relu : bnpp::Activation::none;
        std::vector<T> first;
        for (const std::string& isa : bnpp::usable_isas()) {
          bnpp::set_isa(isa);
          for (const int threads : {1, 2, 5}) {
            bnpp::set_thread_limit(threads);
            bnpp::set_stream_above(threads == 2 ? 0 : std::int64_t{1} << 60);
            const std::vector<T> all = everything<T>(shape, channels_last, activation, fused);
            if (first.empty()) first = all;
            CHECK(same_bits(all, first));
          }
        }
      }
    }
  }
  bnpp::set_thread_limit(0);
}

void matches_the_formula() {
  constexpr std::int64_t n = 4, c = 3, s = 50;
  const std::vector<float> x = normal<float>(n * c * s, 1e5);
  std::vector<float> y(x.size());
  bnpp::BatchNormArgs args;
  args.x = dense(x.data(), {n, c, s});
  args.y = dense(y.data(), {n, c, s});
  const bnpp::BatchNormSaved saved = bnpp::batch_norm(args);
  for (std::int64_t channel = 0; channel < c; ++channel) {
    const auto at = [&](std::int64_t i, std::int64_t j) {
      return static_cast<std::size_t>((i * c + channel) * s + j);
    };
    double mean = 0, var = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < s; ++j) mean += x[at(i, j)] / double(n * s);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < s; ++j) var += std::pow(x[at(i, j)] - mean, 2) / double(n * s);
    }
    CHECK(std::abs(saved.mean[static_cast<std::size_t>(channel)] - mean) < 1e-9 * mean);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < s; ++j) {
        const double expected = (x[at(i, j)] - mean) / std::sqrt(var + 1e-5);
        CHECK(std::abs(y[at(i, j)] - expected) <= 0x1p-22 * std::abs(expected) + 1e-9);
      }
    }
  }
}

void what_has_no_weight_is_padding() {
  // Of each channel the first three rows; what comes after is no number.
  std::vector<float> x = {1, 2, 3, 4, 5, 9, NAN, INFINITY}, dy = {1, 0, 2, 1, 0, 1, 1, 2};
  const std::vector<float> mask = {1, 1, 1, 0};
  std::vector<float> y(8), dx(8), short_y(6), short_dx(6), dgamma(2), short_dgamma(2);
  const auto run = [&](std::int64_t rows, const bnpp::ConstTensor& weights, auto& to, auto& back,
                       auto& scale) {
    bnpp::BatchNormArgs args;
    args.x = dense(x.data(), {rows, 2});
    args.y = dense(to.data(), {rows, 2});
    args.weights = weights;
    const bnpp::BatchNormSaved saved = bnpp::batch_norm(args);
    bnpp::BatchNormGrads grads;
    std::vector<float> g(dy.begin(), dy.begin() + 2 * rows);
    if (rows == 4) g[6] = g[7] = 0;
    grads.dy = dense(g.data(), {rows, 2});
    grads.dx = dense(back.data(), {rows, 2});
    grads.dgamma = dense(scale.data(), {2});
    bnpp::batch_norm_backward(saved, grads);
  };
  run(4, dense(mask.data(), {4, 1}), y, dx, dgamma);
  run(3, {}, short_y, short_dx, short_dgamma);
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(y[i] == short_y[i]);
    CHECK(std::abs(dx[i] - short_dx[i]) <= 0x1p-22f);  // other roundings, of terms below 1
  }
  CHECK(dgamma == short_dgamma);
  CHECK(dx[6] == 0 && dx[7] == 0);
}

void inference_backward_leaves_inf_alone() {
  std::vector<float> x = {1, 2, INFINITY, 4}, mean = {2}, var = {1}, dy = {1, 1, 1, 1}, y(4), dx(4);
  bnpp::BatchNormInferenceArgs args;
  args.x = dense(x.data(), {4, 1});
  args.y = dense(y.data(), {4, 1});
  args.mean = dense(mean.data(), {1});
  args.var = dense(var.data(), {1});
  args.eps = 0;
  const bnpp::BatchNormSaved saved = bnpp::batch_norm_inference(args);
  CHECK(y[0] == -1 && y[3] == 2 && std::isinf(y[2]));
  bnpp::BatchNormGrads grads;
  grads.dy = dense(dy.data(), {4, 1});
  grads.dx = dense(dx.data(), {4, 1});
  bnpp::batch_norm_inference_backward(saved, grads);
  for (const float d : dx) CHECK(d == 1);
}

}  // namespace

int main() {
  matches_the_formula();
  what_has_no_weight_is_padding();
  inference_backward_leaves_inf_alone();
  same_bits_everywhere<float>();
  same_bits_everywhere<double>();
  return failures != 0;
}
