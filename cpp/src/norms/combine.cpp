#include "norms/combine.h"

namespace bnpp {

Combine::Combine(const Plan& plan, const Sources& sources, const std::uint8_t* mask, Masked masked)
    : plan_(plan), sources_(sources), mask_(mask), mask_out_(masked == Masked::out) {
  for (auto* coefficient : {&a_, &b_, &d_, &k_}) coefficient->resize(sources.center.size());
}

void Combine::set_channel(std::size_t c, const CombineCoefficients& coefficients) {
  const Source x = sources_.of_channel(c);
  a_[c] = coefficients.a;
  b_[c] = coefficients.b;
  d_[c] = coefficients.d * x.slope;
  k_[c] = coefficients.k - d_[c] * x.low;
}

void Combine::apply(const Verbs& verbs, const Views& from, const Operand& out, const Tile& tile,
                    int worker) const {
  const Operand::View to = out.write(tile, worker);
  const auto first = static_cast<std::size_t>(tile.c0);
  CombineTile args;
  args.u = from.u.data;
  args.u_stride = from.u.stride;
  args.v = from.v.data;
  args.v_stride = from.v.stride;
  args.x = from.x.data;
  args.x_stride = from.x.stride;
  args.mask = mask_ ? mask_ + plan_.mask_offset(tile) : nullptr;
  args.mask_stride = plan_.mask_stride();
  args.mask_out = mask_out_;
  args.out = to.data;
  args.out_stride = to.stride;
  args.rows = plan_.rows(tile);
  args.cols = plan_.cols(tile);
  args.repeat = plan_.inner;
  args.center = &sources_.center[first];
  args.a = &a_[first];
  args.b = &b_[first];
  args.d = &d_[first];
  args.c = &k_[first];
  int tensors = 1;
  for (const void* source : {args.u, args.v, args.x}) tensors += source != nullptr ? 1 : 0;
  args.stream = out.stream(tensors);
  args.ahead = out.ahead(tensors);
  verbs.combine(args);
  out.written(tile, worker);
}

CombineCoefficients tangent_of_y(const BatchNormSaved& saved, std::size_t c,
                                 const ChannelTangents& dot) {
  const double r = saved.inv_std[c], scale = saved.gamma[c] * r;
  CombineCoefficients y;
  y.a = 1;
  y.b = scale;
  y.d = r * (dot.gamma - 0.5 * scale * r * dot.var);
  y.k = dot.beta - scale * dot.mean;
  return y;
}

}  // namespace bnpp
