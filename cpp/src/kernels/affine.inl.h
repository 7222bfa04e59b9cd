// affine: y = act((x - center) * scale + offset + residual).
// The centre lies so near the mean that x - center loses nothing at any mean.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

struct AffineParams {
  Vec center, scale, offset;
};

template <class T, Layout layout, bool has_residual, bool has_relu, bool has_mask>
void affine_tile(const AffineTile t) {
  const T* x = static_cast<const T*>(t.x);
  const T* residual = static_cast<const T*>(t.residual);
  T* y = static_cast<T*>(t.y);
  walk<layout>(
      t.rows, t.cols,
      [&](std::ptrdiff_t j, auto lanes) {
        return AffineParams{param<layout>(t.center, j, lanes), param<layout>(t.scale, j, lanes),
                            param<layout>(t.offset, j, lanes)};
      },
      [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, const AffineParams& p) {
        Vec z = (load(x + i * t.x_stride + j, lanes) - p.center) * p.scale + p.offset;
        if constexpr (has_residual) z = z + load(residual + i * t.residual_stride + j, lanes);
        if constexpr (has_mask) store_mask(t.mask + i * t.mask_stride + j / 8, positive(z), lanes);
        if constexpr (has_relu) z = relu(z);
        store(y + i * t.y_stride + j, z, lanes);
      });
}

template <class T, Layout layout>
void affine(const AffineTile& t) {
  with_flag(t.residual != nullptr, [&](auto residual) {
    with_flag(t.relu, [&](auto relu) {
      with_flag(t.mask != nullptr, [&](auto mask) {
        affine_tile<T, layout, decltype(residual)::value, decltype(relu)::value,
                    decltype(mask)::value>(t);
      });
    });
  });
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
