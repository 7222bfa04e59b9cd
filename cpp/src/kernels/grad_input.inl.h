// grad_input: dx = a * g + b * (x - center) + c, with g = dy where the ReLU let the value through.
// Without x (frozen statistics) dx = a * g, so that an Inf in x cannot reach dx.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

template <class T, Layout layout, bool has_x, bool has_mask, bool has_dresidual, bool streamed>
void grad_input_tile(const GradInputTile& tile) {
  const GradInputTile t = tile;  // a copy no store can alias, made field by field
  const T* dy = static_cast<const T*>(t.dy);
  const T* x = static_cast<const T*>(t.x);
  T* dx = static_cast<T*>(t.dx);
  T* dresidual = static_cast<T*>(t.dresidual);
  const double* const values[] = {t.center, t.a, t.b, t.c};
  const auto element = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes,
                           const Params<4>& params) BNPP_INLINE_LAMBDA {
    const auto& [center, a, b, c] = params.p;
    const Vec g = masked_gradient<T, has_mask>(dy + i * t.dy_stride + j,
                                               t.mask + i * t.mask_stride + j / 8, lanes);
    if constexpr (layout == Layout::rows) {
      foresee(t.rows, dy + i * t.dy_stride, j, t.dy_stride);
      if constexpr (has_x) foresee(t.rows, x + i * t.x_stride, j, t.x_stride);
    }
    Vec d = a * g;
    if constexpr (has_x) d = d + (b * (load(x + i * t.x_stride + j, lanes) - center) + c);
    if constexpr (has_dresidual) store(dresidual + i * t.dresidual_stride + j, g, lanes);
    put<streamed>(dx + i * t.dx_stride + j, d, lanes);
  };
  if constexpr (streamed) {
    walk_streamed<layout>(t, dx, t.dx_stride, values, element);
    fence();
  } else {
    walk<layout>(t, values, element);
  }
}

template <class T, Layout layout>
void grad_input(const GradInputTile& t) {
  const std::ptrdiff_t x_stride = t.x != nullptr ? t.x_stride : t.dy_stride;
  const bool dense_dresidual =
      layout == Layout::rows || t.dresidual == nullptr || t.dresidual_stride == t.cols;
  const bool streamed =
      kCanStream && t.stream && dense_dresidual &&
      can_stream<layout>(t, static_cast<const T*>(t.dx), t.dx_stride, x_stride, t.dy_stride);
  with_flag(t.x != nullptr, [&](auto x) {
    with_flag(t.mask != nullptr, [&](auto mask) {
      with_flag(t.dresidual != nullptr, [&](auto dresidual) {
        with_flag(streamed, [&](auto stream) {
          grad_input_tile<T, layout, decltype(x)::value, decltype(mask)::value,
                          decltype(dresidual)::value, kCanStream&& decltype(stream)::value>(t);
        });
      });
    });
  });
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
