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

template <class Element>
struct WeightedGradInput : GradientMapOf<Element, Vec> {
  using T = Element;
  using V = Vec;
  const Weight<T>* w;
  std::ptrdiff_t w_stride;
  bool per_row;

  WeightedGradInput(const WeightedGradInputTile& t, bool in_columns)
      : GradientMapOf<T, Vec>(t.tile, in_columns),
        w(static_cast<const Weight<T>*>(t.weights.w)),
        w_stride(t.weights.w_stride),
        per_row(t.weights.per_row) {}

  template <std::ptrdiff_t count, class P, class Lanes>
  BNPP_INLINE void terms(std::ptrdiff_t j, const P& params, Lanes lanes, V (&z)[count],
                         V (&)[count]) const {
    this->gradients(j, lanes, z);
    const T* from = this->x + j;
    for (std::ptrdiff_t k = 0; k < count; ++k) {
      const auto& [center, a, b, c] = params[k].p;
      const Vec of_row = splat(per_row ? static_cast<double>(*w) : 0);
      const Vec weight = per_row ? of_row : load(w + j + k * kLanes, lanes);
      const Vec part = weight * (b * (load(from + k * kLanes, lanes) - center) + c);
      z[k] = a * z[k] + choose(positive(weight), part, splat(0));
    }
  }

  bool one_run() const {
    return !per_row && w_stride == this->cols && GradientMapOf<T, Vec>::one_run();
  }
  BNPP_INLINE void step(std::ptrdiff_t n) {
    w += n * (per_row ? 1 : w_stride);
    GradientMapOf<T, Vec>::step(n);
  }
  void move(std::ptrdiff_t n) {
    w += n;
    GradientMapOf<T, Vec>::move(n);
  }
  void set_strides(std::ptrdiff_t n) {
    w_stride = n;
    GradientMapOf<T, Vec>::set_strides(n);
  }
};

}  // namespace

template <class T, Layout layout>
void weighted_grad_sums(const WeightedGradSumsTile& t) {
  with_flag(t.weights.per_row,
            [&](auto per_row) { weighted_grad_sums_of<T, layout, decltype(per_row)::value>(t); });
}

template <class T, Layout layout>
void weighted_grad_input(const WeightedGradInputTile& t) {
  WeightedGradInput<T> map(t, layout == Layout::cols);
  run_map(map, t.tile.mask != nullptr, t.tile.stream,
          t.tile.ahead);
}

#define BNPP_UNIT(name, type)                                                          \
  template void weighted_grad_sums<type, Layout::rows>(const WeightedGradSumsTile&);   \
  template void weighted_grad_sums<type, Layout::cols>(const WeightedGradSumsTile&);   \
  template void weighted_grad_input<type, Layout::rows>(const WeightedGradInputTile&); \
  template void weighted_grad_input<type, Layout::cols>(const WeightedGradInputTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
