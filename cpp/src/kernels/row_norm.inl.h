// The verbs of norms whose statistics belong to a row and whose parameters to a column (layer
// norm): the forward map, the row sums of the gradient, and the gradient of the input, which adds
// up the columns' gradients in the same pass.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Rows whose terms are added as a tree before they join the sums of columns.
constexpr std::ptrdiff_t kRowsJoined = 4;

// body(i, count) for groups of `at_once` rows, and then single ones.
template <std::ptrdiff_t at_once, class Body>
BNPP_INLINE void for_each_rows(std::ptrdiff_t rows, Body body) {
  std::ptrdiff_t i = 0;
  for (; i + at_once <= rows; i += at_once) body(i, Count<at_once>{});
  if constexpr (at_once > 1) {
    for (; i < rows; ++i) body(i, Count<1>{});
  }
}

// Whether rows that are walked together can be streamed together: their lines begin at the same
// columns.
template <class T>
inline bool rows_are_alike(std::ptrdiff_t stride) {
  return stride * static_cast<std::ptrdiff_t>(sizeof(T)) % kStreamAlign == 0;
}

// Maps ask for the lines of the rows below the tile while they work on its own, which lie in the
// cache already; so memory is never idle.
template <class T, bool streamed, std::ptrdiff_t at_once>
void row_affine_tile(const RowAffineTile t) {
  for_each_rows<at_once>(t.rows, [&](std::ptrdiff_t i, auto count) BNPP_INLINE_LAMBDA {
    constexpr std::ptrdiff_t n = decltype(count)::value;
    const T* x = static_cast<const T*>(t.x) + i * t.x_stride;
    T* y = static_cast<T*>(t.y) + i * t.y_stride;
    Vec center[n], scale[n], shift[n];
    for (std::ptrdiff_t r = 0; r < n; ++r) {
      center[r] = splat(t.center[i + r]);
      scale[r] = splat(t.scale[i + r]);
      shift[r] = splat(t.shift[i + r]);
    }
    for_each_vector_after(
        streamed ? stream_head(y) : 0, t.cols,
        [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
          const Vec gamma = load(t.gamma + j, lanes), beta = load(t.beta + j, lanes);
          for (std::ptrdiff_t r = 0; r < n; ++r) {
            const Vec xh = (load(x + r * t.x_stride + j, lanes) - center[r]) * scale[r] + shift[r];
            prefetch(x + (r + t.rows) * t.x_stride + j);
            put<streamed>(y + r * t.y_stride + j, xh * gamma + beta, lanes);
          }
        });
  });
  if constexpr (streamed) fence();
}

template <class T>
void row_affine(const RowAffineTile& t) {
  if (!kCanStream || !t.stream) return row_affine_tile<T, false, kRowsAtOnce>(t);
  if (rows_are_alike<T>(t.y_stride)) return row_affine_tile<T, kCanStream, kRowsAtOnce>(t);
  row_affine_tile<T, kCanStream, 1>(t);
}

template <class T>
void row_grad_sums(const RowGradSumsTile& tile) {
  const RowGradSumsTile t = tile;  // a copy no store can alias
  constexpr std::ptrdiff_t at_once = kPairSums<T> ? 1 : kRowsAtOnce;
  for_each_rows<at_once>(t.rows, [&](std::ptrdiff_t i, auto count) BNPP_INLINE_LAMBDA {
    constexpr std::ptrdiff_t n = decltype(count)::value;
    const T* dy = static_cast<const T*>(t.dy) + i * t.dy_stride;
    const T* x = static_cast<const T*>(t.x) + i * t.x_stride;
    Vec center[n], sum_h[n], sum_hx[n];
    for (std::ptrdiff_t r = 0; r < n; ++r) {
      center[r] = splat(t.center[i + r]);
      sum_h[r] = sum_hx[r] = splat(0);
    }
    RowSums pairs;
    for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
      const Vec gamma = load(t.gamma + j, lanes);
      for (std::ptrdiff_t r = 0; r < n; ++r) {
        const Vec h = load(dy + r * t.dy_stride + j, lanes) * gamma;
        const Vec hx = h * (load(x + r * t.x_stride + j, lanes) - center[r]);
        if constexpr (kPairSums<T>) {
          pairs.add(h, hx);
        } else {
          sum_h[r] = sum_h[r] + h;
          sum_hx[r] = sum_hx[r] + hx;
        }
      }
    });
    if constexpr (kPairSums<T>) {
      pairs.flush();
      t.sum_h[i] = rounded(sum_lanes(pairs.s1.hi, pairs.s1.lo));
      t.sum_hx[i] = rounded(sum_lanes(pairs.s2.hi, pairs.s2.lo));
    } else {
      for (std::ptrdiff_t r = 0; r < n; ++r) {
        t.sum_h[i + r] = sum(sum_h[r]);
        t.sum_hx[i + r] = sum(sum_hx[r]);
      }
    }
  });
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
  for_each_rows<kRowsJoined>(t.rows, [&](std::ptrdiff_t first, auto count) BNPP_INLINE_LAMBDA {
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
            prefetch(x + (i + t.rows) * t.x_stride + j);
            prefetch(dy + (i + t.rows) * t.dy_stride + j);
            gx = g * xh;
            put<streamed>(dx + i * t.dx_stride + j,
                          g * gamma * scale + (xh * splat(t.b[row]) + splat(t.c[row])), lanes);
          };
          Vec gx, g;
          add_terms<decltype(count)::value>(0, column, some, gx, g, terms);
          join_column<T>(t.dgamma + column, t.dgamma_low + column, gx, some);
          join_column<T>(t.dbeta + column, t.dbeta_low + column, g, some);
        });
  });
  if constexpr (streamed) fence();
}

template <class T>
void row_grad_input(const RowGradInputTile& t) {
  with_flag(kCanStream && t.stream && rows_are_alike<T>(t.dx_stride),
            [&](auto stream) { row_grad_input_tile<T, kCanStream&& decltype(stream)::value>(t); });
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
