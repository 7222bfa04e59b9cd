#include "bnpp/bnpp.h"

#include <tuple>

#include "calls.h"

namespace {

/// Everything a call needs to stay alive.
struct Work {
  Work(const Layer& layer, bool nhwc)
      : x(layer.size()),
        y(layer.size()),
        gamma(layer.channels, 1.5F),
        beta(layer.channels),
        mean(layer.channels),
        var(layer.channels, 1.5F),
        channels(layer.channels),
        axis(nhwc ? 3 : 1) {
    const auto [n, c, h, w] = std::tuple(layer.batch, layer.channels, layer.height, layer.width);
    const auto like_x = [&, n = n, c = c, h = h, w = w](float* data) {
      if (layer.matrix) return bnpp::dense(data, {n, c});
      return nhwc ? bnpp::dense(data, {n, h, w, c}) : bnpp::dense(data, {n, c, h, w});
    };
    x_view = like_x(x.data());
    y_view = like_x(y.data());
  }

  bnpp::Tensor vector(Buffer& buffer) const { return bnpp::dense(buffer.data(), {channels}); }

  bnpp::BatchNormSaved forward() {
    bnpp::BatchNormArgs args;
    args.x = x_view;
    args.gamma = vector(gamma);
    args.beta = vector(beta);
    args.y = y_view;
    args.axis = axis;
    args.eps = kEps;
    return bnpp::batch_norm(args);
  }

  void backward() {
    bnpp::BatchNormGrads grads;
    grads.dy = bnpp::ConstTensor(y_view);
    grads.dy.data = dy->data();
    grads.dx = y_view;
    grads.dgamma = vector(mean);
    grads.dbeta = vector(var);
    bnpp::batch_norm_backward(saved, grads);
  }

  void inference() {
    bnpp::BatchNormInferenceArgs args;
    args.x = x_view;
    args.gamma = vector(gamma);
    args.beta = vector(beta);
    args.mean = vector(mean);
    args.var = vector(var);
    args.y = y_view;
    args.axis = axis;
    args.eps = kEps;
    bnpp::batch_norm_inference(args);
  }

  Buffer x, y, gamma, beta, mean, var;
  std::unique_ptr<Buffer> dy;
  std::int64_t channels;
  int axis;
  bnpp::Tensor x_view, y_view;
  bnpp::BatchNormSaved saved;
};

Call make(const Layer& layer, Pass pass, bool nhwc) {
  const auto work = std::make_shared<Work>(layer, nhwc);
  switch (pass) {
    case Pass::forward:
      return [work] { work->forward(); };
    case Pass::backward:
      work->dy = std::make_unique<Buffer>(layer.size());
      work->saved = work->forward();
      return [work] { work->backward(); };
    default:
      return [work] { work->inference(); };
  }
}

bool image(const Layer& layer) { return !layer.matrix; }
bool matrix(const Layer& layer) { return layer.matrix; }

}  // namespace

std::vector<Peer> bnpp_peers() {
  const auto rows = [](const Layer& layer, Pass pass) { return make(layer, pass, false); };
  const auto cols = [](const Layer& layer, Pass pass) { return make(layer, pass, true); };
  return {{"bnpp C++", "nchw", image, rows},
          {"bnpp C++", "nhwc", image, cols},
          {"bnpp C++", "nc", matrix, rows}};
}
