// How the verbs that reduce add up: of each channel sum u and sum u * v over its elements, both in
// float64, plain over a few dozen terms, which then join a pair hi + lo. The order is the same on
// every instruction set, and does not depend on where a tile's rows lie.
//
// Runs: the 16 lanes of a run's vectors are summed apart, in two chains, over some vectors: of one
// run, or of several rows. Columns, and runs shorter than a vector: each column is summed by
// itself, two rows at a time, over as many rows.
//
// Sums S are a SumsOf<T, numbers of a channel> with their tensors, and have
//   row(i)                    where row i lies
//   one_run()                 whether rows follow upon each other in all tensors
//   go_on(n, first)           to every n-th row from the first given on
//   terms<exact>(row, j, lanes, k, u, v)   u and v of kPartLanes columns from j on, with channels'
//                             numbers k; `exact` as below
//   prefetch_lines(i, j)      prefetches the lines of a vector
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Parts of a vector that are summed together, and those of a strip of columns: as many as there are
// registers for.
constexpr int kPartsAtOnce = 2, kStripParts = kPartLanes < 8 ? 4 : 8;

// The sums of n channels, one array a field.
struct PairSums {
  double *s1, *s1_low, *s2, *s2_low;
  PairSums from(std::ptrdiff_t c) const { return {s1 + c, s1_low + c, s2 + c, s2_low + c}; }
};

// What all sums have: their tile, and the numbers of its channels, like the shift or the centre.
template <class Element, int n>
struct SumsOf {
  using T = Element;
  static constexpr int kNumbers = n;
  static constexpr bool kMayBeExact = false;  // whether float64 may hold every u * v exactly
  static constexpr bool kRare = false;        // where speed does not count: less code

  std::ptrdiff_t rows, cols, repeat;
  const double* numbers[n > 0 ? n : 1];
  std::ptrdiff_t stride;  // of the tensor that decides how far ahead rows are prefetched
  bool ahead;
  bool in_columns;            // else in runs
  std::ptrdiff_t plain = 32;  // vectors of a run, or rows of columns, whose sums are plain; even
  bool of_rows = false;       // every row is a channel of its own

  std::ptrdiff_t channels() const { return of_rows ? rows : repeat == 1 ? cols : cols / repeat; }
  // Whether row i has no part in the sums.
  bool is_void(std::ptrdiff_t) const { return false; }
};

template <class S>
S every(S s, std::ptrdiff_t n, std::ptrdiff_t first) {
  s.go_on(n, first);
  return s;
}

// Sums of the values of one tensor.
template <class Element, int n>
struct ValueSumsOf : SumsOf<Element, n> {
  static constexpr bool kMayBeExact = sizeof(Element) < sizeof(double);
  const Element* values;

  ValueSumsOf(const SumsOf<Element, n>& sums, const void* first)
      : SumsOf<Element, n>(sums), values(static_cast<const Element*>(first)) {}
  const Element* row(std::ptrdiff_t i) const { return values + i * this->stride; }
  BNPP_INLINE void prefetch_lines(std::ptrdiff_t i, std::ptrdiff_t j) const {
    prefetch(row(i) + j);
  }
  bool one_run() const { return this->stride == this->cols; }
  void go_on(std::ptrdiff_t step, std::ptrdiff_t first) {
    values = row(first);
    this->stride *= step;
  }
};

// Of n channels of a tile from c on. Whether it is in runs or columns is a matter of the whole
// tile, so that no bit depends on what is summed at a time.
template <class T, int numbers, class Tile>
SumsOf<T, numbers> sums_of(const Tile& t, bool ahead, std::ptrdiff_t stride,
                           const double* const* values, std::ptrdiff_t c, std::ptrdiff_t n) {
  SumsOf<T, numbers> s;
  s.rows = t.rows;
  s.cols = n * t.repeat;
  s.repeat = t.repeat;
  for (int k = 0; k < numbers; ++k) s.numbers[k] = values[k] + c;
  s.stride = stride;
  s.ahead = ahead || (n == 1 && t.rows > 1);
  s.in_columns = are_columns(t.repeat, t.cols);
  return s;
}
// A tile of one channel as one of several.
template <Layout layout, class Tile>
Tile as_columns(Tile t) {
  t.repeat = repeat_of<layout>(t);
  return t;
}

template <bool exact>
BNPP_INLINE Part plus_product(Part u, Part v, Part sum) {
#if defined(__FMA__)
  if constexpr (exact) return fused(u, v, sum);
#endif
  return u * v + sum;
}

// Adds v to a pair, exactly (Knuth). The error of an Inf is NaN.
BNPP_INLINE void join(Part& hi, Part& lo, Part v) {
  const Part sum = hi + v, from_v = sum - hi;
  lo = lo + ((hi - (sum - from_v)) + (v - from_v));
  hi = sum;
}

// The pairs of a channel's lanes, of which two have become one.
constexpr int kPairParts = kParts / 2;
struct LaneSums {
  Part s1[kPairParts], s1_low[kPairParts], s2[kPairParts], s2_low[kPairParts];
};

inline PairSum sum_eight(const Part (&hi)[kPairParts], const Part (&lo)[kPairParts]) {
  Vec a, b;
  for (int h = 0; h < kParts; ++h) {
    a.p[h] = hi[h % kPairParts];
    b.p[h] = lo[h % kPairParts];
  }
  fold<4>(a, b);
  fold<2>(a, b);
  fold<1>(a, b);
  return {first_lane(a), first_lane(b)};
}

template <int n>
struct Numbers {
  Part p[n > 0 ? n : 1];
};

// Two plain sums of some parts of a vector.
struct Chain {
  Part s1[kPartsAtOnce], s2[kPartsAtOnce];
};
inline Chain operator+(Chain a, const Chain& b) {
  BNPP_UNROLL
  for (int h = 0; h < kPartsAtOnce; ++h) {
    a.s1[h] = a.s1[h] + b.s1[h];
    a.s2[h] = a.s2[h] + b.s2[h];
  }
  return a;
}

// Adds the terms of a vector's parts from part p on.
template <bool exact, class S, class Row, class Lanes>
BNPP_INLINE void add_terms(const S& s, const Row& row, std::ptrdiff_t j, int p, Lanes lanes,
                           const Numbers<S::kNumbers>& k, Chain& to) {
  BNPP_UNROLL
  for (int h = 0; h < kPartsAtOnce; ++h) {
    const std::ptrdiff_t at = (p + h) * kPartLanes;
    Part u, v;
    if constexpr (Lanes::whole) {
      s.template terms<exact>(row, j + at, lanes, k, u, v);
    } else {
      if (lanes.n <= at) break;
      const Some there{lanes.n - at};
      s.template terms<exact>(row, j + at, there, k, u, v);
      u = first_of(u, there);  // not what a shift makes of lanes that are not there
      v = first_of(v, there);
    }
    to.s1[h] = to.s1[h] + u;
    to.s2[h] = plus_product<exact>(u, v, to.s2[h]);
  }
}

// Joins the sums of columns [column, column + width) of channel c in rows [first, end).
template <bool exact, class S>
BNPP_INLINE void sum_run(const S& s, std::ptrdiff_t c, std::ptrdiff_t column, std::ptrdiff_t width,
                         std::ptrdiff_t first, std::ptrdiff_t end, std::ptrdiff_t ahead,
                         LaneSums& to) {
  Numbers<S::kNumbers> k;
  for (int n = 0; n < S::kNumbers; ++n) k.p[n] = spread(s.numbers[n][c]);
  Vec s1, s2;
  for (int p = 0; p < kParts; p += kPartsAtOnce) {
    Chain even, odd;
    BNPP_UNROLL
    for (int h = 0; h < kPartsAtOnce; ++h) even.s1[h] = even.s2[h] = spread(0);
    odd = even;
    for (std::ptrdiff_t i = first; i < end; ++i) {
      if (s.is_void(i)) continue;
      const auto row = s.row(i);
      const auto add = [&](Chain& chain, std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
        if (p == 0 && ahead > 0) s.prefetch_lines(i + ahead, j);
        add_terms<exact>(s, row, j, p, lanes, k, chain);
      };
      std::ptrdiff_t j = column, left = width;
      for (; left >= 2 * kLanes; left -= 2 * kLanes, j += 2 * kLanes) {
        add(even, j, Full{});
        add(odd, j + kLanes, Full{});
      }
      if (left >= kLanes) {
        add(even, j, Full{});
        left -= kLanes;
        j += kLanes;
      }
      if (left > 0) add(odd, j, Some{left});
    }
    const Chain sum = even + odd;
    BNPP_UNROLL
    for (int h = 0; h < kPartsAtOnce; ++h) {
      s1.p[p + h] = sum.s1[h];
      s2.p[p + h] = sum.s2[h];
    }
  }
  for (int h = 0; h < kPairParts; ++h) {
    join(to.s1[h], to.s1_low[h], s1.p[h] + s1.p[h + kPairParts]);
    join(to.s2[h], to.s2_low[h], s2.p[h] + s2.p[h + kPairParts]);
  }
}

// Of every channel of a tile of runs, several rows at a time, so that short runs are read about as
// they lie.
template <bool exact, class S>
BNPP_OUT_OF_LINE void sum_runs(const S& given, const PairSums& to) {
  const S s = given;  // a copy no store can alias
  const std::ptrdiff_t most = s.plain * kLanes;
  const std::ptrdiff_t channels = s.channels(), vectors = (s.repeat + kLanes - 1) / kLanes;
  const std::ptrdiff_t together = vectors < s.plain ? s.plain / vectors : 1;
  const std::ptrdiff_t ahead = s.ahead ? together : 0, rows = s.of_rows ? 1 : s.rows;
  LaneSums sums[kTileRuns];
  for (std::ptrdiff_t c = 0; c < channels; ++c) {
    for (int h = 0; h < kPairParts; ++h) {
      sums[c].s1[h] = sums[c].s1_low[h] = sums[c].s2[h] = sums[c].s2_low[h] = spread(0);
    }
  }
  for (std::ptrdiff_t i = 0; i < rows; i += together) {
    for (std::ptrdiff_t c = 0; c < channels; ++c) {
      const std::ptrdiff_t first = s.of_rows ? c : i, column = s.of_rows ? 0 : c * s.repeat;
      std::ptrdiff_t end = first + (s.of_rows ? 1 : together);
      if (end > s.rows) end = s.rows;
      for (std::ptrdiff_t j = 0; j < s.repeat; j += most) {
        const std::ptrdiff_t width = j + most < s.repeat ? most : s.repeat - j;
        sum_run<exact>(s, c, column + j, width, first, end, ahead, sums[c]);
      }
    }
  }
  for (std::ptrdiff_t c = 0; c < channels; ++c) {
    const PairSum s1 = sum_eight(sums[c].s1, sums[c].s1_low);
    const PairSum s2 = sum_eight(sums[c].s2, sums[c].s2_low);
    to.s1[c] = s1.hi;
    to.s1_low[c] = s1.lo;
    to.s2[c] = s2.hi;
    to.s2_low[c] = s2.lo;
  }
}

template <class Lanes>
BNPP_INLINE void join(double* hi, double* lo, Part v, bool is_first, Lanes lanes) {
  Part sum = v, error = spread(0);
  if (!is_first) {
    sum = load_part(hi, lanes);
    error = load_part(lo, lanes);
    join(sum, error, v);
  }
  store_part(hi, sum, lanes);
  store_part(lo, error, lanes);
}

// Rows of columns that are summed together where they come from memory; even.
constexpr std::ptrdiff_t kRowsFromMemory = 32;

// Of every column, as if each were a channel.
template <bool exact, class S>
BNPP_OUT_OF_LINE void sum_columns(const S& given, const PairSums& to) {
  const S s = given;
  // Lines of rows whole pages apart share their place in the first-level cache.
  const bool alike = s.stride * static_cast<std::ptrdiff_t>(sizeof(typename S::T)) % kPage == 0;
  const std::ptrdiff_t together = !s.ahead ? s.plain : alike ? 4 : kRowsFromMemory;
  const std::ptrdiff_t ahead = !s.ahead ? 0 : alike ? 4 : rows_ahead<typename S::T>(s.stride, 8);
  Columns plain1, plain2;  // sums that have not joined yet
  // Rows [begin, end) of those from `first` on whose sums are plain; the last ones join.
  const auto strip = [&](auto count, std::ptrdiff_t first, std::ptrdiff_t begin, std::ptrdiff_t end,
                         bool last, std::ptrdiff_t column, auto lanes) BNPP_INLINE_LAMBDA {
    constexpr int parts = static_cast<int>(decltype(count)::value);
    Numbers<S::kNumbers> k[parts];
    Part s1[parts], s2[parts];
    BNPP_UNROLL
    for (int p = 0; p < parts; ++p) {
      for (int n = 0; n < S::kNumbers; ++n) {
        k[p].p[n] = load_part(s.numbers[n] + column + p * kPartLanes, lanes);
      }
      s1[p] = s2[p] = spread(0);
      if (begin == first) continue;
      s1[p] = load_part(plain1 + column + p * kPartLanes, lanes);
      s2[p] = load_part(plain2 + column + p * kPartLanes, lanes);
    }
    std::ptrdiff_t i = begin;
    for (; i + 2 <= end; i += 2) {
      const auto row = s.row(i), next = s.row(i + 1);
      BNPP_UNROLL
      for (int p = 0; p < parts; ++p) {
        const std::ptrdiff_t j = column + p * kPartLanes;
        if (ahead > 0 && p * kPartLanes % kLanes == 0) {
          s.prefetch_lines(i + ahead, j);
          s.prefetch_lines(i + ahead + 1, j);
        }
        Part u, v, u2, v2;
        s.template terms<exact>(row, j, lanes, k[p], u, v);
        s.template terms<exact>(next, j, lanes, k[p], u2, v2);
        s1[p] = s1[p] + (u + u2);
        s2[p] = s2[p] + plus_product<exact>(u2, v2, u * v);
      }
    }
    if (i < end) {
      const auto row = s.row(i);
      BNPP_UNROLL
      for (int p = 0; p < parts; ++p) {
        Part u, v;
        s.template terms<exact>(row, column + p * kPartLanes, lanes, k[p], u, v);
        s1[p] = s1[p] + u;
        s2[p] = s2[p] + u * v;
      }
    }
    BNPP_UNROLL
    for (int p = 0; p < parts; ++p) {
      const std::ptrdiff_t j = column + p * kPartLanes;
      if (!last) {
        store_part(plain1 + j, s1[p], lanes);
        store_part(plain2 + j, s2[p], lanes);
        continue;
      }
      join(to.s1 + j, to.s1_low + j, s1[p], first == 0, lanes);
      join(to.s2 + j, to.s2_low + j, s2[p], first == 0, lanes);
    }
  };
  constexpr std::ptrdiff_t width = kStripParts * kPartLanes;
  for (std::ptrdiff_t begin = 0; begin < s.rows; begin += together) {
    const std::ptrdiff_t first = begin - begin % s.plain;
    const std::ptrdiff_t end = begin + together < s.rows ? begin + together : s.rows;
    const bool last = end == s.rows || end % s.plain == 0;
    const auto strips = [&](auto count, std::ptrdiff_t j, auto lanes)
                            BNPP_INLINE_LAMBDA { strip(count, first, begin, end, last, j, lanes); };
    std::ptrdiff_t j = 0;
    for (; !S::kRare && j + width <= s.cols; j += width)
      strips(Count<S::kRare ? 1 : kStripParts>{}, j, Full{});
    for (; j + kPartLanes <= s.cols; j += kPartLanes) strips(Count<1>{}, j, Full{});
    if (j < s.cols) strips(Count<1>{}, j, Some{s.cols - j});
  }
}

// Pairs of columns.
struct ColumnPairs {
  Columns s1, s1_low, s2, s2_low;
  PairSums all() { return {s1.at, s1_low.at, s2.at, s2_low.at}; }
};

template <class S>
void sum_columns(const S& s, const PairSums& to) {
  if constexpr (S::kMayBeExact) {
    if (s.exact(s.cols)) return sum_columns<true>(s, to);
  }
  sum_columns<false>(s, to);
}

// Joined rows of a tile of narrow ones, `n` rows of memory each.
template <class S>
void sum_joined(const S& s, std::ptrdiff_t first, std::ptrdiff_t rows, std::ptrdiff_t n,
                const PairSums& to) {
  if (!s.one_run()) {
    for (std::ptrdiff_t r = 0; r < n; ++r) {
      S part = every(s, n, first + r);
      part.rows = rows;
      sum_columns(part, to.from(r * s.cols));
    }
    return;
  }
  JoinedColumns numbers[S::kNumbers > 0 ? S::kNumbers : 1];
  S part = every(s, n, first);
  part.rows = rows;
  part.cols = n * s.cols;
  for (int k = 0; k < S::kNumbers; ++k) {
    repeat_columns(s.numbers[k], s.cols, n, numbers[k].at);
    part.numbers[k] = numbers[k].at;
  }
  sum_columns(part, to);
}

template <class S>
void sum_narrow(const S& s, std::ptrdiff_t joined, const PairSums& to) {
  ColumnPairs pairs;
  const PairSums all = pairs.all();
  sum_joined(s, 0, s.rows / joined, joined, all);
  if (const std::ptrdiff_t left = s.rows % joined; left > 0) {
    ColumnPairs rest;
    sum_joined(s, s.rows - left, 1, left, rest.all());
    add_pairs(all.s1, all.s1_low, rest.s1.at, rest.s1_low.at, left * s.cols);
    add_pairs(all.s2, all.s2_low, rest.s2.at, rest.s2_low.at, left * s.cols);
  }
  fold_pairs(all.s1, all.s1_low, s.cols, joined);
  fold_pairs(all.s2, all.s2_low, s.cols, joined);
  const double* const from[] = {all.s1, all.s1_low, all.s2, all.s2_low};
  double* const fields[] = {to.s1, to.s1_low, to.s2, to.s2_low};
  for (int field = 0; field < 4; ++field) {
    for (std::ptrdiff_t c = 0; c < s.cols; ++c) fields[field][c] = from[field][c];
  }
}

// Of runs shorter than a vector.
template <class S>
void sum_short_runs(const S& s, const PairSums& to) {
  ColumnPairs pairs;
  Columns numbers[S::kNumbers > 0 ? S::kNumbers : 1];
  const std::ptrdiff_t channels = s.channels();
  S columns = s;
  columns.repeat = 1;
  for (int k = 0; k < S::kNumbers; ++k) {
    columns.numbers[k] = spread_channels(s.numbers[k], channels, s.repeat, numbers[k].at);
  }
  sum_columns(columns, pairs.all());
  const auto fold = [&](const Columns& hi, const Columns& lo, std::ptrdiff_t first, double& sum,
                        double& low) {
    sum = hi.at[first];
    low = lo.at[first];
    for (std::ptrdiff_t j = first + 1; j < first + s.repeat; ++j) {
      const double next = sum + hi.at[j], from_next = next - sum;
      low += lo.at[j] + ((sum - (next - from_next)) + (hi.at[j] - from_next));
      sum = next;
    }
  };
  for (std::ptrdiff_t c = 0; c < channels; ++c) {
    fold(pairs.s1, pairs.s1_low, c * s.repeat, to.s1[c], to.s1_low[c]);
    fold(pairs.s2, pairs.s2_low, c * s.repeat, to.s2[c], to.s2_low[c]);
  }
}

// The sums of a tile. Where its rows are `narrow` several are summed as one.
template <class S>
void sum_tile(const S& s, bool narrow, const PairSums& to) {
  if (s.in_columns && s.repeat > 1) return sum_short_runs(s, to);
  if (s.in_columns) {
    const std::ptrdiff_t joined = narrow ? rows_joined(s.rows, s.cols) : 1;
    return joined > 1 ? sum_narrow(s, joined, to) : sum_columns(s, to);
  }
  if constexpr (S::kMayBeExact) {
    if (s.exact(s.channels())) return sum_runs<true>(s, to);
  }
  sum_runs<false>(s, to);
}

// hi + lo; the lo of an Inf is NaN.
inline double rounded(PairSum s) { return s.lo - s.lo == 0 ? s.hi + s.lo : s.hi; }

// The sums of rows, each a channel of its own.
template <class S>
void sum_rows(S s, const PairSums& to) {
  s.of_rows = true;
  s.ahead = false;
  // Those of narrow values in float64 have digits to spare over a piece of a row.
  if (sizeof(typename S::T) < sizeof(double)) s.plain = 512;
  s.in_columns = false;
  s.repeat = s.cols;
  for (std::ptrdiff_t first = 0; first < s.rows; first += kTileRuns) {
    S part = every(s, 1, first);
    part.rows = first + kTileRuns < s.rows ? kTileRuns : s.rows - first;
    for (int k = 0; k < S::kNumbers; ++k) part.numbers[k] += first;
    sum_tile(part, false, to.from(first));
  }
}

// The sums of a tile's channels, each a single number.
template <class S>
void sum_tile(const S& s, bool narrow, double* s1, double* s2) {
  ColumnPairs pairs;
  const PairSums all = pairs.all();
  sum_tile(s, narrow, {s1, all.s1_low, s2, all.s2_low});
  for (std::ptrdiff_t c = 0; c < s.channels(); ++c) {
    s1[c] = rounded({s1[c], all.s1_low[c]});
    s2[c] = rounded({s2[c], all.s2_low[c]});
  }
}

// Mask bits from column j on, of which n are there.
BNPP_INLINE unsigned bits_from(const std::uint8_t* mask, std::ptrdiff_t j, std::ptrdiff_t n) {
  const std::ptrdiff_t last = j + n - 1;
  return static_cast<unsigned>(mask[j / 8] | mask[last / 8] << 8) >> j % 8;
}
BNPP_INLINE unsigned bits_from(const std::uint8_t* mask, std::ptrdiff_t j, Full) {
  return bits_from(mask, j, kPartLanes);
}
BNPP_INLINE unsigned bits_from(const std::uint8_t* mask, std::ptrdiff_t j, Some some) {
  return bits_from(mask, j, some.n < kPartLanes ? some.n : kPartLanes);
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
