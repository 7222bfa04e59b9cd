// grad_sums: sum g and sum g * (x - center), with g = dy where the ReLU let the value through.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

// The sum of a channel's `repeat` columns.
inline double sum_columns_of(const double* columns, std::ptrdiff_t repeat) {
  if (repeat == 1) return *columns;
  Vec total = splat(0);
  for_each_vector(repeat,
                  [&](std::ptrdiff_t k, auto lanes) { total = total + load(columns + k, lanes); });
  return sum(total);
}

// The sums of a tile in layout rows: four vectors at a time, added as a tree.
template <class T, bool exact, class Factors>
BNPP_INLINE void grad_sums_rows(const GradSumsTile& t, const Products<exact, Factors>& of) {
  const T* dy = static_cast<const T*>(t.dy);
  const T* x = static_cast<const T*>(t.x);
  Vec sum_g = splat(0), sum_gx = splat(0);
  RowSums pairs;
  const auto add = [&](Vec g, Vec gx) BNPP_INLINE_LAMBDA {
    if constexpr (kPairSums<T>) return pairs.add(g, gx);
    sum_g = sum_g + g;
    sum_gx = sum_gx + gx;
  };
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    // Four vectors as four rows of one.
    const auto in_run = [&](std::ptrdiff_t k, std::ptrdiff_t j, auto lanes, Vec& g, Vec& d)
                            BNPP_INLINE_LAMBDA {
                              const std::ptrdiff_t at = j + k * kLanes;
                              foresee(t.rows, x + i * t.x_stride, at, t.x_stride);
                              foresee(t.rows, dy + i * t.dy_stride, at, t.dy_stride);
                              of.factors(i, at, lanes, g, d);
                            };
    const auto terms = products<exact>(in_run);
    std::ptrdiff_t j = 0;
    Vec g, gx;
    for (; j + 4 * kLanes <= t.cols; j += 4 * kLanes) {
      add_terms<4>(0, j, Full{}, g, gx, terms);
      add(g, gx);
    }
    for (; j + kLanes <= t.cols; j += kLanes) {
      add_terms<1>(0, j, Full{}, g, gx, terms);
      add(g, gx);
    }
    if (j < t.cols) {
      add_terms<1>(0, j, Some{t.cols - j}, g, gx, terms);
      add(g, gx);
    }
  }
  if constexpr (kPairSums<T>) {
    pairs.flush();
    *t.sum_g = rounded(sum_lanes(pairs.s1.hi, pairs.s1.lo));
    *t.sum_gx = rounded(sum_lanes(pairs.s2.hi, pairs.s2.lo));
  } else {
    *t.sum_g = sum(sum_g);
    *t.sum_gx = sum(sum_gx);
  }
}

// The same of one piece in layout cols. With `gaps` the tile has `n` rows of memory for each of its
// own.
template <class T, bool gaps, bool exact, class Factors>
BNPP_INLINE void grad_sums_piece(const GradSumsTile& t, const Piece& piece,
                                 const Products<exact, Factors>& of, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t at_once = kRowsSummed<2>;
  const T* dy = static_cast<const T*>(t.dy) + piece.begin;
  const T* x = static_cast<const T*>(t.x) + piece.begin;
  const std::ptrdiff_t ahead = rows_ahead<T>(t.x_stride, n * at_once);
  const auto below = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& g, Vec& d)
                         BNPP_INLINE_LAMBDA {
                           prefetch(x + (i + ahead) * t.x_stride + j);
                           prefetch(dy + (i + ahead) * t.dy_stride + j);
                           of.factors(i, piece.begin + j, lanes, g, d);
                         };
  const auto terms = products<exact>(below);
  double *sum_g = t.sum_g + piece.channel, *sum_gx = t.sum_gx + piece.channel;
  if constexpr (kPairSums<T>) {
    ColumnSums sums;
    sum_columns<at_once, gaps>(t.rows, piece.cols, sums, terms, n);
    for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
      const std::ptrdiff_t j = c * t.repeat;
      sum_g[c] = rounded(channel_sum(sums.hi1 + j, sums.lo1 + j, t.repeat));
      sum_gx[c] = rounded(channel_sum(sums.hi2 + j, sums.lo2 + j, t.repeat));
    }
  } else {
    Columns g, gx;
    accumulate_columns<at_once, gaps>(0, t.rows, piece.cols, g.at, gx.at, terms, n);
    for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
      sum_g[c] = sum_columns_of(g + c * t.repeat, t.repeat);
      sum_gx[c] = sum_columns_of(gx + c * t.repeat, t.repeat);
    }
  }
}

template <class T, Layout layout, bool has_mask, bool gaps = false>
void grad_sums_tile(const GradSumsTile& tile, std::ptrdiff_t n = 1) {
  const GradSumsTile t = tile;  // a copy no store can alias, made field by field
  const T* dy = static_cast<const T*>(t.dy);
  const T* x = static_cast<const T*>(t.x);
  const auto gradient = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
    return masked_gradient<T, has_mask>(dy + i * t.dy_stride + j,
                                        t.mask + i * t.mask_stride + j / 8, lanes);
  };
  const auto about_zero = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& g, Vec& d)
                              BNPP_INLINE_LAMBDA {
                                g = gradient(i, j, lanes);
                                d = load(x + i * t.x_stride + j, lanes);
                              };
  constexpr bool may_be_exact = sizeof(T) < sizeof(double);
  if constexpr (layout == Layout::rows) {
    if constexpr (may_be_exact) {
      if (*t.center == 0) return grad_sums_rows<T>(t, products<true>(about_zero));
    }
    const Vec center = splat(*t.center);
    grad_sums_rows<T>(t, products<false>([&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& g,
                                             Vec& d) BNPP_INLINE_LAMBDA {
                        about_zero(i, j, lanes, g, d);
                        d = d - center;
                      }));
  } else {
    const auto sums_of = [&](const Piece& piece) BNPP_INLINE_LAMBDA {
      if constexpr (may_be_exact) {
        if (all_zero(t.center + piece.channel, gaps ? t.cols : piece.channels)) {
          return grad_sums_piece<T, gaps>(t, piece, products<true>(about_zero), n);
        }
      }
      Columns spread;
      const double* center = spread_channels(t.center, piece, t.repeat, spread.at) - piece.begin;
      const auto about_center = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& g, Vec& d)
                                    BNPP_INLINE_LAMBDA {
                                      about_zero(i, j, lanes, g, d);
                                      d = d - load(center + j, lanes);
                                    };
      grad_sums_piece<T, gaps>(t, piece, products<false>(about_center), n);
    };
    if constexpr (gaps) {
      sums_of({0, n * t.cols, 0, n * t.cols});
    } else {
      for_each_piece(t, kSharedColumns, sums_of);
    }
  }
}

// The sums of the columns of `rows` rows, each of which is `n` of a tile's narrow ones from row
// `first` on.
template <class T>
void grad_sums_joined(const GradSumsTile& t, std::ptrdiff_t first, std::ptrdiff_t rows,
                      std::ptrdiff_t n, const double* center, double* sum_g, double* sum_gx) {
  const bool whole_bytes = t.mask == nullptr || t.mask_stride * 8 == t.cols;
  const bool one_run = whole_bytes && t.x_stride == t.cols && t.dy_stride == t.cols;
  GradSumsTile part = t;
  part.narrow = false;
  part.x = static_cast<const T*>(t.x) + first * t.x_stride;
  part.dy = static_cast<const T*>(t.dy) + first * t.dy_stride;
  if (t.mask != nullptr) part.mask = t.mask + first * t.mask_stride;
  part.rows = rows;
  part.center = center;
  part.sum_g = sum_g;
  part.sum_gx = sum_gx;
  if (!one_run) {
    return with_flag(t.mask != nullptr, [&](auto mask) {
      grad_sums_tile<T, Layout::cols, decltype(mask)::value, true>(part, n);
    });
  }
  part.cols = part.x_stride = part.dy_stride = n * t.cols;
  part.mask_stride = n * t.mask_stride;
  grad_sums<T, Layout::cols>(part);
}

// The sums of a tile of narrow rows, as those of more channels that are added up then.
template <class T>
void grad_sums_narrow(const GradSumsTile& t, std::ptrdiff_t joined) {
  const JoinedParams<1> params({t.center}, t.cols, joined);
  const double* const center = params.columns[0].at;
  JoinedColumns g, gx, low_g = {}, low_gx = {};
  grad_sums_joined<T>(t, 0, t.rows / joined, joined, center, g.at, gx.at);
  if (const std::ptrdiff_t left = t.rows % joined; left > 0) {
    JoinedColumns rest_g, rest_gx, rest_low = {};
    grad_sums_joined<T>(t, t.rows - left, 1, left, center, rest_g.at, rest_gx.at);
    add_pairs(g.at, low_g.at, rest_g.at, rest_low.at, left * t.cols);
    add_pairs(gx.at, low_gx.at, rest_gx.at, rest_low.at, left * t.cols);
  }
  fold_pairs(g.at, low_g.at, t.cols, joined);
  fold_pairs(gx.at, low_gx.at, t.cols, joined);
  for (std::ptrdiff_t c = 0; c < t.cols; ++c) {
    t.sum_g[c] = rounded({g.at[c], low_g.at[c]});
    t.sum_gx[c] = rounded({gx.at[c], low_gx.at[c]});
  }
}

}  // namespace

template <class T, Layout layout>
void grad_sums(const GradSumsTile& t) {
  if constexpr (layout == Layout::cols) {
    const std::ptrdiff_t joined = t.narrow ? rows_joined(t.rows, t.cols) : 1;
    if (joined > 1) return grad_sums_narrow<T>(t, joined);
  }
  with_flag(t.mask != nullptr,
            [&](auto mask) { grad_sums_tile<T, layout, decltype(mask)::value>(t); });
}

#define BNPP_UNIT(name, type)                                       \
  template void grad_sums<type, Layout::rows>(const GradSumsTile&); \
  template void grad_sums<type, Layout::cols>(const GradSumsTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
