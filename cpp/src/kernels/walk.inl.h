// How a kernel walks its tile: vectors of 16 columns, the last one partial, and parameters that are
// one number (layout rows) or one a column (layout cols).
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Inlining everything into the kernel is what keeps its loops in registers.
#if defined(__GNUC__)
#define BNPP_INLINE __attribute__((always_inline)) inline
#else
#define BNPP_INLINE inline
#endif

// Rows that share one load of the parameters or accumulators in layout cols.
constexpr std::ptrdiff_t kRowsAtOnce = 4;

template <bool B>
struct Bool {
  static constexpr bool value = B;
};

// Turns a run-time flag into a compile-time one: f(Bool<flag>).
template <class F>
inline void with_flag(bool flag, F f) {
  flag ? f(Bool<true>{}) : f(Bool<false>{});
}

template <class Body>
BNPP_INLINE void for_each_vector(std::ptrdiff_t cols, Body body) {
  std::ptrdiff_t j = 0;
  for (; j + kLanes <= cols; j += kLanes) body(j, Full{});
  if (j < cols) body(j, Some{cols - j});
}

template <Layout layout, class Lanes>
inline Vec param(const double* p, std::ptrdiff_t j, Lanes lanes) {
  if constexpr (layout == Layout::rows) {
    return splat(*p);
  } else {
    return load(p + j, lanes);
  }
}

// element(i, j, lanes, p) for every vector of the tile, with p = params(j, lanes).
template <Layout layout, class Params, class Element>
BNPP_INLINE void walk(std::ptrdiff_t rows, std::ptrdiff_t cols, Params params, Element element) {
  if constexpr (layout == Layout::rows) {
    const auto p = params(0, Full{});
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      for_each_vector(cols, [&](std::ptrdiff_t j, auto lanes) { element(i, j, lanes, p); });
    }
  } else {
    for (std::ptrdiff_t first = 0; first < rows; first += kRowsAtOnce) {
      const std::ptrdiff_t last = rows - first < kRowsAtOnce ? rows : first + kRowsAtOnce;
      for_each_vector(cols, [&](std::ptrdiff_t j, auto lanes) {
        const auto p = params(j, lanes);
        for (std::ptrdiff_t i = first; i < last; ++i) element(i, j, lanes, p);
      });
    }
  }
}

// Two running sums a column, updated with the terms of kRowsAtOnce rows at a time, added in pairs:
// term(i, j, lanes, &first, &second) gives the terms of one vector.
template <class Term>
BNPP_INLINE void accumulate_columns(std::ptrdiff_t rows, std::ptrdiff_t cols, double* sum1,
                                    double* sum2, Term term) {
  for (std::ptrdiff_t j = 0; j < cols; ++j) sum1[j] = sum2[j] = 0;
  std::ptrdiff_t i = 0;
  for (; i + kRowsAtOnce <= rows; i += kRowsAtOnce) {
    for_each_vector(cols, [&](std::ptrdiff_t j, auto lanes) {
      Vec a[kRowsAtOnce], b[kRowsAtOnce];
      for (std::ptrdiff_t k = 0; k < kRowsAtOnce; ++k) term(i + k, j, lanes, a[k], b[k]);
      store(sum1 + j, load(sum1 + j, lanes) + ((a[0] + a[1]) + (a[2] + a[3])), lanes);
      store(sum2 + j, load(sum2 + j, lanes) + ((b[0] + b[1]) + (b[2] + b[3])), lanes);
    });
  }
  for (; i < rows; ++i) {
    for_each_vector(cols, [&](std::ptrdiff_t j, auto lanes) {
      Vec a, b;
      term(i, j, lanes, a, b);
      store(sum1 + j, load(sum1 + j, lanes) + a, lanes);
      store(sum2 + j, load(sum2 + j, lanes) + b, lanes);
    });
  }
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
