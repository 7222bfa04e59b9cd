// How the kernels that reduce add up: two sums at a time, as trees over a few rows, then row after
// row for every column.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// What two sums are taken of: u and u * v, where factors(i, j, lanes, &u, &v) gives both of a
// vector and `exact` tells that float64 holds u * v exactly.
template <bool exact, class Factors>
struct Products {
  Factors factors;
};
template <bool exact, class Factors>
BNPP_INLINE Products<exact, Factors> products(Factors factors) {
  return {factors};
}

// Of n rows from row i on, each sum a tree.
template <std::ptrdiff_t n, bool exact, class Factors, class Lanes>
BNPP_INLINE void add_terms(std::ptrdiff_t i, std::ptrdiff_t j, Lanes lanes, Vec& a, Vec& b,
                           const Products<exact, Factors>& of) {
  if constexpr (n <= 2) {
    Vec u, v;
    of.factors(i, j, lanes, u, v);
    a = u;
    b = u * v;
    if constexpr (n == 2) {
      of.factors(i + 1, j, lanes, u, v);
      a = a + u;
      b = exact ? plus_exact_product(u, v, b) : b + u * v;
    }
  } else {
    Vec a2, b2;
    add_terms<n / 2>(i, j, lanes, a, b, of);
    add_terms<n / 2>(i + n / 2, j, lanes, a2, b2, of);
    a = a + a2;
    b = b + b2;
  }
}
// The same of any terms: term(i, j, lanes, &first, &second).
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

// The same of rows that are `n` rows of memory each, of which this is number p.
template <bool exact, class Factors>
BNPP_INLINE auto terms_of_part(const Products<exact, Factors>& of, std::ptrdiff_t n,
                               std::ptrdiff_t p) {
  return products<exact>([&of, n, p](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes, Vec& u, Vec& v)
                             BNPP_INLINE_LAMBDA { of.factors(i * n + p, j, lanes, u, v); });
}

// Two sums a column of rows [first, first + rows), at least one: running sums of the terms of
// `at_once` rows at a time, added as a tree. With `gaps` each row is `n` rows of memory.
template <std::ptrdiff_t at_once, bool gaps = false, class Term>
BNPP_INLINE void accumulate_columns(std::ptrdiff_t first, std::ptrdiff_t rows, std::ptrdiff_t cols,
                                    double* sum1, double* sum2, const Term& term,
                                    std::ptrdiff_t n = 1) {
  const auto add_part = [&](std::ptrdiff_t i, auto count, std::ptrdiff_t begin,
                            std::ptrdiff_t width, const auto& part) BNPP_INLINE_LAMBDA {
    for_each_vector(width, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
      Vec a, b;
      add_terms<decltype(count)::value>(i, j, lanes, a, b, part);
      if (i > first) {
        a = load(sum1 + begin + j, lanes) + a;
        b = load(sum2 + begin + j, lanes) + b;
      }
      store(sum1 + begin + j, a, lanes);
      store(sum2 + begin + j, b, lanes);
    });
  };
  const auto add = [&](std::ptrdiff_t i, auto count) BNPP_INLINE_LAMBDA {
    if constexpr (gaps) {
      const std::ptrdiff_t width = cols / n;
      for (std::ptrdiff_t p = 0; p < n; ++p) {
        add_part(i, count, p * width, width, terms_of_part(term, n, p));
      }
    } else {
      add_part(i, count, 0, cols, term);
    }
  };
  const std::ptrdiff_t end = first + rows;
  std::ptrdiff_t i = first;
  for (; i + at_once <= end; i += at_once) add(i, Count<at_once>{});
  for (; i < end; ++i) add(i, Count<1>{});
}

// Additions to a plain sum; each adds one vector, or four that were added as a tree.
constexpr int kAddsAPart = 8;
inline void put_sums(const BlockSums& to, std::ptrdiff_t channel, double shift, PairSum s1,
                     PairSum s2) {
  to.shift[channel] = shift;
  to.s1[channel] = s1.hi;
  to.s1_low[channel] = s1.lo;
  to.s2[channel] = s2.hi;
  to.s2_low[channel] = s2.lo;
}

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

// The sums of the columns of one piece, as vectors over the columns.
struct ColumnSums {
  Columns shift, hi1, lo1, hi2, lo2;
};

template <class Lanes>
inline void join(double* hi, double* lo, const double* part, Lanes lanes) {
  Vec error;
  store(hi, two_sum(load(hi, lanes), load(part, lanes), error), lanes);
  store(lo, load(lo, lanes) + error, lanes);
}

// Two sums a column: plain ones over kAddsAPart times `at_once` rows, which then join the pairs.
template <std::ptrdiff_t at_once, bool gaps = false, class Term>
BNPP_INLINE void sum_columns(std::ptrdiff_t rows, std::ptrdiff_t cols, ColumnSums& sums,
                             const Term& term, std::ptrdiff_t row_parts = 1) {
  constexpr std::ptrdiff_t part = kAddsAPart * at_once;
  Columns part1, part2;
  for (std::ptrdiff_t j = 0; j < cols; ++j) sums.lo1[j] = sums.lo2[j] = 0;
  for (std::ptrdiff_t first = 0; first < rows; first += part) {
    const std::ptrdiff_t left = rows - first, n = left < part ? left : part;
    double *to1 = part1.at, *to2 = part2.at;
    if (first == 0) {
      to1 = sums.hi1.at;
      to2 = sums.hi2.at;
    }
    accumulate_columns<at_once, gaps>(first, n, cols, to1, to2, term, row_parts);
    if (first == 0) continue;
    for_each_vector(cols, [&](std::ptrdiff_t j, auto lanes) {
      join(sums.hi1 + j, sums.lo1 + j, part1 + j, lanes);
      join(sums.hi2 + j, sums.lo2 + j, part2 + j, lanes);
    });
  }
}

// The sum of a channel's `repeat` columns.
inline PairSum channel_sum(const double* hi, const double* lo, std::ptrdiff_t repeat) {
  if (repeat == 1) return {*hi, *lo};
  LaneSum total;
  for_each_vector(repeat, [&](std::ptrdiff_t k, auto lanes) {
    total.add(load(hi + k, lanes));
    total.lo = total.lo + load(lo + k, lanes);
  });
  return sum_lanes(total.hi, total.lo);
}

// Plain sums of float64 terms are far beyond what float32 gradients need; float64 ones take pairs.
template <class T>
inline constexpr bool kPairSums = sizeof(T) == sizeof(double);

// hi + lo; the lo of an Inf is NaN.
inline double rounded(PairSum s) { return s.lo - s.lo == 0 ? s.hi + s.lo : s.hi; }

}  // namespace
}  // namespace bnpp::BNPP_ISA
