#include "norms/normalize.h"

namespace bnpp {

Normalize::Normalize(const Plan& plan, const ConstTensor& residual, Activation activation,
                     const Tensor& y, int threads)
    : plan_(plan),
      residual_(residual, plan, threads),
      y_(y, plan, threads),
      relu_(activation == Activation::relu) {
  const auto channels = static_cast<std::size_t>(plan.channels);
  center_.resize(channels);
  scale_.resize(channels);
  offset_.resize(channels);
}

void Normalize::set_channel(std::int64_t channel, const BatchNormSaved& saved, double beta) {
  const auto c = static_cast<std::size_t>(channel);
  set_channel(channel, center_of(saved, channel), saved.gamma[c] * saved.inv_std[c], beta);
}

void Normalize::set_channel(std::int64_t channel, const Center& mean, double scale, double beta) {
  const auto c = static_cast<std::size_t>(channel);
  center_[c] = mean.center;
  scale_[c] = scale;
  offset_[c] = beta - mean.low * scale;
}

void Normalize::apply(const Verbs& verbs, const Operand& x, std::uint8_t* mask, const Tile& tile,
                      int worker) const {
  const Operand::View in = x.read(tile, worker), residual = residual_.read(tile, worker),
                      out = y_.write(tile, worker);
  AffineTile args;
  args.x = in.data;
  args.x_stride = in.stride;
  args.residual = residual.data;
  args.residual_stride = residual.stride;
  args.y = out.data;
  args.y_stride = out.stride;
  args.mask = mask ? mask + plan_.mask_offset(tile) : nullptr;
  args.mask_stride = plan_.mask_stride();
  args.rows = plan_.rows(tile);
  args.cols = plan_.cols(tile);
  args.repeat = plan_.inner;
  args.center = &center_[static_cast<std::size_t>(tile.c0)];
  args.scale = &scale_[static_cast<std::size_t>(tile.c0)];
  args.offset = &offset_[static_cast<std::size_t>(tile.c0)];
  args.relu = relu_;
  args.stream = y_.stream();
  verbs.affine(args);
  y_.written(tile, worker);
}

}  // namespace bnpp
