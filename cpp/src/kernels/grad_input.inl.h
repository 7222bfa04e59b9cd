// grad_input: dx = a * g + b * (x - center) + c, with g = dy where the ReLU let the value through.
// Without x (frozen statistics) dx = a * g, so that an Inf in x cannot reach dx.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

struct GradInputParams {
  Vec center, a, b, c;
};

template <class T, Layout layout, bool has_x, bool has_mask, bool has_dresidual>
void grad_input_tile(const GradInputTile t) {
  const T* dy = static_cast<const T*>(t.dy);
  const T* x = static_cast<const T*>(t.x);
  T* dx = static_cast<T*>(t.dx);
  T* dresidual = static_cast<T*>(t.dresidual);
  walk<layout>(
      t.rows, t.cols,
      [&](std::ptrdiff_t j, auto lanes) {
        GradInputParams p;
        p.a = param<layout>(t.a, j, lanes);
        if constexpr (has_x) {
          p.center = param<layout>(t.center, j, lanes);
          p.b = param<layout>(t.b, j, lanes);
          p.c = param<layout>(t.c, j, lanes);
        }
        return p;
      },
      [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, const GradInputParams& p) {
        const Vec g = masked_gradient<T, has_mask>(dy + i * t.dy_stride + j,
                                                   t.mask + i * t.mask_stride + j / 8, lanes);
        Vec d = p.a * g;
        if constexpr (has_x) d = d + (p.b * (load(x + i * t.x_stride + j, lanes) - p.center) + p.c);
        if constexpr (has_dresidual) store(dresidual + i * t.dresidual_stride + j, g, lanes);
        store(dx + i * t.dx_stride + j, d, lanes);
      });
}

template <class T, Layout layout>
void grad_input(const GradInputTile& t) {
  with_flag(t.x != nullptr, [&](auto x) {
    with_flag(t.mask != nullptr, [&](auto mask) {
      with_flag(t.dresidual != nullptr, [&](auto dresidual) {
        grad_input_tile<T, layout, decltype(x)::value, decltype(mask)::value,
                        decltype(dresidual)::value>(t);
      });
    });
  });
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
