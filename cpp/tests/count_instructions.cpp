// The calls that check_instructions.py counts. Of each line that is printed, kCalls calls and then
// twice as many lie between two calls of getppid, at which callgrind ends a count: nothing else
// calls it meanwhile.
#include <unistd.h>

#include "check.h"

namespace {

using bnpp::dense;

constexpr int kCalls = 3;

template <class Call>
void counted(const char* layout, const char* kind, std::size_t size, Call call) {
  call();
  for (int count : {kCalls, 2 * kCalls}) {
    getppid();
    for (int i = 0; i < count; ++i) call();
    getppid();
  }
  std::printf("%s/%s/%d/%zu\n", layout, kind, kCalls, size);
}

template <class T>
void count(const char* layout, std::initializer_list<std::int64_t> shape, int axis) {
  std::size_t size = 1;
  for (std::int64_t length : shape) size *= static_cast<std::size_t>(length);
  const std::vector<float> values = normal<float>(size);
  std::vector<T> x(size), dy(size), out(size);
  for (std::size_t i = 0; i < size; ++i) dy[size - 1 - i] = x[i] = bnpp::from_double<T>(values[i]);
  const std::vector<float> ones(static_cast<std::size_t>(shape.begin()[axis]), 1);
  std::vector<float> dgamma(ones.size()), dbeta(ones.size());
  const auto channels = [](auto& v) { return dense(v.data(), {std::int64_t(v.size())}); };

  bnpp::BatchNormArgs args;
  args.x = dense(x.data(), shape);
  args.y = dense(out.data(), shape);
  args.gamma = args.beta = channels(ones);
  args.axis = axis;
  const bnpp::BatchNormSaved saved = bnpp::batch_norm(args);
  counted(layout, "forward", size, [&] { bnpp::batch_norm(args); });

  bnpp::BatchNormGrads grads;
  grads.dy = dense(dy.data(), shape);
  grads.dx = dense(out.data(), shape);
  grads.dgamma = channels(dgamma);
  grads.dbeta = channels(dbeta);
  counted(layout, "backward", size, [&] { bnpp::batch_norm_backward(saved, grads); });

  bnpp::BatchNormInferenceArgs given;
  given.x = args.x;
  given.y = args.y;
  given.gamma = given.beta = given.mean = given.var = args.gamma;
  given.axis = axis;
  counted(layout, "inference", size, [&] { bnpp::batch_norm_inference(given); });
}

}  // namespace

int main() {
  bnpp::set_thread_limit(1);
  count<float>("NCHW", {4, 64, 28, 28}, 1);
  count<float>("NHWC", {4, 28, 28, 64}, 3);
  count<float>("(60, 100)", {60, 100}, 1);
  count<bnpp::float16>("float16", {4, 64, 28, 28}, 1);
}
