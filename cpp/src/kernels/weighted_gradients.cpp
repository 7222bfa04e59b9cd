// The backward verbs that heed weights.
//   weighted_grad_sums: sum g and sum g * (x - mean) without what has no weight and is not finite.
//   Only channels whose plain sums are not finite come here.
//   weighted_grad_input: dx = a * g + w * (b * (x - center) + c), and a * g where w is 0.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class T, Layout layout, bool per_row>
void weighted_grad_sums_of(const WeightedGradSumsTile tile) {
  const GradSumsTile& t = tile.tile;
  const T* dy = static_cast<const T*>(t.dy);
  const T* x = static_cast<const T*>(t.x);
  const TileWeights<T, per_row> weights(tile.weights);
  const auto terms = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec center, Vec low,
                         Vec& g, Vec& gx) BNPP_INLINE_LAMBDA {
    g = t.mask == nullptr ? masked_gradient<T, false>(dy + i * t.dy_stride + j, nullptr, lanes)
                          : masked_gradient<T, true>(dy + i * t.dy_stride + j,
                                                     t.mask + i * t.mask_stride + j / 8, lanes);
    const Vec d = load(x + i * t.x_stride + j, lanes) - center;
    const Vec counted = choose(finite(d), d, low);
    gx = g * choose(positive(weights.at(i, j, lanes)), d, counted);
  };
  if constexpr (layout == Layout::rows) {
    RowSums sums;
    for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
      add_run(t.cols, sums, [&](std::ptrdiff_t j, auto lanes, Vec& g, Vec& gx) BNPP_INLINE_LAMBDA {
        terms(i, j, lanes, splat(*t.center), splat(*tile.low), g, gx);
      });
    }
    sums.flush();
    *t.sum_g = rounded(sum_lanes(sums.s1.hi, sums.s1.lo));
    *t.sum_gx = rounded(sum_lanes(sums.s2.hi, sums.s2.lo));
  } else {
    for_each_piece(t, kSharedColumns, [&](const Piece& piece) BNPP_INLINE_LAMBDA {
      Columns spread[2];
      const double* center = spread_channels(t.center, piece, t.repeat, spread[0].at);
      const double* low = spread_channels(tile.low, piece, t.repeat, spread[1].at);
      ColumnSums sums;
      sum_columns<1>(
          t.rows, piece.cols, sums,
          [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& g, Vec& gx) BNPP_INLINE_LAMBDA {
            terms(i, piece.begin + j, lanes, load(center + j, lanes), load(low + j, lanes), g, gx);
          });
      for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
        const std::ptrdiff_t j = c * t.repeat;
        t.sum_g[piece.channel + c] = rounded(channel_sum(sums.hi1 + j, sums.lo1 + j, t.repeat));
        t.sum_gx[piece.channel + c] = rounded(channel_sum(sums.hi2 + j, sums.lo2 + j, t.repeat));
      }
    });
  }
}

template <class T, Layout layout, bool per_row, bool has_mask, Store how>
void weighted_grad_input_of(const WeightedGradInputTile tile) {
  const GradInputTile& t = tile.tile;
  const T* dy = static_cast<const T*>(t.dy);
  const T* x = static_cast<const T*>(t.x);
  T* dx = static_cast<T*>(t.dx);
  T* dresidual = static_cast<T*>(t.dresidual);
  const TileWeights<T, per_row> weights(tile.weights);
  const double* const values[] = {t.center, t.a, t.b, t.c};
  const auto element = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes,
                           const Params<4>& params) BNPP_INLINE_LAMBDA {
    const auto& [center, a, b, c] = params.p;
    const Vec g = masked_gradient<T, has_mask>(dy + i * t.dy_stride + j,
                                               t.mask + i * t.mask_stride + j / 8, lanes);
    Vec d = a * g;
    // Whole runs without weight need no x.
    if (layout == Layout::cols || !per_row || weights.of_row(i) > 0) {
      const Vec w = weights.at(i, j, lanes);
      const Vec part = w * (b * (load(x + i * t.x_stride + j, lanes) - center) + c);
      d = d + choose(positive(w), part, splat(0));
    }
    if (dresidual != nullptr) store(dresidual + i * t.dresidual_stride + j, g, lanes);
    put<how>(dx + i * t.dx_stride + j, d, lanes);
  };
  const auto foresee = [&](std::ptrdiff_t i, std::ptrdiff_t j) BNPP_INLINE_LAMBDA {
    prefetch(dy + i * t.dy_stride + j);
    prefetch(x + i * t.x_stride + j);
    if (how == Store::cached) prefetch(dx + i * t.dx_stride + j);
  };
  if constexpr (how != Store::cached) {
    // Row by row, as every row has its own weights.
    walk_streamed<layout, how>(t, dx, t.dx_stride, values, element, foresee, false);
    fence();
  } else {
    walk<layout>(t, values, element, foresee);
  }
}

// Whether dx can be streamed: in layout cols if its rows begin on lines (or pieces), or all equally
// far from them.
template <Layout layout, Store how, class T>
inline bool can_stream_weighted(const GradInputTile& t, const T* dx) {
  if constexpr (layout == Layout::rows) {
    return can_stream<layout, how>(t, dx, t.dx_stride, false);
  }
  const std::ptrdiff_t head = stream_head<how>(dx);
  return t.repeat == 1 && (t.mask == nullptr || head % 8 == 0) &&
         (t.rows == 1 || stream_head<how>(dx + t.dx_stride) == head);
}

}  // namespace

template <class T, Layout layout>
void weighted_grad_sums(const WeightedGradSumsTile& t) {
  with_flag(t.weights.per_row,
            [&](auto per_row) { weighted_grad_sums_of<T, layout, decltype(per_row)::value>(t); });
}

template <class T, Layout layout>
void weighted_grad_input(const WeightedGradInputTile& t) {
  with_flag(t.weights.per_row, [&](auto per_row) {
    with_flag(t.tile.mask != nullptr, [&](auto mask) {
      constexpr bool has_mask = decltype(mask)::value;
      constexpr Store how = has_mask ? Store::pieces : Store::lines;
      const bool streamed = t.tile.stream && can_stream_weighted<layout, how>(
                                                 t.tile, static_cast<const T*>(t.tile.dx));
      with_flag(streamed, [&](auto stream) {
        weighted_grad_input_of<T, layout, decltype(per_row)::value, has_mask,
                               store_of<how, decltype(stream)>()>(t);
      });
    });
  });
}

#define BNPP_UNIT(name, type)                                                          \
  template void weighted_grad_sums<type, Layout::rows>(const WeightedGradSumsTile&);   \
  template void weighted_grad_sums<type, Layout::cols>(const WeightedGradSumsTile&);   \
  template void weighted_grad_input<type, Layout::rows>(const WeightedGradInputTile&); \
  template void weighted_grad_input<type, Layout::cols>(const WeightedGradInputTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
