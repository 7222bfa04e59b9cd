// grad_sums: sum g and sum g * (x - center), with g = dy where the ReLU let the value through.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

template <class T, bool has_mask, class Lanes>
inline Vec masked_gradient(const T* dy, const std::uint8_t* mask, Lanes lanes) {
  const Vec g = load(dy, lanes);
  if constexpr (has_mask) return choose(load_mask(mask, lanes), g, splat(0));
  return g;
}

// Plain sums of float64 terms are far beyond what float32 gradients need; float64 ones take pairs.
template <class T>
inline constexpr bool kPairSums = sizeof(T) == sizeof(double);

// hi + lo; the lo of an Inf is NaN.
inline double rounded(PairSum s) { return s.lo - s.lo == 0 ? s.hi + s.lo : s.hi; }

// The sum of a channel's `repeat` columns.
inline double sum_columns_of(const double* columns, std::ptrdiff_t repeat) {
  if (repeat == 1) return *columns;
  Vec total = splat(0);
  for_each_vector(repeat,
                  [&](std::ptrdiff_t k, auto lanes) { total = total + load(columns + k, lanes); });
  return sum(total);
}

template <class T, Layout layout, bool has_mask>
void grad_sums_tile(const GradSumsTile& tile) {
  const GradSumsTile t = tile;  // a copy no store can alias, made field by field
  const T* dy = static_cast<const T*>(t.dy);
  const T* x = static_cast<const T*>(t.x);
  const auto gradient = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
    return masked_gradient<T, has_mask>(dy + i * t.dy_stride + j,
                                        t.mask + i * t.mask_stride + j / 8, lanes);
  };
  if constexpr (layout == Layout::rows) {
    const Vec center = splat(*t.center);
    Vec sum_g = splat(0), sum_gx = splat(0);
    RowSums pairs;
    for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
      for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) {
        foresee(t.rows, x + i * t.x_stride, j, t.x_stride);
        foresee(t.rows, dy + i * t.dy_stride, j, t.dy_stride);
        const Vec g = gradient(i, j, lanes);
        const Vec gx = g * (load(x + i * t.x_stride + j, lanes) - center);
        if constexpr (kPairSums<T>) {
          pairs.add(g, gx);
        } else {
          sum_g = sum_g + g;
          sum_gx = sum_gx + gx;
        }
      });
    }
    if constexpr (kPairSums<T>) {
      pairs.flush();
      *t.sum_g = rounded(sum_lanes(pairs.s1.hi, pairs.s1.lo));
      *t.sum_gx = rounded(sum_lanes(pairs.s2.hi, pairs.s2.lo));
    } else {
      *t.sum_g = sum(sum_g);
      *t.sum_gx = sum(sum_gx);
    }
  } else {
    constexpr std::ptrdiff_t at_once = kRowsSummed<2>;
    for_each_piece(t, kSharedColumns, [&](const Piece& piece) BNPP_INLINE_LAMBDA {
      Columns spread;
      const double* center = spread_channels(t.center, piece, t.repeat, spread.at);
      const auto terms = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& g,
                             Vec& gx) BNPP_INLINE_LAMBDA {
        const std::ptrdiff_t column = piece.begin + j;
        prefetch(x + (i + at_once) * t.x_stride + column);
        prefetch(dy + (i + at_once) * t.dy_stride + column);
        g = gradient(i, column, lanes);
        gx = g * (load(x + i * t.x_stride + column, lanes) - load(center + j, lanes));
      };
      double *sum_g = t.sum_g + piece.channel, *sum_gx = t.sum_gx + piece.channel;
      if constexpr (kPairSums<T>) {
        ColumnSums sums;
        sum_columns<at_once>(t.rows, piece.cols, sums, terms);
        for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
          const std::ptrdiff_t j = c * t.repeat;
          sum_g[c] = rounded(channel_sum(sums.hi1 + j, sums.lo1 + j, t.repeat));
          sum_gx[c] = rounded(channel_sum(sums.hi2 + j, sums.lo2 + j, t.repeat));
        }
      } else {
        Columns g, gx;
        accumulate_columns<at_once>(t.rows, piece.cols, g.at, gx.at, terms);
        for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
          sum_g[c] = sum_columns_of(g + c * t.repeat, t.repeat);
          sum_gx[c] = sum_columns_of(gx + c * t.repeat, t.repeat);
        }
      }
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
