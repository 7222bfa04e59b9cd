// oneDNN's batch normalization; primitives, memory and outputs are made before the clock starts.
#include <dnnl.hpp>
#include <unordered_map>

#include "calls.h"

namespace {

using dnnl::memory;
using Flags = dnnl::normalization_flags;

struct Work {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::vector<Buffer> buffers;
  dnnl::primitive primitive;
  std::unordered_map<int, memory> args;

  void add(int arg, const memory::desc& desc, float center = 0) {
    auto& buffer = buffers.emplace_back(desc.get_size() / sizeof(float), center);
    args[arg] = memory(desc, engine, buffer.data());
  }

  void run() {
    primitive.execute(stream, args);
    stream.wait();
  }
};

Call make(const Layer& layer, Pass pass, memory::format_tag tag) {
  using dnnl::batch_normalization_backward;
  using dnnl::batch_normalization_forward;
  using dnnl::prop_kind;
  const auto f32 = memory::data_type::f32;
  const memory::desc tensor({layer.batch, layer.channels, layer.height, layer.width}, f32, tag);
  const memory::desc vector({layer.channels}, f32, memory::format_tag::a);
  const bool given = pass == Pass::inference;
  const auto flags =
      Flags::use_scale | Flags::use_shift | (given ? Flags::use_global_stats : Flags::none);

  const auto work = std::make_shared<Work>();
  const batch_normalization_forward::primitive_desc forward(
      work->engine, given ? prop_kind::forward_inference : prop_kind::forward_training, tensor,
      tensor, static_cast<float>(kEps), flags);
  work->primitive = batch_normalization_forward(forward);
  work->add(DNNL_ARG_SRC, tensor);
  work->add(DNNL_ARG_DST, tensor);
  work->add(DNNL_ARG_SCALE, vector, 1.5F);
  work->add(DNNL_ARG_SHIFT, vector);
  work->add(DNNL_ARG_MEAN, vector);
  work->add(DNNL_ARG_VARIANCE, vector, 1.5F);
  if (pass == Pass::backward) {
    work->run();  // the statistics
    work->primitive =
        batch_normalization_backward({work->engine, prop_kind::backward, tensor, tensor, tensor,
                                      static_cast<float>(kEps), flags, forward});
    for (int arg : {DNNL_ARG_DST, DNNL_ARG_SHIFT}) work->args.erase(arg);  // it wants no others
    work->add(DNNL_ARG_DIFF_DST, tensor);
    work->add(DNNL_ARG_DIFF_SRC, tensor);
    work->add(DNNL_ARG_DIFF_SCALE, vector);
    work->add(DNNL_ARG_DIFF_SHIFT, vector);
  }
  return [work] { work->run(); };
}

Peer peer(const char* layout, memory::format_tag tag, bool (*takes)(const Layer&)) {
  return {"oneDNN", layout, takes,
          [tag](const Layer& layer, Pass pass) { return make(layer, pass, tag); }};
}

}  // namespace

std::vector<Peer> onednn_peers() {
  using Tag = memory::format_tag;
  // A matrix is given as (N, C, 1, 1), whose nchw and nhwc are the same memory: NumPy's.
  // Other channels than multiples of 16 would be padded.
  return {
      peer("nchw", Tag::nchw, [](const Layer& layer) { return !layer.matrix; }),
      peer("nhwc", Tag::nhwc, [](const Layer& layer) { return !layer.matrix; }),
      peer("nc", Tag::nhwc, [](const Layer& layer) { return layer.matrix; }),
      peer("nChw16c", Tag::nChw16c, [](const Layer& layer) { return layer.channels % 16 == 0; })};
}
