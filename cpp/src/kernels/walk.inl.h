// What the walks of maps and sums use: vectors of a row, numbers of channels, and how an output is
// stored past the caches.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Inlining everything into the kernel is what keeps its loops in registers.
#if defined(__GNUC__)
#define BNPP_INLINE_LAMBDA __attribute__((always_inline))
#define BNPP_INLINE BNPP_INLINE_LAMBDA inline
#define BNPP_OUT_OF_LINE __attribute__((noinline))
// What few vectors come to: small rather than fast.
#define BNPP_COLD __attribute__((noinline, cold))
// Before a loop over arrays that are to be registers.
#define BNPP_UNROLL _Pragma("GCC unroll 8")
#else
#define BNPP_OUT_OF_LINE
#define BNPP_COLD
#define BNPP_UNROLL
#define BNPP_INLINE_LAMBDA
#define BNPP_INLINE inline
#endif

// Lines whose addresses agree modulo so many bytes share their place in the first-level cache.
constexpr std::ptrdiff_t kPage = 4096;

template <std::ptrdiff_t N>
struct Count {
  static constexpr std::ptrdiff_t value = N;
};

// Rows of columns are prefetched as many rows ahead as make about so many bytes: what memory
// delivers while it is being waited for, and beyond the page's end, where hardware prefetchers
// stop.
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
  Number at[kTileColumns + 5 * kLanes];
  Number* operator+(std::ptrdiff_t j) { return at + j; }
};
using Columns = ColumnsOf<double>;

// Columns of a channel: a tile of layout rows has one.
template <Layout layout, class Tile>
inline std::ptrdiff_t repeat_of(const Tile& t) {
  return layout == Layout::rows ? t.cols : t.repeat;
}

// Whether channels of so many columns are walked as columns: they are, where a vector holds more.
inline bool are_columns(std::ptrdiff_t repeat, std::ptrdiff_t cols) {
  return repeat < kLanes && repeat < cols;
}

inline bool all_zero(const double* values, std::ptrdiff_t n) {
  unsigned zero = 0xffff;
  std::ptrdiff_t j = 0;
  for (; j + kLanes <= n; j += kLanes) zero &= to_bits(is_zero(load(values + j)));
  for (; j < n; ++j) zero &= values[j] == 0 ? 0xffff : 0;
  return zero == 0xffff;
}

// One number a column from one a channel of `repeat` columns: the numbers themselves where they
// are.
template <class Number>
inline const Number* spread_channels(const double* values, std::ptrdiff_t channels,
                                     std::ptrdiff_t repeat, Number* columns) {
  if (repeat == 1) {
    if constexpr (sizeof(Number) == sizeof(double)) return values;
    std::ptrdiff_t j = 0;
    for (; j + kLanes <= channels; j += kLanes) store(columns + j, load(values + j));
    // One by one, as they may be read as soon: parts of a vector would have to be waited for.
    for (; j < channels; ++j) columns[j] = static_cast<Number>(values[j]);
    return columns;
  }
  for (std::ptrdiff_t c = 0; c < channels; ++c) {
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
template <class T>
inline std::ptrdiff_t stream_head(const T* to, Store how) {
  constexpr auto item = static_cast<std::ptrdiff_t>(sizeof(T));
  if (how == Store::cached) return 0;
  const std::ptrdiff_t wanted = how == Store::lines ? kStreamAlign : 16;
  const std::ptrdiff_t align = kLanes * item < wanted ? kLanes * item : wanted;
  const auto at = static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(to));
  return (-at & (align - 1)) / item;
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
  // Those of one channel.
  BNPP_INLINE Params<n, V> of(std::ptrdiff_t c) const {
    Params<n, V> params;
    for (int k = 0; k < n; ++k) params.p[k] = Arithmetic<V>::splat_number(columns[k][c]);
    return params;
  }
};

// Columns from which on a row is worth streaming with a partial line at either end.
constexpr std::ptrdiff_t kStreamedColumns = 512;

// Whether the rows of a tile of columns follow upon each other in all tensors, whose strides are
// given, and in its mask.
template <class... Strides>
inline bool are_one_run(std::ptrdiff_t cols, const std::uint8_t* mask, std::ptrdiff_t mask_stride,
                        Strides... strides) {
  return (mask == nullptr || mask_stride * 8 == cols) && ((strides == cols) && ...);
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
