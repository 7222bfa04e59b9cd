// Batch renormalization and conditional batch norm: against batch norm where they are it, the same
// bits for every instruction set and thread count, refusals.
#include <cmath>

#include "check.h"

namespace {

using bnpp::dense;
using bnpp::ValueError;

struct Case {
  std::int64_t n, c, s;  // batch, channels, positions
  std::size_t size() const { return static_cast<std::size_t>(n * c * s); }
  std::size_t rows() const { return static_cast<std::size_t>(n * c); }
  template <class T>
  auto view(T* data) const {
    return dense(data, {n, c, s});
  }
};

const Case kCases[] = {{3, 5, 7}, {2, 33, 1}, {40, 3, 700}, {5, 200, 49}};

/// x, residual, dy, and a gamma and beta; every output is NaN until written.
struct Data {
  explicit Data(const Case& c)
      : x(normal<float>(c.size(), 1e3)),
        residual(normal<float>(c.size(), 0, 2)),
        dy(normal<float>(c.size(), 0, 3)),
        gamma(normal<float>(static_cast<std::size_t>(c.c), 1, 4)),
        beta(normal<float>(gamma.size(), 0, 5)),
        y(c.size(), NAN),
        dx(y),
        dresidual(y),
        dgamma(c.rows(), NAN),
        dbeta(dgamma) {}

  std::vector<float> all() const {
    std::vector<float> values = y;
    for (const auto* part : {&dx, &dresidual, &dgamma, &dbeta}) {
      values.insert(values.end(), part->begin(), part->end());
    }
    return values;
  }

  template <class Args>
  void fill(Args& args, const Case& c) {
    args.x = c.view(x.data());
    args.residual = c.view(residual.data());
    args.y = c.view(y.data());
    args.activation = bnpp::Activation::relu;
  }
  template <class Grads>
  Grads grads(const Case& c) {
    Grads grads;
    grads.dy = c.view(dy.data());
    grads.dx = c.view(dx.data());
    grads.dresidual = c.view(dresidual.data());
    return grads;
  }

  std::vector<float> x, residual, dy, gamma, beta, y, dx, dresidual, dgamma, dbeta;
};

void vectors(Data& data, const Case& c, bnpp::BatchNormGrads& grads) {
  data.dgamma.resize(static_cast<std::size_t>(c.c));
  data.dbeta.resize(data.dgamma.size());
  grads.dgamma = dense(data.dgamma.data(), {c.c});
  grads.dbeta = dense(data.dbeta.data(), {c.c});
}

Data batch_norm(const Case& c) {
  Data data(c);
  bnpp::BatchNormArgs args;
  data.fill(args, c);
  args.gamma = dense(data.gamma.data(), {c.c});
  args.beta = dense(data.beta.data(), {c.c});
  auto grads = data.grads<bnpp::BatchNormGrads>(c);
  vectors(data, c, grads);
  bnpp::batch_norm_backward(bnpp::batch_norm(args), grads);
  return data;
}

Data batch_renorm(const Case& c, double r_max, double d_max) {
  Data data(c);
  const std::vector<double> mean(data.gamma.size(), 999), var(mean.size(), 0.5);
  bnpp::BatchRenormArgs args;
  data.fill(args, c);
  args.gamma = dense(data.gamma.data(), {c.c});
  args.beta = dense(data.beta.data(), {c.c});
  args.running_mean = dense(mean.data(), {c.c});
  args.running_var = dense(var.data(), {c.c});
  args.r_max = r_max;
  args.d_max = d_max;
  auto grads = data.grads<bnpp::BatchNormGrads>(c);
  vectors(data, c, grads);
  bnpp::batch_renorm_backward(bnpp::batch_renorm(args), grads);
  return data;
}

Data conditional_batch_norm(const Case& c) {
  Data data(c);
  std::vector<float> gamma, beta;
  for (std::int64_t n = 0; n < c.n; ++n) {
    gamma.insert(gamma.end(), data.gamma.begin(), data.gamma.end());
    beta.insert(beta.end(), data.beta.begin(), data.beta.end());
  }
  bnpp::ConditionalBatchNormArgs args;
  data.fill(args, c);
  args.gamma = dense(gamma.data(), {c.n, c.c});
  args.beta = dense(beta.data(), {c.n, c.c});
  auto grads = data.grads<bnpp::ConditionalBatchNormGrads>(c);
  grads.dgamma = dense(data.dgamma.data(), {c.n, c.c});
  grads.dbeta = dense(data.dbeta.data(), {c.n, c.c});
  bnpp::conditional_batch_norm_backward(bnpp::conditional_batch_norm(args), grads);
  return data;
}

template <class Run>
void same_bits_everywhere(Run run) {
  bnpp::set_min_work(1);
  for (const Case& c : kCases) {
    std::vector<float> first;
    for (const std::string& isa : bnpp::usable_isas()) {
      bnpp::set_isa(isa);
      for (const int threads : {1, 2, 5}) {
        bnpp::set_thread_limit(threads);
        const std::vector<float> all = run(c).all();
        if (first.empty()) first = all;
        CHECK(same_bits(all, first));
      }
    }
  }
}

void are_batch_norm() {
  for (const Case& c : kCases) {
    const Data plain = batch_norm(c);
    CHECK(same_bits(batch_renorm(c, 1, 0).all(), plain.all()));
    CHECK(batch_renorm(c, 2, 1).y != plain.y);
    const Data rows = conditional_batch_norm(c);
    CHECK(same_bits(rows.y, plain.y));
    CHECK(same_bits(rows.dresidual, plain.dresidual));
    for (std::size_t i = 0; i < rows.dx.size(); ++i) {
      CHECK(std::abs(rows.dx[i] - plain.dx[i]) <= 1e-6f * (1 + std::abs(plain.dx[i])));
    }
    for (std::int64_t channel = 0; channel < c.c; ++channel) {
      double sum = 0;
      for (std::int64_t n = 0; n < c.n; ++n) {
        sum += rows.dgamma[static_cast<std::size_t>(n * c.c + channel)];
      }
      CHECK(std::abs(sum - plain.dgamma[static_cast<std::size_t>(channel)]) < 1e-3);
    }
  }
}

void refusals() {
  const Case c{4, 3, 2};
  Data data(c);
  bnpp::BatchRenormArgs renorm;
  data.fill(renorm, c);
  CHECK(throws<ValueError>([&] { bnpp::batch_renorm(renorm); }, "running_mean is not given"));
  renorm.r_max = 0.5;
  CHECK(throws<ValueError>([&] { bnpp::batch_renorm(renorm); }, "r_max is 0.5"));

  bnpp::ConditionalBatchNormArgs args;
  data.fill(args, c);
  args.gamma = dense(data.gamma.data(), {3});
  CHECK(throws<ValueError>([&] { bnpp::conditional_batch_norm(args); },
                           "gamma has shape (3,), but it needs (4, 3)"));
  CHECK(std::isnan(data.y[0]));
  args.gamma = bnpp::ConstTensor();
  const auto saved = bnpp::conditional_batch_norm(args);
  auto grads = data.grads<bnpp::ConditionalBatchNormGrads>(c);
  grads.dgamma = dense(data.dgamma.data(), {3, 4});
  CHECK(throws<ValueError>([&] { bnpp::conditional_batch_norm_backward(saved, grads); },
                           "dgamma has shape (3, 4), but it needs (4, 3)"));
}

}  // namespace

int main() {
  are_batch_norm();
  refusals();
  same_bits_everywhere([](const Case& c) { return batch_renorm(c, 1.2, 0.3); });
  same_bits_everywhere(conditional_batch_norm);
  return failures != 0;
}
