// The verbs of norms whose statistics belong to a row and whose parameters to a column (layer
// norm): the moments of rows, also weighted, the forward map, the row sums of the gradient, and the
// gradient of the input, which adds up the columns' gradients in the same pass.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class T, class Tile, class Lanes>
inline Vec load_weight(const Tile& t, std::ptrdiff_t i, std::ptrdiff_t j, Lanes lanes) {
  return load(static_cast<const Weight<T>*>(t.weights) + i * t.weights_stride + j, lanes);
}

// body(i, count) for groups of `at_once` rows, and then single ones.
template <std::ptrdiff_t at_once, class Body>
BNPP_INLINE void for_each_rows(std::ptrdiff_t rows, Body body) {
  std::ptrdiff_t i = 0;
  for (; i + at_once <= rows; i += at_once) body(i, Count<at_once>{});
  if constexpr (at_once > 1) {
    for (; i < rows; ++i) body(i, Count<1>{});
  }
}

// Additions to a plain sum.
constexpr int kAddsAPart = 8;

struct LaneSum {
  Vec hi = splat(0), lo = splat(0);
  BNPP_INLINE void add(Vec v) {
    Vec error;
    hi = two_sum(hi, v, error);
    lo = lo + error;
  }
};

// The plain sums of kAddsAPart terms, and the pairs they join.
struct RowSums {
  Vec part1 = splat(0), part2 = splat(0);
  int adds = 0;
  LaneSum s1, s2;

  BNPP_INLINE void add(Vec d, Vec d2) {
    part1 = part1 + d;
    part2 = part2 + d2;
    if (++adds == kAddsAPart) flush();
  }
  BNPP_INLINE void flush() {
    s1.add(part1);
    s2.add(part2);
    part1 = part2 = splat(0);
    adds = 0;
  }
};

inline void put_sums(const BlockSums& to, std::ptrdiff_t row, double shift, PairSum s1,
                     PairSum s2) {
  to.shift[row] = shift;
  to.s1[row] = s1.hi;
  to.s1_low[row] = s1.lo;
  to.s2[row] = s2.hi;
  to.s2_low[row] = s2.lo;
}

// Of n rows from row i on, each sum a tree: term(i, j, lanes, &first, &second).
template <std::ptrdiff_t n, class Term, class Lanes>
BNPP_INLINE void add_terms(std::ptrdiff_t i, std::ptrdiff_t j, Lanes lanes, Vec& a, Vec& b,
                           const Term& term) {
  if constexpr (n == 1) {
    term(i, j, lanes, a, b);
  } else {
    Vec a2, b2;
    add_terms<n / 2>(i, j, lanes, a, b, term);
    add_terms<n / 2>(i + n / 2, j, lanes, a2, b2, term);
    a = a + a2;
    b = b + b2;
  }
}

// Plain sums of float64 terms are far beyond what float32 gradients need; float64 ones take pairs.
template <class T>
inline constexpr bool kPairSums = sizeof(T) == sizeof(double);

// Values whose mean is the shift of a row.
constexpr std::ptrdiff_t kRowShiftValues = 4;
// A row's shift may be 0 where the square of the mean is at most so much of the mean square about
// its first value.
constexpr double kRowNearZero = 2;
// The part of n * sum (x - K)^2 that (sum (x - K))^2 may be: M2 is the rest, with four bits less.
constexpr double kRowShiftPart = 15.0 / 16;

// 0 where that is near enough to them; see shift_of.
template <class T>
inline double row_shift(const T* x, std::ptrdiff_t cols) {
  const std::ptrdiff_t n = cols < kRowShiftValues ? cols : kRowShiftValues;
  double values[kLanes], rest = 0, square = 0;
  store(values, load(x, Some{n}));
  for (std::ptrdiff_t j = 1; j < n; ++j) {
    const double d = values[j] - values[0];
    rest += d;
    square += d * d;
  }
  const double share = 1 / static_cast<double>(n), mean = values[0] + rest * share;
  if (mean * mean <= kRowNearZero * square * share) return 0;
  return as_shift<T>(mean);
}

// The sums of n rows, from row i on, about their shifts. Plain ones: those of narrow values in
// float64 have digits to spare over the few thousand terms of a row's piece.
template <class T, bool about_zero, std::ptrdiff_t n>
BNPP_INLINE void sum_rows_about(const MomentsTile& t, std::ptrdiff_t i, const double (&shift)[n]) {
  const T* x = static_cast<const T*>(t.x) + i * t.x_stride;
  Vec k[n], s1[n], s2[n];
  for (std::ptrdiff_t r = 0; r < n; ++r) {
    k[r] = splat(shift[r]);
    s1[r] = s2[r] = splat(0);
  }
  for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
    for (std::ptrdiff_t r = 0; r < n; ++r) {
      const Vec v = load(x + r * t.x_stride + j, lanes);
      const Vec d = about_zero ? v : first_of(v - k[r], lanes, splat(0));
      s1[r] = s1[r] + d;
      s2[r] = about_zero ? plus_exact_product(d, d, s2[r]) : s2[r] + d * d;
    }
  });
  for (std::ptrdiff_t r = 0; r < n; ++r) {
    put_sums(t.sums, i + r, shift[r], {sum(s1[r]), 0}, {sum(s2[r]), 0});
  }
}

// About 0 where all are: the bits are the same either way.
template <class T, std::ptrdiff_t n>
BNPP_INLINE void sum_whole_rows(const MomentsTile& t, std::ptrdiff_t i, const double (&shift)[n]) {
  bool zero = true;
  for (const double k : shift) zero = zero && k == 0;
  with_flag(zero, [&](auto about_zero) BNPP_INLINE_LAMBDA {
    sum_rows_about<T, decltype(about_zero)::value>(t, i, shift);
  });
}

// Rows whose terms are added as a tree before they join the sums of columns.
constexpr std::ptrdiff_t kRowsJoined = 4;

// Whether rows that are walked together can be streamed together: their lines begin at the same
// columns.
template <class T>
inline bool rows_are_alike(std::ptrdiff_t stride) {
  return stride * static_cast<std::ptrdiff_t>(sizeof(T)) % kStreamAlign == 0;
}

// Maps ask for the lines of the rows below the tile while they work on its own, which lie in the
// cache already; so memory is never idle.
template <class T, Store how, std::ptrdiff_t at_once>
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
    const auto vector = [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
      const Vec gamma = load(t.gamma + j, lanes), beta = load(t.beta + j, lanes);
      for (std::ptrdiff_t r = 0; r < n; ++r) {
        Vec xh = (load(x + r * t.x_stride + j, lanes) - center[r]) * scale[r];
        if constexpr (kPairSums<T>) xh = xh + shift[r];
        prefetch(x + (r + t.rows) * t.x_stride + j);
        put<how>(y + r * t.y_stride + j, xh * gamma + beta, lanes);
      }
    };
    for_each_vector_after(how == Store::lines ? stream_head(y, Store::lines) : 0, t.cols, vector);
  });
  if constexpr (how == Store::lines) fence();
}

template <class T, bool weighted>
void row_grad_sums_tile(const RowGradSumsTile t) {
  constexpr std::ptrdiff_t at_once = kPairSums<T> || weighted ? 1 : kRowsAtOnce;
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
        const Vec v = load(x + r * t.x_stride + j, lanes);
        Vec h = load(dy + r * t.dy_stride + j, lanes) * gamma, hx = h * (v - center[r]);
        if constexpr (weighted) {
          const Vec weight = load_weight<T>(t, i + r, j, lanes);
          h = if_there(weight, v, h);
          hx = if_there(weight, v, hx);
        }
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
BNPP_INLINE void join_columns(double* hi, double* lo, std::ptrdiff_t j, Vec terms, Lanes lanes) {
  if constexpr (kPairSums<T>) {
    Vec error;
    store(hi + j, two_sum(load(hi + j, lanes), terms, error), lanes);
    store(lo + j, load(lo + j, lanes) + error, lanes);
  } else {
    store(hi + j, load(hi + j, lanes) + terms, lanes);
  }
}

template <class T, bool weighted, Store how>
void row_grad_input_tile(const RowGradInputTile t) {
  const T* dy = static_cast<const T*>(t.dy);
  const T* x = static_cast<const T*>(t.x);
  T* dx = static_cast<T*>(t.dx);
  // dx of a vector, and its terms of dgamma and dbeta.
  const auto element = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec gamma, Vec& gx,
                           Vec& g) BNPP_INLINE_LAMBDA {
    const Vec v = load(x + i * t.x_stride + j, lanes), scale = splat(t.scale[i]);
    Vec xh = (v - splat(t.center[i])) * scale;
    if constexpr (kPairSums<T>) xh = xh + splat(t.shift[i]);
    g = load(dy + i * t.dy_stride + j, lanes);
    gx = g * xh;
    prefetch(x + (i + t.rows) * t.x_stride + j);
    prefetch(dy + (i + t.rows) * t.dy_stride + j);
    const Vec direct = g * gamma * scale;
    Vec through = xh * splat(t.b[i]) + splat(t.c[i]);  // through the statistics
    if constexpr (weighted) {
      const Vec weight = load_weight<T>(t, i, j, lanes);
      through = choose(positive(weight), weight * through, splat(0));
      gx = if_there(weight, v, gx);
      g = if_there(weight, v, g);
    }
    put<how>(dx + i * t.dx_stride + j, direct + through, lanes);
  };
  for_each_rows<kRowsJoined>(t.rows, [&](std::ptrdiff_t first, auto count) BNPP_INLINE_LAMBDA {
    constexpr std::ptrdiff_t n = decltype(count)::value;
    const auto vector = [&](std::ptrdiff_t column, auto some) BNPP_INLINE_LAMBDA {
      const Vec gamma = load(t.gamma + column, some);
      Vec gx, g;
      add_terms<n>(first, column, some, gx, g,
                   [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& a, Vec& b)
                       BNPP_INLINE_LAMBDA { element(i, j, lanes, gamma, a, b); });
      join_columns<T>(t.dgamma, t.dgamma_low, column, gx, some);
      join_columns<T>(t.dbeta, t.dbeta_low, column, g, some);
    };
    for_each_vector_after(
        how == Store::lines ? stream_head(dx + first * t.dx_stride, Store::lines) : 0, t.cols,
        vector);
  });
  if constexpr (how == Store::lines) fence();
}

// The first x that has a weight.
template <class T>
inline double first_weighted(const T* x, const Weight<T>* w, std::ptrdiff_t cols) {
  for (std::ptrdiff_t j = 0; j < cols; ++j) {
    if (w[j] > 0) return as_shift<T>(to_double(x[j]));
  }
  return 0;
}

// The sums of row i about a shift.
template <class T>
inline void sum_weighted_row(const RowWeightedMomentsTile& t, std::ptrdiff_t i, double shift) {
  const T* x = static_cast<const T*>(t.x) + i * t.x_stride;
  const Weight<T>* w = static_cast<const Weight<T>*>(t.weights) + i * t.weights_stride;
  const Vec k = splat(shift);
  RowSums sums;
  LaneSum total;
  for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec weight = load(w + j, lanes);
    const Vec d = choose(positive(weight), load(x + j, lanes) - k, splat(0)), wd = weight * d;
    sums.add(wd, wd * d);
    total.add(weight);
  });
  sums.flush();
  put_sums(t.sums, i, shift, sum_lanes(sums.s1.hi, sums.s1.lo), sum_lanes(sums.s2.hi, sums.s2.lo));
  t.weight[i] = sum_lanes(total.hi, total.lo).hi;
}

}  // namespace

// moments of every row of the tile, one number a row.
template <class T>
void row_moments(const MomentsTile& tile) {
  const MomentsTile t = tile;  // a copy no store can alias
  const BlockSums& s = t.sums;
  const T* x = static_cast<const T*>(t.x);
  if constexpr (kPairSums<T>) {
    for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
      const BlockSums to = {s.shift + i, s.s1 + i, s.s1_low + i, s.s2 + i, s.s2_low + i};
      moments<T, Layout::rows>({x + i * t.x_stride, 0, 1, t.cols, 1, to, false, false});
    }
  } else {
    for_each_rows<kRowsAtOnce>(t.rows, [&](std::ptrdiff_t i, auto count) BNPP_INLINE_LAMBDA {
      double shift[decltype(count)::value];
      for (double& k : shift) k = row_shift(x + (i + (&k - shift)) * t.x_stride, t.cols);
      sum_whole_rows<T>(t, i, shift);
    });
    const auto n = static_cast<double>(t.cols);
    for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
      if (s.s1[i] * s.s1[i] > kRowShiftPart * n * s.s2[i]) {
        sum_whole_rows<T>(t, i, {as_shift<T>(s.shift[i] + s.s1[i] / n)});
      }
    }
  }
}

// Twice, the second time about the mean: the first value may be an outlier.
template <class T>
void row_weighted_moments(const RowWeightedMomentsTile& t) {
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    const T* x = static_cast<const T*>(t.x) + i * t.x_stride;
    const Weight<T>* w = static_cast<const Weight<T>*>(t.weights) + i * t.weights_stride;
    sum_weighted_row<T>(t, i, first_weighted(x, w, t.cols));
    if (!(t.weight[i] > 0)) continue;
    sum_weighted_row<T>(t, i, as_shift<T>(t.sums.shift[i] + t.sums.s1[i] / t.weight[i]));
  }
}

template <class T>
void row_affine(const RowAffineTile& t) {
  if (!kCanStream || !t.stream) return row_affine_tile<T, Store::cached, kRowsAtOnce>(t);
  constexpr Store how = store_of<Store::lines, Bool<true>>();
  if (rows_are_alike<T>(t.y_stride)) return row_affine_tile<T, how, kRowsAtOnce>(t);
  row_affine_tile<T, how, 1>(t);
}

template <class T>
void row_grad_sums(const RowGradSumsTile& t) {
  with_flag(t.weights != nullptr,
            [&](auto weighted) { row_grad_sums_tile<T, decltype(weighted)::value>(t); });
}

template <class T>
void row_grad_input(const RowGradInputTile& t) {
  if (t.weights != nullptr) return row_grad_input_tile<T, true, Store::cached>(t);
  with_flag(kCanStream && t.stream && rows_are_alike<T>(t.dx_stride), [&](auto stream) {
    row_grad_input_tile<T, false, store_of<Store::lines, decltype(stream)>()>(t);
  });
}

#define BNPP_UNIT(name, type)                                              \
  template void row_moments<type>(const MomentsTile&);                     \
  template void row_weighted_moments<type>(const RowWeightedMomentsTile&); \
  template void row_affine<type>(const RowAffineTile&);                    \
  template void row_grad_sums<type>(const RowGradSumsTile&);               \
  template void row_grad_input<type>(const RowGradInputTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
