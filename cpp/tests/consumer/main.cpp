// A user's program: every function of the installed library once, through its public headers only.
#include <bnpp/bnpp.h>

#include <cmath>
#include <cstdio>
#include <vector>

namespace {

int failures = 0;

void expect(bool ok, const char* what) {
  if (ok) return;
  std::printf("wrong: %s\n", what);
  ++failures;
}

void expect_near(double got, double wanted, const char* what) {
  expect(std::abs(got - wanted) <= 1e-6 * (1 + std::abs(wanted)), what);
}

// Channel 0 holds 1, 2, 3, 6 (mean 3, variance 3.5), channel 1 holds 10, 10, 10, 10.
const std::vector<float> x{1, 2, 10, 10, 3, 6, 10, 10};
const double r = 1 / std::sqrt(3.5);

void training() {
  const std::vector<float> gamma{2, 3}, beta{0.5, -1}, dy{1, 0, 0, 1, 0, 0, 0, 0};
  std::vector<float> y(8), dx(8), dgamma(2), dbeta(2);
  bnpp::BatchNormArgs args;
  args.x = bnpp::dense(x.data(), {2, 2, 2});
  args.gamma = bnpp::dense(gamma.data(), {2});
  args.beta = bnpp::dense(beta.data(), {2});
  args.y = bnpp::dense(y.data(), {2, 2, 2});
  args.eps = 0;
  const bnpp::BatchNormSaved saved = bnpp::batch_norm(args);
  expect(saved.count == 4, "count");
  expect(saved.mean[0] == 3 && saved.var[0] == 3.5, "mean and var");
  expect_near(y[0], 2 * (1 - 3) * r + 0.5, "y");
  expect(y[2] == -1 && y[7] == -1, "a constant channel gives beta");

  bnpp::BatchNormGrads grads;
  grads.dy = bnpp::dense(dy.data(), {2, 2, 2});
  grads.dx = bnpp::dense(dx.data(), {2, 2, 2});
  grads.dgamma = bnpp::dense(dgamma.data(), {2});
  grads.dbeta = bnpp::dense(dbeta.data(), {2});
  bnpp::batch_norm_backward(saved, grads);
  expect(dbeta[0] == 1 && dbeta[1] == 1, "dbeta");
  expect_near(dgamma[0], -2 * r, "dgamma");
  expect_near(dx[0], 2 * r * (1 - 0.25 - 4 * r * r / 4), "dx");
}

void inference() {
  const std::vector<double> mean{1, 10}, var{4, 1};
  std::vector<float> y(8);
  bnpp::BatchNormInferenceArgs args;
  args.x = bnpp::dense(x.data(), {2, 2, 2});
  args.mean = bnpp::dense(mean.data(), {2});
  args.var = bnpp::dense(var.data(), {2});
  args.y = bnpp::dense(y.data(), {2, 2, 2});
  args.eps = 0;
  args.activation = bnpp::Activation::relu;
  args.keep_mask = true;
  const bnpp::BatchNormSaved saved = bnpp::batch_norm_inference(args);
  expect(y[0] == 0 && y[1] == 0.5f && y[5] == 2.5f, "inference");

  const std::vector<float> dy(8, 1);
  std::vector<float> dx(8);
  std::vector<double> dmean(2), dvar(2);
  bnpp::BatchNormGrads grads;
  grads.dy = bnpp::dense(dy.data(), {2, 2, 2});
  grads.dx = bnpp::dense(dx.data(), {2, 2, 2});
  grads.dmean = bnpp::dense(dmean.data(), {2});
  grads.dvar = bnpp::dense(dvar.data(), {2});
  bnpp::batch_norm_inference_backward(saved, grads);
  expect(dx[0] == 0 && dx[1] == 0.5f, "the ReLU bit");
  expect_near(dmean[0], -1.5, "dmean");
  expect_near(dvar[0], -0.5 * 0.25 * (0.5 + 1 + 2.5), "dvar");
}

void statistics() {
  const auto whole = bnpp::moments(bnpp::dense(x.data(), {2, 2, 2}));
  const auto first = bnpp::moments(bnpp::dense(x.data(), {1, 2, 2}));
  const auto second = bnpp::moments(bnpp::dense(x.data() + 4, {1, 2, 2}));
  const bnpp::ChannelMoments both = bnpp::merge(first[0], second[0]);
  expect(whole[0].count == 4 && whole[0].mean == 3 && whole[0].m2 == 14, "moments");
  expect(both.count == 4 && both.mean == 3 && both.m2 == 14, "merge");
}

void errors() {
  std::vector<float> y(6);
  bnpp::BatchNormArgs args;
  args.x = bnpp::dense(x.data(), {2, 2, 2});
  args.y = bnpp::dense(y.data(), {2, 3});
  try {
    bnpp::batch_norm(args);
    expect(false, "a wrong shape is refused");
  } catch (const bnpp::ValueError& error) {
    expect(std::string(error.what()).rfind("batch_norm: y", 0) == 0, "the refusal names y");
  }
}

}  // namespace

int main() {
  training();
  inference();
  statistics();
  errors();
  for (const std::string& isa : bnpp::usable_isas()) {
    bnpp::set_isa(isa);
    expect(bnpp::get_isa() == isa, "set_isa");
    training();
    inference();
  }
  bnpp::set_thread_limit(3);
  expect(bnpp::get_threads() == 3, "set_thread_limit");
  std::printf("%d wrong\n", failures);
  return failures;
}
