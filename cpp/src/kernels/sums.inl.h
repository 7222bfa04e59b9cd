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

}  // namespace
}  // namespace bnpp::BNPP_ISA
