// Layer and rms norm against the formulas, with and without weights, and the same bits for every
// instruction set and thread count.
#include <cmath>
#include <cstddef>

#include "check.h"

namespace {

using bnpp::dense;

struct Shape {
  std::int64_t rows, cols;
};

// Both norms' forward and backward as one flat vector of all results.
template <class T>
std::vector<T> everything(Shape shape, bool rms, bool weighted) {
  const auto size = static_cast<std::size_t>(shape.rows * shape.cols);
  const auto cols = static_cast<std::size_t>(shape.cols);
  const std::vector<T> x = normal<T>(size, 1e3), dy = normal<T>(size, 0, 3);
  const std::vector<T> gamma = normal<T>(cols, 1, 4), beta = normal<T>(cols, 0, 5);
  std::vector<T> w = normal<T>(size, 0, 6), y(size), dx(size), dgamma(cols), dbeta(cols);
  for (T& value : w) value = value > 0 ? value : 0;
  const auto view = [&](auto* data) { return dense(data, {shape.rows, shape.cols}); };
  bnpp::LayerNormArgs args;
  args.x = view(x.data());
  args.y = view(y.data());
  args.gamma = dense(gamma.data(), {shape.cols});
  if (!rms) args.beta = dense(beta.data(), {shape.cols});
  if (weighted) args.weights = view(static_cast<const T*>(w.data()));
  const bnpp::LayerNormSaved saved = rms ? bnpp::rms_norm(args) : bnpp::layer_norm(args);

  bnpp::LayerNormGrads grads;
  grads.dy = view(dy.data());
  grads.dx = view(dx.data());
  grads.dgamma = dense(dgamma.data(), {shape.cols});
  if (!rms) grads.dbeta = dense(dbeta.data(), {shape.cols});
  (rms ? bnpp::rms_norm_backward : bnpp::layer_norm_backward)(saved, grads);

  std::vector<T> all = y;
  for (const auto* part : {&dx, &dgamma, &dbeta}) all.insert(all.end(), part->begin(), part->end());
  return all;
}

template <class T>
void same_bits_everywhere() {
  bnpp::set_min_work(1);
  for (const Shape shape : {Shape{3, 5}, Shape{700, 33}, Shape{90, 768}, Shape{5, 20011}}) {
    for (const int kind : {0, 1, 2, 3}) {
      std::vector<T> first;
      for (const std::string& isa : bnpp::usable_isas()) {
        bnpp::set_isa(isa);
        for (const int threads : {1, 2, 5}) {
          bnpp::set_thread_limit(threads);
          bnpp::set_stream_above(threads == 2 ? 0 : std::int64_t{1} << 60);
          const std::vector<T> all = everything<T>(shape, kind % 2 == 1, kind > 1);
          if (first.empty()) first = all;
          CHECK(same_bits(all, first));
        }
      }
    }
  }
  bnpp::set_thread_limit(0);
}

void matches_the_formula() {
  constexpr std::int64_t n = 5, c = 50;
  const std::vector<float> x = normal<float>(n * c, 1e5);
  std::vector<float> y(x.size());
  bnpp::LayerNormArgs args;
  args.x = dense(x.data(), {n, c});
  args.y = dense(y.data(), {n, c});
  const bnpp::LayerNormSaved saved = bnpp::layer_norm(args);
  for (std::size_t i = 0; i < n; ++i) {
    double mean = 0, var = 0;
    for (std::size_t j = 0; j < c; ++j) mean += x[i * c + j] / double(c);
    for (std::size_t j = 0; j < c; ++j) var += std::pow(x[i * c + j] - mean, 2) / double(c);
    CHECK(std::abs(saved.mean[i] - mean) < 1e-9 * mean);
    for (std::size_t j = 0; j < c; ++j) {
      const double expected = (x[i * c + j] - mean) / std::sqrt(var + 1e-5);
      CHECK(std::abs(y[i * c + j] - expected) <= 1.2e-7 * std::abs(expected) + 1e-9);
    }
  }
}

void statistics_have_the_order_of_the_axes() {
  // A sample for each of 2 x 3, whose features are the middle axis; stored with the axes reversed.
  const std::vector<double> x = normal<double>(2 * 4 * 3);
  std::vector<double> y(x.size()), mean(6);
  const auto reversed = [](auto* data) {
    auto view = dense(data, {2, 4, 3});
    const std::int64_t item = sizeof(double), strides[] = {item, 2 * item, 8 * item};
    for (int d = 0; d < 3; ++d) view.strides[d] = strides[d];
    return view;
  };
  bnpp::LayerNormArgs args;
  args.x = reversed(x.data());
  args.y = reversed(y.data());
  args.axes = {1};
  const bnpp::LayerNormSaved saved = bnpp::layer_norm(args);
  saved.write_statistics(saved.mean, dense(mean.data(), {2, 3}));
  for (std::size_t a = 0; a < 2; ++a) {
    for (std::size_t b = 0; b < 3; ++b) {
      double sum = 0;
      for (std::size_t j = 0; j < 4; ++j) sum += x[a + 2 * j + 8 * b];
      CHECK(std::abs(mean[a * 3 + b] - sum / 4) < 1e-14);
    }
  }
}

void refuses() {
  std::vector<float> x(12), y(12), w(12, 1);
  std::vector<double> wide(12, 1);
  bnpp::LayerNormArgs args;
  args.x = dense(x.data(), {3, 4});
  args.y = dense(y.data(), {3, 4});
  args.beta = dense(x.data(), {4});
  CHECK(throws<bnpp::ValueError>([&] { bnpp::rms_norm(args); }, "rms_norm: beta is given"));
  args.weights = dense(wide.data(), {3, 4});
  CHECK(throws<bnpp::TypeError>([&] { bnpp::layer_norm(args); }, "weights has dtype float64"));
  w[7] = -2;
  args.weights = dense(w.data(), {3, 4});
  CHECK(throws<bnpp::ValueError>([&] { bnpp::layer_norm(args); }, "weights holds -2"));
  args.axes = {};
  CHECK(throws<bnpp::ValueError>([&] { bnpp::layer_norm(args); }, "axis is ()"));
}

}  // namespace

int main() {
  matches_the_formula();
  statistics_have_the_order_of_the_axes();
  refuses();
  same_bits_everywhere<float>();
  same_bits_everywhere<double>();
  return failures != 0;
}
