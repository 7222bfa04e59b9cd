// grad_sums: sum g and sum g * (x - center), with g = dy where the ReLU let the value through.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

template <class T, bool has_mask, class Lanes>
inline Vec masked_gradient(const T* dy, const std::uint8_t* mask, Lanes lanes) {
  const Vec g = load(dy, lanes);
  if constexpr (has_mask) return keep_where(load_mask(mask, lanes), g);
  return g;
}

template <class T, Layout layout, bool has_mask>
void grad_sums_tile(const GradSumsTile t) {
  const T* dy = static_cast<const T*>(t.dy);
  const T* x = static_cast<const T*>(t.x);
  const auto gradient = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes) {
    return masked_gradient<T, has_mask>(dy + i * t.dy_stride + j,
                                        t.mask + i * t.mask_stride + j / 8, lanes);
  };
  if constexpr (layout == Layout::rows) {
    const Vec center = splat(*t.center);
    Vec sum_g = splat(0), sum_gx = splat(0);
    for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
      for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) {
        const Vec g = gradient(i, j, lanes);
        sum_g = sum_g + g;
        sum_gx = sum_gx + g * (load(x + i * t.x_stride + j, lanes) - center);
      });
    }
    *t.sum_g = sum(sum_g);
    *t.sum_gx = sum(sum_gx);
  } else {
    accumulate_columns(t.rows, t.cols, t.sum_g, t.sum_gx,
                       [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& g, Vec& gx) {
                         g = gradient(i, j, lanes);
                         gx = g * (load(x + i * t.x_stride + j, lanes) - load(t.center + j, lanes));
                       });
  }
}

template <class T, Layout layout>
void grad_sums(const GradSumsTile& t) {
  with_flag(t.mask != nullptr,
            [&](auto mask) { grad_sums_tile<T, layout, decltype(mask)::value>(t); });
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
