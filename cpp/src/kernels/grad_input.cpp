// grad_input: dx = (a * g + c) + b * (x - center), with g = dy where the ReLU let the value
// through. Without x (frozen statistics) dx = a * g, so that an Inf in x cannot reach dx.
// In float32 or float64 as in affine.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

// What a tile has; see AffineHas.
template <bool with_x, bool with_mask, bool with_dresidual>
struct GradInputHas {
  static constexpr bool x = with_x, mask = with_mask, dresidual = with_dresidual;
  static constexpr bool mixed = false;
};
struct GradInputMayHave {
  bool x, mask, dresidual;
  static constexpr bool mixed = true;
};

inline bool is_in_one_run(const GradInputTile& t) {
  return is_one_run(t, t.dx_stride, t.dy_stride, t.x ? t.x_stride : t.cols,
                    t.dresidual ? t.dresidual_stride : t.cols);
}

template <class T, class V, Layout layout, Store how, class Has>
void grad_input_tile(const GradInputTile& tile, Has has) {
  const GradInputTile t = tile;  // a copy no store can alias, made field by field
  const T* dy = static_cast<const T*>(t.dy);
  const T* x = static_cast<const T*>(t.x);
  T* dx = static_cast<T*>(t.dx);
  T* dresidual = static_cast<T*>(t.dresidual);
  const double* const values[] = {t.center, t.a, t.b, t.c};
  const auto gradient = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes,
                            auto like) BNPP_INLINE_LAMBDA {
    const auto g = load_like(like, dy + i * t.dy_stride + j, lanes);
    return has.mask ? masked<decltype(like)>(g, t.mask + i * t.mask_stride + j / 8, lanes) : g;
  };
  const auto value = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, const auto& params,
                         auto& others) BNPP_INLINE_LAMBDA {
    const auto& [center, a, b, c] = params.p;
    const auto ag = a * gradient(i, j, lanes, a);
    others = magnitude(ag);
    if (!has.x) return ag;
    others = others + magnitude(c);
    return (ag + c) + b * (load_like(a, x + i * t.x_stride + j, lanes) - center);
  };
  const auto element = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes,
                           const Params<4, V>& params) BNPP_INLINE_LAMBDA {
    V d;
    if constexpr (Has::mixed) {
      const auto& [center, a, b, c] = params.p;
      unsigned fits = bits_of_in_range(a);
      if (has.x) fits &= bits_of_moderate(center) & bits_of_moderate(c) & bits_of_in_range(b);
      d = mixed<T, layout>(t, values, i, j, lanes, params, fits, value);
    } else {
      d = mended<T, layout>(t, values, i, j, lanes, params, value);
    }
    if (has.dresidual) {
      store(dresidual + i * t.dresidual_stride + j, gradient(i, j, lanes, d), lanes);
    }
    put<how>(dx + i * t.dx_stride + j, d, lanes);
  };
  const auto foresee = [&](std::ptrdiff_t i, std::ptrdiff_t j) BNPP_INLINE_LAMBDA {
    prefetch(dy + i * t.dy_stride + j);
    if (has.x) prefetch(x + i * t.x_stride + j);
    if (how == Store::cached) prefetch(dx + i * t.dx_stride + j);
  };
  if constexpr (how != Store::cached) {
    walk_streamed<layout, how, V>(t, dx, t.dx_stride, values, element, foresee, is_in_one_run(t));
    fence();
  } else {
    walk<layout, V>(t, values, element, foresee);
  }
}

// The kernel for what a tile has, one for each.
template <class T, class V, Layout layout>
void grad_input_in(const GradInputTile& t, bool streamed) {
  with_flag(t.x != nullptr, [&](auto x) {
    with_flag(t.mask != nullptr, [&](auto mask) {
      with_flag(t.dresidual != nullptr, [&](auto dresidual) {
        with_flag(streamed, [&](auto stream) {
          constexpr bool has_mask = decltype(mask)::value;
          constexpr Store how = has_mask ? Store::pieces : Store::lines;
          grad_input_tile<T, V, layout, store_of<how, decltype(stream)>()>(
              t, GradInputHas<decltype(x)::value, has_mask, decltype(dresidual)::value>{});
        });
      });
    });
  });
}

// A tile of narrow rows that are one run.
template <class T>
void grad_input_narrow(const GradInputTile& t, std::ptrdiff_t joined) {
  const auto [rows, cols, rest_cols] = join_rows(t, joined);
  const JoinedParams<4> params({t.center, t.a, t.b, t.c}, t.cols, joined);
  GradInputTile wide = t;
  wide.rows = rows;
  wide.cols = wide.dy_stride = wide.x_stride = wide.dx_stride = wide.dresidual_stride = cols;
  wide.mask_stride = t.mask_stride * joined;
  wide.center = params.columns[0].at;
  wide.a = params.columns[1].at;
  wide.b = params.columns[2].at;
  wide.c = params.columns[3].at;
  grad_input<T, Layout::cols>(wide);
  if (rest_cols == 0) return;
  wide.dy = static_cast<const T*>(t.dy) + rows * cols;
  wide.dx = static_cast<T*>(t.dx) + rows * cols;
  if (t.x != nullptr) wide.x = static_cast<const T*>(t.x) + rows * cols;
  if (t.dresidual != nullptr) wide.dresidual = static_cast<T*>(t.dresidual) + rows * cols;
  if (t.mask != nullptr) wide.mask = t.mask + rows * wide.mask_stride;
  wide.rows = 1;
  wide.cols = rest_cols;
  grad_input<T, Layout::cols>(wide);
}

}  // namespace

template <class T, Layout layout>
void grad_input(const GradInputTile& t) {
  const bool one_run = is_in_one_run(t);
  const bool streamed =
      t.stream && can_stream_masked<layout>(t, static_cast<const T*>(t.dx), t.dx_stride, one_run);
  if constexpr (layout == Layout::cols) {
    const std::ptrdiff_t joined = one_run && !streamed ? rows_joined_in_map(t) : 1;
    if (joined > 1) return grad_input_narrow<T>(t, joined);
  }
  if constexpr (sizeof(T) > sizeof(float)) {
    grad_input_in<T, Vec, layout>(t, streamed);
  } else {
    const std::ptrdiff_t channels = layout == Layout::rows ? 1 : t.cols / t.repeat;
    const bool fits =
        all_in_range(t.a, channels) &&
        (t.x == nullptr || (all_moderate(t.center, channels) && all_moderate(t.c, channels) &&
                            all_in_range(t.b, channels)));
    if (fits) return grad_input_in<T, Single, layout>(t, streamed);
    grad_input_tile<T, Vec, layout, Store::cached>(
        t, GradInputMayHave{t.x != nullptr, t.mask != nullptr, t.dresidual != nullptr});
  }
}

#define BNPP_UNIT(name, type)                                         \
  template void grad_input<type, Layout::rows>(const GradInputTile&); \
  template void grad_input<type, Layout::cols>(const GradInputTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
