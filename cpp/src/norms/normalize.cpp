#include "norms/normalize.h"

#include <algorithm>

#include "norms/saved.h"
#include "runtime/dispatch.h"

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

void Normalize::set_channels(std::int64_t begin, std::int64_t end, const BatchNormSaved& saved,
                             const ChannelVector& beta) {
  set_channels(begin, end, saved, saved.gamma.data(), beta.data());
}

void Normalize::set_channels(std::int64_t begin, std::int64_t end, const BatchNormSaved& saved,
                             const double* gamma, const double* beta) {
  double* const low = offset_.data();  // until the offsets take their place
  get_centers(saved, begin, end, center_.data(), low);
  kernels().scales({gamma + begin, beta + begin, saved.inv_std.data() + begin, low + begin,
                    scale_.data() + begin, offset_.data() + begin},
                   end - begin);
}

void Normalize::set_group(std::int64_t begin, std::int64_t end, double center, double low,
                          double inv_std, const ChannelVector& gamma, const ChannelVector& beta) {
  std::fill(center_.begin() + begin, center_.begin() + end, center);
  std::fill(scale_.begin() + begin, scale_.begin() + end, inv_std);
  std::fill(offset_.begin() + begin, offset_.begin() + end, low);
  kernels().scales({gamma.data() + begin, beta.data() + begin, scale_.data() + begin,
                    offset_.data() + begin, scale_.data() + begin, offset_.data() + begin},
                   end - begin);
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
  const int tensors = residual.data != nullptr ? 3 : 2;
  args.stream = y_.stream(tensors);
  args.ahead = !plan_.whole_rows && y_.ahead(tensors);
  args.wide = false;
  verbs.affine(args);
  y_.written(tile, worker);
}

}  // namespace bnpp
