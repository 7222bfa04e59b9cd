// How a kernel walks its tile: vectors of 16 columns, the last one partial, and parameters that are
// one number (layout rows) or one a channel of `repeat` columns (layout cols).
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Inlining everything into the kernel is what keeps its loops in registers.
#if defined(__GNUC__)
#define BNPP_INLINE_LAMBDA __attribute__((always_inline))
#define BNPP_INLINE BNPP_INLINE_LAMBDA inline
#else
#define BNPP_INLINE_LAMBDA
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

// f(Bool<true>) if the output is to be streamed and can be. Mask bits lie in whole bytes, which the
// partial vector before the first whole line would straddle: with a mask the output is stored.
template <class Tile, class F>
inline void with_streaming(const Tile& t, F f) {
  if constexpr (kCanStream) {
    with_flag(t.stream && t.mask == nullptr, f);
  } else {
    f(Bool<false>{});
  }
}

template <class Body>
BNPP_INLINE void for_each_vector(std::ptrdiff_t cols, Body body) {
  std::ptrdiff_t j = 0;
  for (; j + kLanes <= cols; j += kLanes) body(j, Full{});
  if (j < cols) body(j, Some{cols - j});
}

// The same after a partial vector of the first `head` columns.
template <class Body>
BNPP_INLINE void for_each_vector_after(std::ptrdiff_t head, std::ptrdiff_t cols, Body body) {
  if (head >= cols) head = 0;
  if (head > 0) body(0, Some{head});
  for_each_vector(cols - head,
                  [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA { body(head + j, lanes); });
}

// Columns whose parameters, or sums, are held at a time: what fits the first-level cache.
constexpr std::ptrdiff_t kPieceColumns = 1024;
// One number for each of them. The padding keeps arrays that lie one after the other from sharing
// the low twelve bits of their addresses, by which processors take a load for one of an earlier
// store.
struct Columns {
  double at[kPieceColumns + 5 * kLanes];
  double* operator+(std::ptrdiff_t j) { return at + j; }
  const double* operator+(std::ptrdiff_t j) const { return at + j; }
  double& operator[](std::ptrdiff_t j) { return at[j]; }
};

// Elements at the start of each run that are asked for while the run before is worked on:
// processors foresee a run's lines from those before, but not the jump to the next run.
constexpr std::ptrdiff_t kForeseen = 16384;

template <class T>
BNPP_INLINE void foresee(std::ptrdiff_t rows, const T* run, std::ptrdiff_t j,
                         std::ptrdiff_t stride) {
  if (rows > 1 && j < kForeseen) prefetch(run + stride + j);
}

// Columns [begin, begin + cols) of channels [channel, channel + channels).
struct Piece {
  std::ptrdiff_t begin, cols, channel, channels;
};

// The piece that begins with a channel: whole channels, at most kPieceColumns columns, whole bytes
// of mask bits; none at the end.
template <class Tile>
inline Piece piece_at(const Tile& t, std::ptrdiff_t channel) {
  const std::ptrdiff_t left = t.cols / t.repeat - channel;
  std::ptrdiff_t most = kPieceColumns / t.repeat;
  while (most * t.repeat % 8 != 0) --most;
  const std::ptrdiff_t n = left < most ? left : most;
  return {channel * t.repeat, n * t.repeat, channel, n};
}
template <class Tile>
inline Piece next_piece(const Tile& t, const Piece& piece) {
  return piece_at(t, piece.channel + piece.channels);
}

// One number a column from one a channel: the numbers themselves where a channel is one column.
inline const double* spread_channels(const double* values, const Piece& piece,
                                     std::ptrdiff_t repeat, double* columns) {
  if (repeat == 1) return values + piece.channel;
  for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
    const double value = values[piece.channel + c];
    for (std::ptrdiff_t k = 0; k < repeat; ++k) columns[c * repeat + k] = value;
  }
  return columns;
}

// How many elements lie before the first address that can be streamed to.
template <class T>
inline std::ptrdiff_t stream_head(const T* to) {
  const auto past =
      static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(to) % kStreamAlign);
  return past == 0 ? 0 : (kStreamAlign - past) / static_cast<std::ptrdiff_t>(sizeof(T));
}

// The output of a kernel: stored, or streamed where whole vectors are.
template <bool streamed, class T>
inline void put(T* to, Vec v, Full) {
  if constexpr (streamed) {
    stream(to, v);
  } else {
    store(to, v);
  }
}
template <bool streamed, class T>
inline void put(T* to, Vec v, Some some) {
  store(to, v, some);
}

// The parameters of a vector of columns.
template <int n>
struct Params {
  Vec p[n];
};

// element(i, j, lanes, params) for every vector of the tile. Before whole vectors, head(i, j)
// columns of row i from column j on are a partial one; in layout cols all rows have the same heads.
template <Layout layout, int n, class Tile, class Head, class Element>
BNPP_INLINE void walk(const Tile& t, const double* const (&values)[n], Head head, Element element) {
  if constexpr (layout == Layout::rows) {
    Params<n> params;
    for (int k = 0; k < n; ++k) params.p[k] = splat(*values[k]);
    for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
      for_each_vector_after(head(i, 0), t.cols,
                            [&](std::ptrdiff_t j, auto lanes)
                                BNPP_INLINE_LAMBDA { element(i, j, lanes, params); });
    }
  } else {
    for (Piece piece = piece_at(t, 0); piece.channels > 0; piece = next_piece(t, piece)) {
      Columns spread[n];
      const double* columns[n];
      for (int k = 0; k < n; ++k) {
        columns[k] = spread_channels(values[k], piece, t.repeat, spread[k].at);
      }
      for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
        const auto vector = [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
          Params<n> params;
          for (int k = 0; k < n; ++k) params.p[k] = load(columns[k] + j, lanes);
          element(i, piece.begin + j, lanes, params);
        };
        for_each_vector_after(head(0, piece.begin), piece.cols, vector);
      }
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
    for_each_vector(cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
      Vec a[kRowsAtOnce], b[kRowsAtOnce];
      for (std::ptrdiff_t k = 0; k < kRowsAtOnce; ++k) term(i + k, j, lanes, a[k], b[k]);
      store(sum1 + j, load(sum1 + j, lanes) + ((a[0] + a[1]) + (a[2] + a[3])), lanes);
      store(sum2 + j, load(sum2 + j, lanes) + ((b[0] + b[1]) + (b[2] + b[3])), lanes);
    });
  }
  for (; i < rows; ++i) {
    for_each_vector(cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
      Vec a, b;
      term(i, j, lanes, a, b);
      store(sum1 + j, load(sum1 + j, lanes) + a, lanes);
      store(sum2 + j, load(sum2 + j, lanes) + b, lanes);
    });
  }
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
