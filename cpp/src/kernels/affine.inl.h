// affine: y = act((x - center) * scale + offset + residual).
// The centre lies so near the mean that x - center loses nothing at any mean.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

template <class T, Layout layout, bool has_residual, bool has_relu, bool has_mask, bool streamed>
void affine_tile(const AffineTile& tile) {
  const AffineTile t = tile;  // a copy no store can alias, made field by field
  const T* x = static_cast<const T*>(t.x);
  const T* residual = static_cast<const T*>(t.residual);
  T* y = static_cast<T*>(t.y);
  const double* const values[] = {t.center, t.scale, t.offset};
  const auto element = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes,
                           const Params<3>& params) BNPP_INLINE_LAMBDA {
    const auto& [center, scale, offset] = params.p;
    if constexpr (layout == Layout::rows) foresee(t.rows, x + i * t.x_stride, j, t.x_stride);
    Vec z = (load(x + i * t.x_stride + j, lanes) - center) * scale + offset;
    if constexpr (has_residual) z = z + load(residual + i * t.residual_stride + j, lanes);
    if constexpr (has_mask) store_mask(t.mask + i * t.mask_stride + j / 8, positive(z), lanes);
    if constexpr (has_relu) z = relu(z);
    put<streamed>(y + i * t.y_stride + j, z, lanes);
  };
  if constexpr (streamed) {
    walk_streamed<layout>(t, y, t.y_stride, values, element);
    fence();
  } else {
    walk<layout>(t, values, element);
  }
}

template <class T, Layout layout>
void affine(const AffineTile& t) {
  const bool streamed = kCanStream && t.stream &&
                        can_stream<layout>(t, static_cast<const T*>(t.y), t.y_stride, t.x_stride,
                                           t.residual != nullptr ? t.residual_stride : t.x_stride);
  with_flag(t.residual != nullptr, [&](auto residual) {
    with_flag(streamed, [&](auto stream) {
      constexpr bool r = decltype(residual)::value, s = kCanStream && decltype(stream)::value;
      if (t.mask != nullptr) {  // of a ReLU, always
        affine_tile<T, layout, r, true, true, s>(t);
      } else {
        with_flag(t.relu, [&](auto relu) {
          affine_tile<T, layout, r, decltype(relu)::value, false, s>(t);
        });
      }
    });
  });
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
