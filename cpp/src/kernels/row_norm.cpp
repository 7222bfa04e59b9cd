// The maps and gradient sums of norms whose statistics belong to a row and whose parameters to a
// column (layer norm); the moments of rows are in moments.cpp and weighted_moments.cpp.
//
// Tensors of float32 and less are mapped in float32, with fused multiply-adds and a scale of two
// floats: x - center, xh and y are rounded once each. What lies near 0 is mended in halves.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

// The scale and the offset of rows as float32 numbers, in float64: center + low is the mean,
// scale + scale_low the scale, and offset what `low` comes to.
struct SplitRows {
  double center[kTileRows], scale[kTileRows], scale_low[kTileRows], offset[kTileRows];

  explicit SplitRows(const RowAffineTile& t) {
    for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
      center[i] = static_cast<double>(static_cast<float>(t.center[i]));
      scale[i] = static_cast<double>(static_cast<float>(t.scale[i]));
      scale_low[i] = t.scale[i] - scale[i];
      offset[i] = (center[i] - t.center[i]) * t.scale[i];
    }
  }
};

template <class Element>
struct RowAffine : MapOf<Element, MapVec<Element>, 4, 1> {
  using T = Element;
  using V = MapVec<T>;
  using Number = typename Arithmetic<V>::Number;
  static constexpr bool kOfRows = true;
  std::ptrdiff_t channel = 0;
  const Number *gamma, *beta;
  const RowAffineTile& tile;

  RowAffine(const RowAffineTile& t, const double* const (&values)[4], const Number* scales,
            const Number* offsets)
      : MapOf<T, V, 4, 1>(t, t.cols, values, {{t.x, t.x_stride}}, {t.y, t.y_stride}),
        gamma(scales),
        beta(offsets),
        tile(t) {}

  bool fits(std::ptrdiff_t row) const {
    return tile.moderate && is_moderate(tile.center[row]) && is_in_range(tile.scale[row]);
  }
  double exact(std::ptrdiff_t j, std::ptrdiff_t row) const {
    const double xh = (to_double(this->in[0].at[j]) - tile.center[row]) * tile.scale[row];
    return xh * tile.gamma[j] + tile.beta[j];
  }

  template <std::ptrdiff_t count, class P, class Lanes>
  BNPP_INLINE void terms(std::ptrdiff_t j, const P& params, Lanes lanes, V (&z)[count],
                         V (&others)[count]) const {
    for (std::ptrdiff_t k = 0; k < count; ++k) {
      const std::ptrdiff_t at = j + k * kLanes;
      const auto& [center, scale, scale_low, offset] = params[k].p;
      const V d = load_like(z[k], this->in[0].at + at, lanes) - center;
      const V times = load_like(z[k], gamma + at, lanes), plus = load_like(z[k], beta + at, lanes);
      if constexpr (Arithmetic<V>::is_single) {
        z[k] = fused(fused(d, scale, fused(d, scale_low, offset)), times, plus);
        others[k] = magnitude(plus);
      } else {
        z[k] = (d * scale + offset) * times + plus;
      }
    }
  }
  template <std::ptrdiff_t count, class Lanes>
  BNPP_INLINE void finish(std::ptrdiff_t j, Lanes lanes, V (&z)[count]) const {
    put_block(this->out.at + j, z, lanes, this->how);
  }
  // The lines of the rows below the tile, whose own lie in the cache already; so memory is never
  // idle.
  BNPP_INLINE void prefetch_lines(std::ptrdiff_t j) const {
    this->in[0].prefetch_lines(this->rows, j);
  }
  BNPP_INLINE void step(std::ptrdiff_t n) {
    MapOf<T, V, 4, 1>::step(n);
    channel += n;
  }
};

// h = dy * gamma and x - center of rows; what has no weight and is not finite has no part in
// either.
template <class Element>
struct RowGradients : SumsOf<Element, 1> {
  using T = Element;
  const T *dy, *x;
  const Weight<T>* w;  // or null
  const double* gamma;
  std::ptrdiff_t dy_stride, w_stride;

  explicit RowGradients(const RowGradSumsTile& t)
      : dy(static_cast<const T*>(t.dy)),
        x(static_cast<const T*>(t.x)),
        w(static_cast<const Weight<T>*>(t.weights)),
        gamma(t.gamma),
        dy_stride(t.dy_stride),
        w_stride(t.weights != nullptr ? t.weights_stride : 0) {
    this->rows = t.rows;
    this->cols = t.cols;
    this->numbers[0] = t.center;
    this->stride = t.x_stride;
    this->ahead = false;
  }

  struct Row {
    const T *dy, *x;
    const Weight<T>* w;
  };
  BNPP_INLINE Row row(std::ptrdiff_t i) const {
    return {dy + i * dy_stride, x + i * this->stride, w + i * w_stride};
  }
  void prefetch_lines(std::ptrdiff_t, std::ptrdiff_t) const {}
  template <bool exact, class Lanes>
  BNPP_INLINE void terms(const Row& row, std::ptrdiff_t j, Lanes lanes, const Numbers<1>& k,
                         Part& u, Part& v) const {
    u = load_part(row.dy + j, lanes) * load_part(gamma + j, lanes);
    v = load_part(row.x + j, lanes);
    const PartBits there = finite(v);
    v = v - k.p[0];
    if (w == nullptr) return;
    const PartBits used = positive(load_part(row.w + j, lanes));
    u = choose(used, u, choose(there, u, spread(0)));
    v = choose(used, v, choose(there, v, spread(0)));
  }
  bool one_run() const { return false; }
  void go_on(std::ptrdiff_t step, std::ptrdiff_t first) {
    const Row begin = row(first);
    dy = begin.dy;
    x = begin.x;
    w = begin.w;
    dy_stride *= step;
    this->stride *= step;
    w_stride *= step;
  }
};

// Sums of columns are plain for gradients of narrow values, and pairs for those of float64.
template <class T>
inline constexpr bool kPairSums = sizeof(T) == sizeof(double);

template <class T, class Lanes>
BNPP_INLINE void join_columns(double* hi, double* lo, std::ptrdiff_t j, Vec terms, Lanes lanes) {
  if constexpr (kPairSums<T>) {
    Vec error;
    store(hi + j, two_sum(load(hi + j, lanes), terms, error), lanes);
    store(lo + j, load(lo + j, lanes) + error, lanes);
  } else {
    store(hi + j, load(hi + j, lanes) + terms, lanes);
  }
}

// dx of a vector, and its terms of dgamma and dbeta.
template <class T, class Lanes>
BNPP_INLINE void row_gradient(const RowGradInputTile& t, std::ptrdiff_t i, std::ptrdiff_t j,
                              Lanes lanes, Vec gamma, Store how, Vec& gx, Vec& g) {
  const T* x = static_cast<const T*>(t.x) + i * t.x_stride + j;
  const T* dy = static_cast<const T*>(t.dy) + i * t.dy_stride + j;
  const Vec v = load(x, lanes), scale = splat(t.scale[i]);
  Vec xh = (v - splat(t.center[i])) * scale;
  if constexpr (kPairSums<T>) xh = xh + splat(t.shift[i]);
  g = load(dy, lanes);
  gx = g * xh;
  prefetch(x + t.rows * t.x_stride);
  prefetch(dy + t.rows * t.dy_stride);
  const Vec direct = g * gamma * scale;
  Vec through = xh * splat(t.b[i]) + splat(t.c[i]);  // through the statistics
  if (t.weights != nullptr) {
    const Vec w = load(static_cast<const Weight<T>*>(t.weights) + i * t.weights_stride + j, lanes);
    through = choose(positive(w), w * through, splat(0));
    gx = if_there(w, v, gx);
    g = if_there(w, v, g);
  }
  const Vec d[] = {direct + through};
  put_block(static_cast<T*>(t.dx) + i * t.dx_stride + j, d, lanes, how);
}

// Rows whose terms are added as a tree before they join the sums of columns.
constexpr std::ptrdiff_t kRowsJoined = 4;

template <std::ptrdiff_t n, class T>
BNPP_OUT_OF_LINE void row_gradients(const RowGradInputTile& given, std::ptrdiff_t first,
                                    Store how) {
  const RowGradInputTile t = given;  // a copy no store can alias
  const auto vector = [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec gamma = load(t.gamma + j, lanes);
    Vec gx[n], g[n];
    for (std::ptrdiff_t k = 0; k < n; ++k) {
      row_gradient<T>(t, first + k, j, lanes, gamma, how, gx[k], g[k]);
    }
    for (std::ptrdiff_t half = n / 2; half > 0; half /= 2) {
      for (std::ptrdiff_t k = 0; k < half; ++k) {
        gx[k] = gx[k] + gx[k + half];
        g[k] = g[k] + g[k + half];
      }
    }
    join_columns<T>(t.dgamma, t.dgamma_low, j, gx[0], lanes);
    join_columns<T>(t.dbeta, t.dbeta_low, j, g[0], lanes);
  };
  for_each_vector_after(stream_head(static_cast<T*>(t.dx) + first * t.dx_stride, how), t.cols,
                        vector);
}

}  // namespace

template <class T>
void row_affine(const RowAffineTile& t) {
  if constexpr (sizeof(T) == sizeof(double)) {
    double none[kTileRows] = {};
    RowAffine<T> map(t, {t.center, t.scale, none, t.shift}, t.gamma, t.beta);
    run_map(map, t.stream, false);
  } else {
    const SplitRows rows(t);
    RowAffine<T> map(t, {rows.center, rows.scale, rows.scale_low, rows.offset}, t.gamma_single,
                     t.beta_single);
    for (std::ptrdiff_t i = 0; i < t.rows; ++i) map.all_fit = map.all_fit && map.fits(i);
    run_map(map, t.stream, false);
  }
}

template <class T>
void row_grad_sums(const RowGradSumsTile& t) {
  double low_h[kTileRows], low_hx[kTileRows];
  sum_rows(RowGradients<T>(t), {t.sum_h, low_h, t.sum_hx, low_hx});
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    t.sum_h[i] = rounded({t.sum_h[i], low_h[i]});
    t.sum_hx[i] = rounded({t.sum_hx[i], low_hx[i]});
  }
}

template <class T>
void row_grad_input(const RowGradInputTile& t) {
  // Rows that are walked together can be streamed together where their lines begin at the same
  // columns.
  const bool alike = t.dx_stride * static_cast<std::ptrdiff_t>(sizeof(T)) % kStreamAlign == 0;
  const Store how = kCanStream && t.stream && alike ? Store::lines : Store::cached;
  std::ptrdiff_t i = 0;
  for (; i + kRowsJoined <= t.rows; i += kRowsJoined) row_gradients<kRowsJoined, T>(t, i, how);
  for (; i < t.rows; ++i) row_gradients<1, T>(t, i, how);
  if (how == Store::lines) fence();
}

#define BNPP_UNIT(name, type)                                \
  template void row_affine<type>(const RowAffineTile&);      \
  template void row_grad_sums<type>(const RowGradSumsTile&); \
  template void row_grad_input<type>(const RowGradInputTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
