// The verbs of norms whose statistics belong to a row and whose parameters to a column (layer
// norm): the forward map, the row sums of the gradient, and the gradient of the input, which adds
// up the columns' gradients in the same pass.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Rows whose terms are added as a tree before they join the sums of columns.
constexpr std::ptrdiff_t kRowsJoined = 4;

template <class T, bool streamed>
void row_affine_tile(const RowAffineTile t) {
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    const T* x = static_cast<const T*>(t.x) + i * t.x_stride;
    T* y = static_cast<T*>(t.y) + i * t.y_stride;
    const Vec center = splat(t.center[i]), scale = splat(t.scale[i]), shift = splat(t.shift[i]);
    for_each_vector_after(
        streamed ? stream_head(y) : 0, t.cols,
        [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
          const Vec xh = (load(x + j, lanes) - center) * scale + shift;
          put<streamed>(y + j, xh * load(t.gamma + j, lanes) + load(t.beta + j, lanes), lanes);
        });
  }
  if constexpr (streamed) fence();
}

template <class T>
void row_affine(const RowAffineTile& t) {
  with_flag(kCanStream && t.stream,
            [&](auto stream) { row_affine_tile<T, kCanStream&& decltype(stream)::value>(t); });
}

template <class T>
void row_grad_sums(const RowGradSumsTile& tile) {
  const RowGradSumsTile t = tile;  // a copy no store can alias
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    const T* dy = static_cast<const T*>(t.dy) + i * t.dy_stride;
    const T* x = static_cast<const T*>(t.x) + i * t.x_stride;
    const Vec center = splat(t.center[i]);
    Vec sum_h = splat(0), sum_hx = splat(0);
    RowSums pairs;
    for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
      const Vec h = load(dy + j, lanes) * load(t.gamma + j, lanes);
      const Vec hx = h * (load(x + j, lanes) - center);
      if constexpr (kPairSums<T>) {
        pairs.add(h, hx);
      } else {
        sum_h = sum_h + h;
        sum_hx = sum_hx + hx;
      }
    });
    if constexpr (kPairSums<T>) {
      pairs.flush();
      t.sum_h[i] = rounded(sum_lanes(pairs.s1.hi, pairs.s1.lo));
      t.sum_hx[i] = rounded(sum_lanes(pairs.s2.hi, pairs.s2.lo));
    } else {
      t.sum_h[i] = sum(sum_h);
      t.sum_hx[i] = sum(sum_hx);
    }
  }
}

// Adds the terms of a vector of columns to their sums: pairs hi + lo for float64.
template <class T, class Lanes>
BNPP_INLINE void join_column(double* hi, double* lo, Vec terms, Lanes lanes) {
  if constexpr (kPairSums<T>) {
    Vec error;
    store(hi, two_sum(load(hi, lanes), terms, error), lanes);
    store(lo, load(lo, lanes) + error, lanes);
  } else {
    store(hi, load(hi, lanes) + terms, lanes);
  }
}

template <class T, bool streamed>
void row_grad_input_tile(const RowGradInputTile t) {
  const auto rows = [&](std::ptrdiff_t first, auto count) BNPP_INLINE_LAMBDA {
    const T* dy = static_cast<const T*>(t.dy) + first * t.dy_stride;
    const T* x = static_cast<const T*>(t.x) + first * t.x_stride;
    T* dx = static_cast<T*>(t.dx) + first * t.dx_stride;
    for_each_vector_after(
        streamed ? stream_head(dx) : 0, t.cols,
        [&](std::ptrdiff_t column, auto some) BNPP_INLINE_LAMBDA {
          const Vec gamma = load(t.gamma + column, some);
          const auto terms = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& gx,
                                 Vec& g) BNPP_INLINE_LAMBDA {
            const std::ptrdiff_t row = first + i;
            const Vec scale = splat(t.scale[row]);
            const Vec xh = (load(x + i * t.x_stride + j, lanes) - splat(t.center[row])) * scale +
                           splat(t.shift[row]);
            g = load(dy + i * t.dy_stride + j, lanes);
            gx = g * xh;
            put<streamed>(dx + i * t.dx_stride + j,
                          g * gamma * scale + (xh * splat(t.b[row]) + splat(t.c[row])), lanes);
          };
          Vec gx, g;
          add_terms<decltype(count)::value>(0, column, some, gx, g, terms);
          join_column<T>(t.dgamma + column, t.dgamma_low + column, gx, some);
          join_column<T>(t.dbeta + column, t.dbeta_low + column, g, some);
        });
  };
  std::ptrdiff_t i = 0;
  for (; i + kRowsJoined <= t.rows; i += kRowsJoined) rows(i, Count<kRowsJoined>{});
  for (; i < t.rows; ++i) rows(i, Count<1>{});
  if constexpr (streamed) fence();
}

template <class T>
void row_grad_input(const RowGradInputTile& t) {
  // Rows that are walked together are streamed together: their lines begin at the same columns.
  const bool alike = t.dx_stride * static_cast<std::ptrdiff_t>(sizeof(T)) % kStreamAlign == 0;
  with_flag(kCanStream && t.stream && alike,
            [&](auto stream) { row_grad_input_tile<T, kCanStream&& decltype(stream)::value>(t); });
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
