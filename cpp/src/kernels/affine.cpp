// affine: y = act((x - center) * scale + (offset + residual)).
// The centre lies so near the mean that x - center loses nothing at any mean.
//
// Tensors of float32 and less are computed in float32, which makes at most one rounding of
// |gamma * xh| in each of x - center, scale, the product and the sum, and as many of beta and
// residual: within contract 1. Of halves, which may be no more than one of their own units off,
// what lies near 0 is mended. Channels whose parameters float32 has no room for are computed in
// float64.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

// What a tile has, known when compiled or, where speed does not count, only at run time.
template <bool with_residual, bool with_relu, bool with_mask>
struct AffineHas {
  static constexpr bool residual = with_residual, relu = with_relu, mask = with_mask;
  static constexpr bool mixed = false;
};
// And in which float32 may have room for some channels, unless all shall be float64.
struct AffineMayHave {
  bool residual, relu, mask, wide;
  static constexpr bool mixed = true;
};

inline bool is_in_one_run(const AffineTile& t) {
  return is_one_run(t, t.y_stride, t.x_stride, t.residual ? t.residual_stride : t.cols);
}

template <class T, class V, Layout layout, Store how, class Has>
void affine_tile(const AffineTile& tile, Has has) {
  const AffineTile t = tile;  // a copy no store can alias, made field by field
  const T* x = static_cast<const T*>(t.x);
  const T* residual = static_cast<const T*>(t.residual);
  T* y = static_cast<T*>(t.y);
  const double* const values[] = {t.center, t.scale, t.offset};
  const auto value = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, const auto& params,
                         auto& others) BNPP_INLINE_LAMBDA {
    const auto& [center, scale, offset] = params.p;
    auto shift = offset;
    others = magnitude(offset);
    if (has.residual) {
      const auto added = load_like(offset, residual + i * t.residual_stride + j, lanes);
      shift = shift + added;
      others = others + magnitude(added);
    }
    return (load_like(offset, x + i * t.x_stride + j, lanes) - center) * scale + shift;
  };
  const auto element = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes,
                           const Params<3, V>& params) BNPP_INLINE_LAMBDA {
    V z;
    if constexpr (Has::mixed) {
      const auto& [center, scale, offset] = params.p;
      const unsigned fits =
          bits_of_moderate(center) & bits_of_moderate(offset) & bits_of_in_range(scale);
      z = mixed<T, layout>(t, values, i, j, lanes, params, has.wide ? 0 : fits, value);
    } else {
      z = mended<T, layout>(t, values, i, j, lanes, params, value);
    }
    if (has.mask) store_mask(t.mask + i * t.mask_stride + j / 8, positive(z), lanes);
    if (has.relu) z = relu(z);
    put<how>(y + i * t.y_stride + j, z, lanes);
  };
  const auto foresee = [&](std::ptrdiff_t i, std::ptrdiff_t j) BNPP_INLINE_LAMBDA {
    prefetch(x + i * t.x_stride + j);
    if (has.residual) prefetch(residual + i * t.residual_stride + j);
    if (how == Store::cached) prefetch(y + i * t.y_stride + j);
  };
  if constexpr (how != Store::cached) {
    walk_streamed<layout, how, V>(t, y, t.y_stride, values, element, foresee, is_in_one_run(t));
    fence();
  } else {
    walk<layout, V>(t, values, element, foresee);
  }
}

// The kernel for what a tile has, one for each.
template <class T, class V, Layout layout>
void affine_in(const AffineTile& t, bool streamed) {
  with_flag(t.residual != nullptr, [&](auto residual) {
    with_flag(streamed, [&](auto stream) {
      constexpr bool r = decltype(residual)::value;
      using Streamed = decltype(stream);
      if (t.mask != nullptr) {  // of a ReLU, always
        affine_tile<T, V, layout, store_of<Store::pieces, Streamed>()>(t,
                                                                       AffineHas<r, true, true>{});
      } else {
        with_flag(t.relu, [&](auto relu) {
          affine_tile<T, V, layout, store_of<Store::lines, Streamed>()>(
              t, AffineHas<r, decltype(relu)::value, false>{});
        });
      }
    });
  });
}

// A tile of narrow rows that are one run.
template <class T>
void affine_narrow(const AffineTile& t, std::ptrdiff_t joined) {
  const auto [rows, cols, rest_cols] = join_rows(t, joined);
  const JoinedParams<3> params({t.center, t.scale, t.offset}, t.cols, joined);
  AffineTile wide = t;
  wide.rows = rows;
  wide.cols = wide.x_stride = wide.residual_stride = wide.y_stride = cols;
  wide.mask_stride = t.mask_stride * joined;
  wide.center = params.columns[0].at;
  wide.scale = params.columns[1].at;
  wide.offset = params.columns[2].at;
  affine<T, Layout::cols>(wide);
  if (rest_cols == 0) return;
  wide.x = static_cast<const T*>(t.x) + rows * cols;
  wide.y = static_cast<T*>(t.y) + rows * cols;
  if (t.residual != nullptr) wide.residual = static_cast<const T*>(t.residual) + rows * cols;
  if (t.mask != nullptr) wide.mask = t.mask + rows * wide.mask_stride;
  wide.rows = 1;
  wide.cols = rest_cols;
  affine<T, Layout::cols>(wide);
}

}  // namespace

template <class T, Layout layout>
void affine(const AffineTile& t) {
  const bool one_run = is_in_one_run(t);
  const bool streamed =
      t.stream && can_stream_masked<layout>(t, static_cast<const T*>(t.y), t.y_stride, one_run);
  if constexpr (layout == Layout::cols) {
    const std::ptrdiff_t joined = one_run && !streamed ? rows_joined_in_map(t) : 1;
    if (joined > 1) return affine_narrow<T>(t, joined);
  }
  if constexpr (sizeof(T) > sizeof(float)) {
    affine_in<T, Vec, layout>(t, streamed);
  } else {
    const std::ptrdiff_t channels = layout == Layout::rows ? 1 : t.cols / t.repeat;
    const bool fits = all_moderate(t.center, channels) && all_moderate(t.offset, channels) &&
                      all_in_range(t.scale, channels);
    if (!t.wide && fits) return affine_in<T, Single, layout>(t, streamed);
    if (t.wide && streamed && t.residual == nullptr && !t.relu) {
      return affine_tile<T, Vec, layout, store_of<Store::lines, Bool<true>>()>(
          t, AffineHas<false, false, false>{});
    }
    affine_tile<T, Vec, layout, Store::cached>(
        t, AffineMayHave{t.residual != nullptr, t.relu, t.mask != nullptr, t.wide});
  }
}

#define BNPP_UNIT(name, type)                                  \
  template void affine<type, Layout::rows>(const AffineTile&); \
  template void affine<type, Layout::cols>(const AffineTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
