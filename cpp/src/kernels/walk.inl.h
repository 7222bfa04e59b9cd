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

// Columns whose parameters, or sums, are held at a time at most: what fits the first-level cache.
constexpr std::ptrdiff_t kPieceColumns = 1024;
// The same where several rows are summed at once, which shall stay there, too.
constexpr std::ptrdiff_t kSharedColumns = 256;
// Bytes of the parameters that a map holds at a time.
constexpr std::ptrdiff_t kParameterBytes = 16384;
// Rows that share one load of the parameters in layout cols, where the registers suffice: two of
// those that are longer than this, which are streams of their own.
constexpr std::ptrdiff_t kWideColumns = 256;
template <class V>
constexpr std::ptrdiff_t kRowsAtOnceOf = Arithmetic<V>::parts <= 2 ? 4 : 1;
constexpr std::ptrdiff_t kRowsAtOnce = kRowsAtOnceOf<Vec>;
// Rows whose terms are added before they join the sums of columns, over so many tensors. Rows of a
// power of two share their place in the first-level cache, which holds about twelve such lines:
// eight, and the prefetched ones later.
template <int tensors>
inline constexpr std::ptrdiff_t kRowsSummed = 8 / tensors;

template <bool B>
struct Bool {
  static constexpr bool value = B;
};

template <std::ptrdiff_t N>
struct Count {
  static constexpr std::ptrdiff_t value = N;
};

// Turns a run-time flag into a compile-time one: f(Bool<flag>).
template <class F>
inline void with_flag(bool flag, F f) {
  flag ? f(Bool<true>{}) : f(Bool<false>{});
}

// Rows of columns are asked for as many rows ahead as make about so many bytes: what memory
// delivers while it is being waited for, and beyond the page's end, at which processors stop
// foreseeing.
constexpr std::ptrdiff_t kAheadBytes = 8192;
template <class T>
BNPP_INLINE std::ptrdiff_t rows_ahead(std::ptrdiff_t stride, std::ptrdiff_t at_once) {
  const std::ptrdiff_t rows = kAheadBytes / (stride * static_cast<std::ptrdiff_t>(sizeof(T)) + 1);
  return rows > at_once ? rows : at_once;
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

// One number for each of them. The padding keeps arrays that lie one after the other from sharing
// the low twelve bits of their addresses, by which processors take a load for one of an earlier
// store.
template <class Number>
struct alignas(64) ColumnsOf {
  Number at[kPieceColumns + 5 * kLanes];
  Number* operator+(std::ptrdiff_t j) { return at + j; }
  const Number* operator+(std::ptrdiff_t j) const { return at + j; }
  Number& operator[](std::ptrdiff_t j) { return at[j]; }
};
using Columns = ColumnsOf<double>;

// Elements at the start of each run that are asked for while the run before is worked on:
// processors foresee a run's lines from those before, but not the jump to the next run.
constexpr std::ptrdiff_t kForeseen = 16384;

template <class T>
BNPP_INLINE void foresee(std::ptrdiff_t rows, const T* run, std::ptrdiff_t j,
                         std::ptrdiff_t stride) {
  if (rows > 1 && j < kForeseen) prefetch(run + stride + j);
}

inline bool all_zero(const double* values, std::ptrdiff_t n) {
  Vec size = splat(0);
  for_each_vector(n, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec v = load(values + j, lanes);
    size = size + v * v;
  });
  return sum(size) == 0;
}

// Columns [begin, begin + cols) of channels [channel, channel + channels).
struct Piece {
  std::ptrdiff_t begin, cols, channel, channels;
};

// The piece that begins with a channel: whole channels, whole bytes of mask bits, about `wanted`
// columns and at most kPieceColumns; none at the end.
template <class Tile>
inline Piece piece_at(const Tile& t, std::ptrdiff_t channel, std::ptrdiff_t wanted) {
  std::ptrdiff_t whole = 1;
  while (whole * t.repeat % 8 != 0) ++whole;
  const std::ptrdiff_t left = t.cols / t.repeat - channel, fit = wanted / t.repeat;
  const std::ptrdiff_t most = fit < whole ? whole : fit - fit % whole;
  const std::ptrdiff_t n = left < most ? left : most;
  return {channel * t.repeat, n * t.repeat, channel, n};
}

// f(piece) for all pieces of a tile.
template <class Tile, class F>
BNPP_INLINE void for_each_piece(const Tile& t, std::ptrdiff_t wanted, F f) {
  for (Piece piece = piece_at(t, 0, wanted); piece.channels > 0;
       piece = piece_at(t, piece.channel + piece.channels, wanted)) {
    f(piece);
  }
}

// One number a column from one a channel: the numbers themselves where a channel is one column.
template <class Number>
inline const Number* spread_channels(const double* values, const Piece& piece,
                                     std::ptrdiff_t repeat, Number* columns) {
  values += piece.channel;
  if (repeat == 1) {
    if constexpr (sizeof(Number) == sizeof(double)) return values;
    for_each_vector(piece.cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
      store(columns + j, load(values + j, lanes), lanes);
    });
    return columns;
  }
  for (std::ptrdiff_t c = 0; c < piece.channels; ++c) {
    const auto value = static_cast<Number>(values[c]);
    for (std::ptrdiff_t k = 0; k < repeat; ++k) columns[c * repeat + k] = value;
  }
  return columns;
}

// How an output is stored: through the caches, or past them in lines or in pieces of 16 bytes.
// Pieces are for outputs whose mask bits lie in whole bytes: a vector that begins on a line need
// not begin on a byte of them.
enum class Store { cached, lines, pieces };

// How many elements lie before the first address that can be streamed to: fewer than a vector, so
// that of halves, where a vector is half a line, half lines count.
template <Store how, class T>
inline std::ptrdiff_t stream_head(const T* to) {
  constexpr auto item = static_cast<std::ptrdiff_t>(sizeof(T));
  constexpr std::ptrdiff_t wanted = how == Store::lines ? kStreamAlign : 16;
  constexpr std::ptrdiff_t align = kLanes * item < wanted ? kLanes * item : wanted;
  const auto past = static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(to) % align);
  return past == 0 ? 0 : (align - past) / item;
}

// The output of a kernel: stored, or streamed where whole vectors are.
template <Store how, class T, class V>
inline void put(T* to, V v, Full) {
  if constexpr (how == Store::lines) {
    stream(to, v);
  } else if constexpr (how == Store::pieces) {
    stream_pieces(to, v);
  } else {
    store(to, v);
  }
}
template <Store how, class T, class V>
inline void put(T* to, V v, Some some) {
  store(to, v, some);
}

// The parameters of a vector of columns.
template <int n, class V = Vec>
struct Params {
  V p[n];
};

// Where the parameters of columns lie, one number a column. Apart from the numbers, as pointers
// that no store can alias stay in registers.
template <int n, class V>
struct ColumnsAt {
  using Number = typename Arithmetic<V>::Number;
  const Number* columns[n];

  template <class Lanes>
  BNPP_INLINE Params<n, V> at(std::ptrdiff_t j, Lanes lanes) const {
    Params<n, V> params;
    for (int k = 0; k < n; ++k) params.p[k] = Arithmetic<V>::load_from(columns[k] + j, lanes);
    return params;
  }
};

// The parameters of a piece's columns, from one number a channel.
template <int n, class V>
struct ColumnParams {
  using Number = typename Arithmetic<V>::Number;
  // Columns of a piece: what kParameterBytes hold.
  static constexpr auto kFit = kParameterBytes / static_cast<std::ptrdiff_t>(n * sizeof(Number));
  static constexpr std::ptrdiff_t kMost = kFit < kPieceColumns ? kFit : kPieceColumns;

  ColumnsOf<Number> spread[n];

  BNPP_INLINE ColumnsAt<n, V> of(const double* const (&values)[n], const Piece& piece,
                                 std::ptrdiff_t repeat) {
    ColumnsAt<n, V> where;
    for (int k = 0; k < n; ++k) {
      where.columns[k] = spread_channels(values[k], piece, repeat, spread[k].at);
    }
    return where;
  }
};

// Whether runs of columns are walked by themselves: bits of a mask lie in whole bytes only where
// runs begin with one.
template <class Tile>
inline bool in_runs(const Tile& t) {
  return t.repeat >= kRunColumns && (t.mask == nullptr || t.repeat % 8 == 0);
}

template <class V, int n, class Tile, class Element, class Foresee>
BNPP_INLINE void walk_runs(const Tile& t, const double* const (&values)[n], Element element,
                           Foresee foresee) {
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    for (std::ptrdiff_t begin = 0, c = 0; begin < t.cols; begin += t.repeat, ++c) {
      Params<n, V> params;
      for (int k = 0; k < n; ++k) params.p[k] = Arithmetic<V>::splat_number(values[k][c]);
      for (std::ptrdiff_t j = 0; t.ahead && j < t.repeat; j += kLanes) foresee(i + 1, begin + j);
      for_each_vector(t.repeat, [&](std::ptrdiff_t j, auto lanes)
                                    BNPP_INLINE_LAMBDA { element(i, begin + j, lanes, params); });
    }
  }
}

// element(i, j, lanes, params) for every vector of the tile, stored; foresee(i, j) asks for the
// lines that a vector reads and writes.
template <Layout layout, class V = Vec, int n, class Tile, class Element, class Foresee>
BNPP_INLINE void walk(const Tile& t, const double* const (&values)[n], Element element,
                      Foresee foresee) {
  if constexpr (layout == Layout::rows) {
    Params<n, V> params;
    for (int k = 0; k < n; ++k) params.p[k] = Arithmetic<V>::splat_number(*values[k]);
    for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
      for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
        if (t.rows > 1 && j < kForeseen) foresee(i + 1, j);
        element(i, j, lanes, params);
      });
    }
  } else if (in_runs(t)) {
    walk_runs<V>(t, values, element, foresee);
  } else {
    using Parameters = ColumnParams<n, V>;
    for_each_piece(t, Parameters::kMost, [&](const Piece& piece) BNPP_INLINE_LAMBDA {
      Parameters params_of;
      const ColumnsAt<n, V> columns = params_of.of(values, piece, t.repeat);
      const auto rows = [&](std::ptrdiff_t i, auto count) BNPP_INLINE_LAMBDA {
        for_each_vector(piece.cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
          const Params<n, V> params = columns.at(j, lanes);
          for (std::ptrdiff_t r = 0; r < count.value; ++r) {
            element(i + r, piece.begin + j, lanes, params);
          }
        });
      };
      const auto foresee_row = [&](std::ptrdiff_t i) BNPP_INLINE_LAMBDA {
        for (std::ptrdiff_t j = 0; j < piece.cols; j += kLanes) foresee(i, piece.begin + j);
      };
      std::ptrdiff_t i = 0;
      const auto all_rows = [&](auto count) BNPP_INLINE_LAMBDA {
        for (; i + count.value <= t.rows; i += count.value) {
          if (t.ahead) {
            for (std::ptrdiff_t r = 0; r < count.value; ++r) foresee_row(i + count.value + r);
          }
          rows(i, count);
        }
      };
      if constexpr (kRowsAtOnceOf<V> > 1) {
        if (piece.cols > kWideColumns) {
          all_rows(Count<2>{});
        } else {
          all_rows(Count<kRowsAtOnceOf<V>>{});
        }
      }
      all_rows(Count<1>{});
    });
  }
}

// Columns from which on a row is worth streaming with a partial line at either end.
constexpr std::ptrdiff_t kStreamedColumns = 512;

// Whether the rows of layout cols follow upon each other in all tensors, whose strides are given.
template <class Tile, class... Strides>
inline bool is_one_run(const Tile& t, Strides... strides) {
  return t.repeat == 1 && (t.mask == nullptr || t.mask_stride * 8 == t.cols) &&
         ((strides == t.cols) && ...);
}

// The same for an output that is streamed: whole vectors begin on lines, a partial one comes before
// the first. In layout cols rows that are one run have vectors that cross from row to row, so that
// there is one partial line at the start and one at the end; i is 0 then and j counts on.
template <Layout layout, Store how, class V = Vec, int n, class T, class Tile, class Element,
          class Foresee>
BNPP_INLINE void walk_streamed(const Tile& t, const T* out, std::ptrdiff_t out_stride,
                               const double* const (&values)[n], Element element, Foresee foresee,
                               bool one_run) {
  using Number = typename Arithmetic<V>::Number;
  if constexpr (layout == Layout::rows) {
    Params<n, V> params;
    for (int k = 0; k < n; ++k) params.p[k] = Arithmetic<V>::splat_number(*values[k]);
    for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
      for_each_vector_after(stream_head<how>(out + i * out_stride), t.cols,
                            [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
                              if (t.rows > 1 && j < kForeseen) foresee(i + 1, j);
                              element(i, j, lanes, params);
                            });
    }
  } else if (!one_run) {
    ColumnParams<n, V> params_of;
    const ColumnsAt<n, V> columns =
        params_of.of(values, {0, t.cols, 0, t.cols / t.repeat}, t.repeat);
    for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
      for_each_vector_after(stream_head<how>(out + i * out_stride), t.cols,
                            [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
                              if (t.rows > 1) foresee(i + 1, j);
                              element(i, j, lanes, columns.at(j, lanes));
                            });
    }
  } else {
    const std::ptrdiff_t size = t.rows * t.cols;
    const std::ptrdiff_t past = stream_head<how>(out), head = size < past ? size : past;
    // The parameters from the first whole vector on, so that they are aligned, too; after the last
    // column come the first ones again.
    ColumnsOf<Number> columns[n];
    const std::ptrdiff_t first = head % t.cols;
    for (int k = 0; k < n; ++k) {
      const auto value = [&](std::ptrdiff_t j) { return static_cast<Number>(values[k][j]); };
      for (std::ptrdiff_t j = first; j < t.cols; ++j) columns[k][j - first] = value(j);
      for (std::ptrdiff_t j = 0; j < first; ++j) columns[k][t.cols - first + j] = value(j);
      for (std::ptrdiff_t j = 0; j < kLanes; ++j) columns[k][t.cols + j] = columns[k][j];
    }
    std::ptrdiff_t column = 0;
    const auto vector = [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
      Params<n, V> params;
      for (int k = 0; k < n; ++k) {
        params.p[k] = Arithmetic<V>::load_from(columns[k] + column, lanes);
      }
      element(0, j, lanes, params);
    };
    if (head > 0) {
      column = t.cols - first;
      if (column == t.cols) column = 0;
      vector(0, Some{head});
      column = 0;
    }
    constexpr auto ahead = kAheadBytes / static_cast<std::ptrdiff_t>(sizeof(T));
    for_each_vector(size - head, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
      foresee(0, head + j + ahead);
      vector(head + j, lanes);
      column += kLanes;
      while (column >= t.cols) column -= t.cols;
    });
  }
}

// The way to store, where streaming was found possible or not.
template <Store how, class Streamed>
constexpr Store store_of() {
  return kCanStream && Streamed::value ? how : Store::cached;
}

// Whether walk_streamed can do with a tile: mask bits lie in whole bytes, which vectors must not
// straddle, and the rows of layout cols must be one run or long.
template <Layout layout, Store how, class T, class Tile>
inline bool can_stream(const Tile& t, const T* out, std::ptrdiff_t out_stride, bool one_run) {
  if (t.mask != nullptr && stream_head<how>(out) % 8 != 0) return false;
  const bool in_rows = t.mask == nullptr || out_stride % 8 == 0;
  if (layout == Layout::rows) return in_rows;
  return t.cols <= kPieceColumns && (one_run || (in_rows && t.cols >= kStreamedColumns));
}

// The same for kernels that stream in pieces where there is a mask.
template <Layout layout, class T, class Tile>
inline bool can_stream_masked(const Tile& t, const T* out, std::ptrdiff_t out_stride,
                              bool one_run) {
  return t.mask != nullptr ? can_stream<layout, Store::pieces>(t, out, out_stride, one_run)
                           : can_stream<layout, Store::lines>(t, out, out_stride, one_run);
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
