// Bad arguments are refused in one sentence, before anything is written.
#include "check.h"

namespace {

using bnpp::dense;
using bnpp::TypeError;
using bnpp::ValueError;

std::vector<float> x(12, 1.0f), y(12, 7.0f), three(3, 1.0f);
std::vector<double> wide(12, 1.0);

bnpp::BatchNormArgs valid() {
  bnpp::BatchNormArgs args;
  args.x = dense(x.data(), {4, 3});
  args.y = dense(y.data(), {4, 3});
  return args;
}

template <class Error = ValueError, class Change>
bool refused(Change change, const std::string& part) {
  bnpp::BatchNormArgs args = valid();
  change(args);
  return throws<Error>([&] { bnpp::batch_norm(args); }, part) && y == std::vector<float>(12, 7.0f);
}

}  // namespace

int main() {
  CHECK(refused([](auto& a) { a.axis = 2; }, "axis is 2"));
  CHECK(refused([](auto& a) { a.eps = -1; }, "eps is -1"));
  CHECK(
      refused([](auto& a) { a.gamma = dense(x.data(), {4}); }, "gamma has 4 values, but x has 3"));
  CHECK(refused([](auto& a) { a.beta = dense(x.data(), {3, 1}); }, "beta has shape (3, 1)"));
  CHECK(
      refused([](auto& a) { a.residual = dense(x.data(), {3, 4}); }, "residual has shape (3, 4)"));
  CHECK(refused([](auto& a) { a.x = dense(x.data(), {12}); }, "x has 1 dimension"));
  CHECK(refused(
      [](auto& a) {
        a.x = dense(x.data(), {1, 3});
        a.y = dense(y.data(), {1, 3});
      },
      "one value a channel"));
  CHECK(refused<TypeError>([](auto& a) { a.residual = dense(wide.data(), {4, 3}); },
                           "residual has dtype float64"));

  std::vector<float> weights(12, 1.0f);
  weights[7] = -1;
  CHECK(refused([&](auto& a) { a.weights = dense(weights.data(), {4, 3}); },
                "weights[2, 1] is -1, but weights need to be finite and >= 0"));
  CHECK(refused([](auto& a) { a.weights = dense(x.data(), {2, 3}); },
                "weights has shape (2, 3), but it needs one that broadcasts to x's (4, 3)"));
  CHECK(refused<TypeError>([](auto& a) { a.weights = dense(wide.data(), {4, 1}); },
                           "weights has dtype float64"));
  CHECK(refused(
      [&](auto& a) {
        weights.assign(12, 0.0f);
        weights[4] = 0.3f;
        a.weights = dense(weights.data(), {4, 3});
      },
      "weights leave one value in channel 1"));

  bnpp::BatchNormInferenceArgs inference;
  inference.x = dense(x.data(), {4, 3});
  inference.y = dense(y.data(), {4, 3});
  CHECK(throws<ValueError>([&] { bnpp::batch_norm_inference(inference); }, "mean is not given"));
  std::vector<float> negative = {1, -2, 1};
  inference.mean = dense(three.data(), {3});
  inference.var = dense(negative.data(), {3});
  CHECK(throws<ValueError>([&] { bnpp::batch_norm_inference(inference); }, "var[1] is -2"));

  bnpp::BatchNormGrads grads;
  CHECK(throws<ValueError>([&] { bnpp::batch_norm_backward({}, grads); }, "saved is empty"));
  const bnpp::BatchNormSaved saved = bnpp::batch_norm(valid());
  CHECK(throws<ValueError>([&] { bnpp::batch_norm_inference_backward(saved, grads); },
                           "batch_norm_backward"));
  grads.dy = dense(x.data(), {3, 4});
  CHECK(
      throws<ValueError>([&] { bnpp::batch_norm_backward(saved, grads); }, "dy has shape (3, 4)"));
  CHECK(throws<ValueError>([] { bnpp::set_isa("mmx"); }, "'mmx'"));
  CHECK(throws<ValueError>([] { bnpp::set_thread_limit(-1); }, "n is -1"));
  return failures != 0;
}
