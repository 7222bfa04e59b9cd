// How a map walks its tile. A map computes every element from those of its place in other tensors
// and from the numbers of its channel; what else a tile has (a residual, a mask) is asked at run
// time, once for a block of vectors.
//
// There are two shapes. Runs: `repeat` columns of a row are a channel, whose numbers stay in
// registers; vectors that cross the border of two channels have the numbers of both. Columns, and
// runs shorter than a vector: numbers are those of columns, and several rows share one load of
// them.
//
// Which lanes are float32 arithmetic, and which float64, each decides by itself, so that no bit
// depends on the rest of its vector or tile. Halves: a term is rounded three times, by 2^-24 of
// itself at most. Where the result is at least 1 / kTermsOver of its other terms it is therefore
// about 3/8 of a unit in the half's last place off at most before it is rounded to half, and where
// it is as large as they are, 2^-10 of one or less. The other lanes, few, are computed again in
// float64, and so are those of channels that float32 has no room for.
//
// A map M is a MapOf<T, V, numbers of a channel, inputs>, and has
//   terms<count>(j, params, lanes, z, others)   z of `count` vectors of the first row, from column
//                       j on, and the sizes of all terms but one
//   finish<count>(j, lanes, z)                  stores them
//   exact(j, c)         one element in float64, c its channel        } where V is Single
//   fits(c)             whether float32 has room for channel c       }
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Whether all are moderate, or in range: first by their squares, which leave the unusual ones, and
// 0, to a closer look.
template <bool in_range>
inline bool all_fit(const double* values, std::ptrdiff_t channels) {
  const auto fits = [](double v) { return in_range ? is_in_range(v) : is_moderate(v); };
  if (channels == 1) return fits(*values);
  const Vec most = splat(kSingleRoom * kSingleRoom), least = splat(1 / (kSingleRoom * kSingleRoom));
  unsigned unusual = 0;
  for_each_vector(channels, [&](std::ptrdiff_t c, auto lanes) BNPP_INLINE_LAMBDA {
    const Vec v = load(values + c, lanes), square = first_of(v * v, lanes, splat(1));
    unusual |= to_bits(positive(square - most));
    if constexpr (in_range) unusual |= to_bits(positive(least - square));
  });
  for (std::ptrdiff_t c = 0; unusual != 0 && c < channels; ++c) {
    if (!fits(values[c])) return false;
  }
  return true;
}
inline bool all_moderate(const double* values, std::ptrdiff_t channels) {
  return all_fit<false>(values, channels);
}
inline bool all_in_range(const double* values, std::ptrdiff_t channels) {
  return all_fit<true>(values, channels);
}

template <class T>
struct MapVecOf {
  using type = Single;
};
template <>
struct MapVecOf<double> {
  using type = Vec;
};
// What maps of T compute in where its bound leaves room.
template <class T>
using MapVec = typename MapVecOf<T>::type;

template <class T>
constexpr float kTermsOver = 0;
template <>
constexpr float kTermsOver<float16> = 0x1p9f;
template <>
constexpr float kTermsOver<bfloat16> = 0x1p12f;
// What float32 has no room for, bfloat16 has, where float64 terms cancel.
template <class T>
constexpr bool kMayOverflow = false;
template <>
constexpr bool kMayOverflow<bfloat16> = true;

// Bit by bit, the lanes that are small beside their other terms.
template <class T, class V>
BNPP_INLINE unsigned small_lanes(const V& z, const V& others) {
  if constexpr (kTermsOver<T> > 0 && Arithmetic<V>::is_single) {
    const unsigned small = bits_of_less(magnitude(z), others * splat_single(1 / kTermsOver<T>));
    if constexpr (!kMayOverflow<T>) return small;
    return small | (~bits_of_less(magnitude(z), splat_single(__builtin_inff())) & 0xffff);
  }
  return 0;
}

// A tensor of a tile, from one of its rows on; what is not there is null, and has stride 0.
template <class T>
struct RowsOf {
  T* at = nullptr;
  std::ptrdiff_t stride = 0;

  RowsOf() = default;
  template <class Data>
  RowsOf(Data* data, std::ptrdiff_t rows_apart)
      : at(static_cast<T*>(data)), stride(data != nullptr ? rows_apart : 0) {}
  BNPP_INLINE void step(std::ptrdiff_t rows) { at += rows * stride; }
  void move(std::ptrdiff_t n) {
    if (at != nullptr) at += n;
  }
  void set_stride(std::ptrdiff_t n) {
    if (at != nullptr) stride = n;
  }
  bool is_one_run(std::ptrdiff_t cols) const { return at == nullptr || stride == cols; }
  BNPP_INLINE void prefetch_lines(std::ptrdiff_t rows, std::ptrdiff_t j) const {
    if (at != nullptr) prefetch(at + rows * stride + j);
  }
};

// What all maps have: their tile, its tensors, the numbers of its channels.
template <class Element, class Vector, int n, int inputs>
struct MapOf {
  using T = Element;
  using V = Vector;
  static constexpr int kParams = n;
  static constexpr bool kPlain = false;   // whether there are loops of their own for plain tiles
  static constexpr bool kOfRows = false;  // whether every row is a channel of its own

  std::ptrdiff_t rows, cols, repeat;
  const double* values[n];
  RowsOf<const T> in[inputs];
  RowsOf<T> out, second;  // the outputs, of which there is often one
  RowsOf<std::uint8_t> mask;
  Store how = Store::cached;         // is the output stored
  std::ptrdiff_t prefetch_rows = 0;  // how many rows ahead to prefetch, or 0
  bool all_fit = true;               // float32 has room for all channels

  template <class Tile>
  MapOf(const Tile& t, std::ptrdiff_t columns_of_channel, const double* const (&of_channels)[n],
        const RowsOf<const T> (&from)[inputs], const RowsOf<T>& to)
      : rows(t.rows), cols(t.cols), repeat(columns_of_channel), out(to) {
    for (int k = 0; k < n; ++k) values[k] = of_channels[k];
    for (int k = 0; k < inputs; ++k) in[k] = from[k];
  }
  std::ptrdiff_t channels() const {
    return repeat == 1 ? cols : repeat == cols ? 1 : cols / repeat;
  }
  bool in_columns() const { return are_columns(repeat, cols); }
  // Columns of row i before the first that can be streamed.
  std::ptrdiff_t head(std::ptrdiff_t i) const {
    const std::ptrdiff_t past = stream_head(out.at + i * out.stride, how);
    return past < cols ? past : cols;
  }

  // Goes on by so many rows, or elements of tensors that are one run.
  BNPP_INLINE void step(std::ptrdiff_t row_count) {
    for (RowsOf<const T>& tensor : in) tensor.step(row_count);
    out.step(row_count);
    second.step(row_count);
    mask.step(row_count);
  }
  void move(std::ptrdiff_t elements) {
    for (RowsOf<const T>& tensor : in) tensor.move(elements);
    out.move(elements);
    second.move(elements);
    mask.move(elements / 8);
  }
  // Whether rows follow upon each other in all tensors; and if so, makes rows of another length.
  bool one_run() const {
    for (const RowsOf<const T>& tensor : in) {
      if (!tensor.is_one_run(cols)) return false;
    }
    return out.is_one_run(cols) && second.is_one_run(cols) &&
           (mask.at == nullptr || mask.stride * 8 == cols);
  }
  void set_strides(std::ptrdiff_t length) {
    for (RowsOf<const T>& tensor : in) tensor.set_stride(length);
    out.set_stride(length);
    second.set_stride(length);
    mask.set_stride(length / 8);
  }
  // The lines of a vector, `prefetch_rows` rows ahead.
  BNPP_INLINE void prefetch_lines(std::ptrdiff_t j) const {
    for (const RowsOf<const T>& tensor : in) tensor.prefetch_lines(prefetch_rows, j);
    if (how == Store::cached) out.prefetch_lines(prefetch_rows, j);
  }
  // Whether it has nothing that is asked at run time; and a promise of it, by which loops are
  // leaner.
  bool is_plain() const {
    return second.at == nullptr && mask.at == nullptr && how == Store::cached && prefetch_rows == 0;
  }
  void make_plain() {
    second = {};
    mask = {};
    how = Store::cached;
    prefetch_rows = 0;
  }
};

// Stores, or streams, `count` vectors side by side.
template <std::ptrdiff_t count, class V, class T>
BNPP_INLINE void put_block(T* to, const V (&z)[count], Full lanes, Store how) {
  if constexpr (kCanStream) {
    if (how == Store::lines) {
      for (std::ptrdiff_t k = 0; k < count; ++k) stream(to + k * kLanes, z[k]);
      return;
    }
    if (how == Store::pieces) {
      for (std::ptrdiff_t k = 0; k < count; ++k) stream_pieces(to + k * kLanes, z[k]);
      return;
    }
  }
  for (std::ptrdiff_t k = 0; k < count; ++k) store(to + k * kLanes, z[k], lanes);
}
template <class V, class T>
BNPP_INLINE void put_block(T* to, const V (&z)[1], Some lanes, Store) {
  store(to, z[0], lanes);
}

// Vectors of a block: four registers. Of columns, whose numbers are to stay in registers as well,
// so many only in registers of eight and more floats.
template <class V>
constexpr std::ptrdiff_t kBlock = Arithmetic<V>::parts < 4 ? 4 / Arithmetic<V>::parts : 1;
template <class V>
constexpr std::ptrdiff_t kWide = kPartLanes < 4 ? 1 : kBlock<V>;
// Rows of columns that share their numbers.
constexpr std::ptrdiff_t kTall = 8;
// Bytes of a short row; two are a page.
constexpr std::ptrdiff_t kShortRow = 2048;
// What rows of columns that are one run are joined to a multiple of.
constexpr std::ptrdiff_t kJoinedWidth = 64;

// The numbers of a block's vectors: the same for all, or each its own.
template <int n, class V>
struct Same {
  const Params<n, V>& p;
  BNPP_INLINE const Params<n, V>& operator[](std::ptrdiff_t) const { return p; }
};
template <std::ptrdiff_t count, int n, class V>
struct Each {
  Params<n, V> p[count];
  BNPP_INLINE const Params<n, V>& operator[](std::ptrdiff_t k) const { return p[k]; }
};

// The first `count` lanes of p, and q in the others.
template <int n, class V>
BNPP_INLINE void blend(Params<n, V>& p, std::ptrdiff_t count, const Params<n, V>& q) {
  const auto first = Arithmetic<V>::mask((1u << count) - 1u);
  for (int k = 0; k < n; ++k) p.p[k] = choose(first, p.p[k], q.p[k]);
}

// Numbers of channels, or of columns, in a map's arithmetic.
template <class M>
using NumbersOf = ColumnsAt<M::kParams, typename M::V>;

// `count` vectors, unless one of them has lanes for float64: then nothing is stored.
template <std::ptrdiff_t count, class M, class P, class Lanes = Full>
BNPP_INLINE bool map_block(const M& row, std::ptrdiff_t j, const P& params, Lanes lanes = {}) {
  using V = typename M::V;
  V z[count], others[count];
  row.template terms<count>(j, params, lanes, z, others);
  unsigned small = 0;
  for (std::ptrdiff_t k = 0; k < count; ++k) {
    small |= small_lanes<typename M::T>(z[k], others[k]);
  }
  if (small != 0) return false;
  row.template finish<count>(j, lanes, z);
  return true;
}

// Lanes of `again`, and those of channels that do not fit, in float64.
template <class M>
BNPP_COLD void mend(const M& row, std::ptrdiff_t j, std::ptrdiff_t n, unsigned again, float* z) {
  const auto channel = [&](std::ptrdiff_t k) {
    if constexpr (M::kOfRows) return row.channel;
    return row.repeat == 1 ? j + k : (j + k) / row.repeat;
  };
  for (std::ptrdiff_t k = 0; !row.all_fit && k < n; ++k) {
    if (!row.fits(channel(k))) again |= 1u << k;
  }
  for (; again != 0; again &= again - 1) {
    const std::ptrdiff_t k = __builtin_ctz(again);
    z[k] = static_cast<float>(row.exact(j + k, channel(k)));
  }
}

// n columns of a row by themselves, mended, whatever they are.
template <class M, class Lanes>
BNPP_INLINE void map_vector(const M& row, const NumbersOf<M>& numbers, std::ptrdiff_t j,
                            std::ptrdiff_t n, Lanes lanes) {
  using V = typename M::V;
  Each<1, M::kParams, V> params;
  if (row.in_columns()) {
    params.p[0] = numbers.at(j, lanes);
  } else {
    std::ptrdiff_t c = j / row.repeat, border = (c + 1) * row.repeat - j;
    if constexpr (M::kOfRows) c = row.channel;
    params.p[0] = numbers.of(c);
    if (border < n) blend(params.p[0], border, numbers.of(c + 1));
  }
  V z[1], others[1];
  row.template terms<1>(j, params, lanes, z, others);
  if constexpr (Arithmetic<V>::is_single) {
    const unsigned small = small_lanes<typename M::T>(z[0], others[0]) & ((1u << n) - 1u);
    if (small != 0 || !row.all_fit) {
      float again[kLanes];
      store(again, z[0]);
      mend(row, j, n, small, again);
      z[0] = load_single(again);
    }
  }
  row.template finish<1>(j, lanes, z);
}
template <class M>
BNPP_COLD void map_edge(const M& map, const NumbersOf<M>& numbers, std::ptrdiff_t i,
                        std::ptrdiff_t j, std::ptrdiff_t end) {
  M row = map;  // a copy no store can alias
  row.step(i);
  for (; j + kLanes <= end; j += kLanes) map_vector(row, numbers, j, kLanes, Full{});
  if (j < end) map_vector(row, numbers, j, end - j, Some{end - j});
}

// A place in a tile.
struct Place {
  std::ptrdiff_t i, j;
};

// Runs from a place on, to where a vector has lanes for float64, or a row of a streamed output
// ends.
template <bool plain, class M>
BNPP_OUT_OF_LINE Place map_runs(const M& map, const NumbersOf<M>& all, Place at) {
  using V = typename M::V;
  constexpr int n = M::kParams;
  constexpr std::ptrdiff_t block = kBlock<V>;
  M row = map;
  if constexpr (plain) row.make_plain();
  row.step(at.i);
  const NumbersOf<M> numbers = all;
  const std::ptrdiff_t cols = row.cols, repeat = row.repeat;
  for (; at.i < row.rows; row.step(1)) {
    std::ptrdiff_t j = at.j, c = j < repeat ? 0 : j / repeat;
    for (std::ptrdiff_t end = (c + 1) * repeat; j < cols; end += repeat, ++c) {
      const Params<n, V> params = numbers.of(M::kOfRows ? at.i : c);
      const Same<n, V> same = {params};
      for (; block > 1 && j + block * kLanes <= end; j += block * kLanes) {
        for (std::ptrdiff_t k = 0; row.prefetch_rows > 0 && k < block; ++k)
          row.prefetch_lines(j + k * kLanes);
        if (!map_block<block>(row, j, same)) return {at.i, j};
      }
      for (; j + kLanes <= end; j += kLanes) {
        if (block == 1 && row.prefetch_rows > 0) row.prefetch_lines(j);
        if (!map_block<1>(row, j, same)) return {at.i, j};
      }
      if (end == cols) {
        if (j < cols && !map_block<1>(row, j, same, Some{cols - j})) return {at.i, j};
        break;
      }
      if (j < end) {
        Each<1, n, V> both = {{params}};
        blend(both.p[0], end - j, numbers.of(c + 1));
        if (j + kLanes > cols) {
          if (!map_block<1>(row, j, both, Some{cols - j})) return {at.i, j};
          break;
        }
        if (!map_block<1>(row, j, both)) return {at.i, j};
        j += kLanes;
      }
    }
    if (row.how != Store::cached) return {at.i, cols};
    at = {at.i + 1, 0};
  }
  return at;
}

// Columns from a place on, to where a vector has lanes for float64: bands of `tall` rows, and in
// each of them strips of a few vectors.
template <bool plain, class M>
BNPP_OUT_OF_LINE Place map_columns(const M& map, const NumbersOf<M>& all, Place at,
                                   std::ptrdiff_t tall, bool one_by_one) {
  M m = map;
  if constexpr (plain) m.make_plain();
  const NumbersOf<M> numbers = all;
  std::ptrdiff_t first = at.i & -tall, end = first;
  M band = m;  // from its first row on
  band.step(first);
  const auto strip = [&](auto count, auto lanes) BNPP_INLINE_LAMBDA {
    constexpr std::ptrdiff_t width = decltype(count)::value;
    Each<width, M::kParams, typename M::V> params;
    for (std::ptrdiff_t k = 0; k < width; ++k) {
      params.p[k] = numbers.at(at.j + k * kLanes, lanes);
    }
    M row = band;
    if (at.i > first) row.step(at.i - first);
    for (; at.i < end; ++at.i, row.step(1)) {
      for (std::ptrdiff_t k = 0; row.prefetch_rows > 0 && k < width; ++k)
        row.prefetch_lines(at.j + k * kLanes);
      if (!map_block<width>(row, at.j, params, lanes)) return false;
    }
    at.i = first;
    at.j += width * kLanes;
    return true;
  };
  constexpr std::ptrdiff_t wide = kWide<typename M::V>;
  for (; first < m.rows; first += tall, band.step(tall)) {
    end = first + tall < m.rows ? first + tall : m.rows;
    while (at.j + wide * kLanes <= m.cols) {
      if (!strip(Count<wide>{}, Full{})) return at;
    }
    while (wide > 1 && at.j + kLanes <= m.cols) {
      if (!strip(Count<1>{}, Full{})) return at;
    }
    if (at.j < m.cols && !strip(Count<1>{}, Some{m.cols - at.j})) return at;
    if (one_by_one) return {first, m.cols};
    at = {first + tall, 0};
  }
  return at;
}

template <class M>
void walk_runs(const M& m, const NumbersOf<M>& numbers) {
  bool plain = false;
  if constexpr (M::kPlain) plain = m.is_plain();
  for (Place at = {0, 0}; at.i < m.rows;) {
    std::ptrdiff_t end = at.j == 0 ? m.head(at.i) : 0;  // of what the loop above leaves
    if (end == 0 && m.all_fit) {
      at = plain ? map_runs<M::kPlain>(m, numbers, at) : map_runs<false>(m, numbers, at);
      if (at.i == m.rows) return;
    }
    if (end == 0) end = m.all_fit ? at.j + kBlock<typename M::V> * kLanes : m.cols;
    if (end > m.cols) end = m.cols;
    if (at.j < end) map_edge(m, numbers, at.i, at.j, end);
    at.j = end;
    if (at.j == m.cols) at = {at.i + 1, 0};
  }
}

// Rows of columns that share their numbers. From memory, short rows are best read as they lie. Of
// rows whole pages apart a store to one looks like one to what is loaded of the next, which waits.
template <class M>
inline std::ptrdiff_t tall_of(const M& m) {
  constexpr auto item = static_cast<std::ptrdiff_t>(sizeof(typename M::T));
  if (m.prefetch_rows > 0 && m.cols > kJoinedWidth)
    return m.cols * item < kShortRow ? 1 : kTall / 2;
  return m.out.stride * item % kPage == 0 ? 2 : kTall;
}

template <class M>
void walk_columns(const M& m, const NumbersOf<M>& numbers) {
  bool plain = false;
  if constexpr (M::kPlain) plain = m.is_plain();
  constexpr std::ptrdiff_t wide = kWide<typename M::V> * kLanes;
  // Rows whose lines begin at other columns come one by one.
  const bool one_by_one = m.rows > 1 && (m.head(0) > 0 || m.head(1) > 0);
  const std::ptrdiff_t tall = one_by_one || !m.all_fit ? 1 : tall_of(m);
  for (Place at = {0, 0}; at.i < m.rows;) {
    if (std::ptrdiff_t head = m.head(at.i); at.j == 0 && head > 0) {
      map_edge(m, numbers, at.i, 0, head);
      at.j = head;
    }
    if (m.all_fit) {
      at = plain ? map_columns<M::kPlain>(m, numbers, at, tall, one_by_one)
                 : map_columns<false>(m, numbers, at, tall, one_by_one);
    }
    if (at.i >= m.rows) return;
    std::ptrdiff_t width = at.j + wide <= m.cols ? wide : kLanes;
    if (!m.all_fit || at.j + width > m.cols) width = m.cols - at.j;
    if (width > 0) map_edge(m, numbers, at.i, at.j, at.j + width);
    // The next row of the strip, strip of the band, or band.
    const std::ptrdiff_t first = at.i & -tall;
    const std::ptrdiff_t end = first + tall < m.rows ? first + tall : m.rows;
    if (width > 0 && ++at.i < end) continue;
    at = {first, at.j + width};
    if (at.j == m.cols) at = {first + tall, 0};
  }
}

template <class M>
void walk_map(const M& m) {
  using Number = typename Arithmetic<typename M::V>::Number;
  ColumnsOf<Number> held[M::kParams];
  NumbersOf<M> numbers;
  const bool columns = m.in_columns();
  const std::ptrdiff_t channels = M::kOfRows ? m.rows : m.channels();
  const std::ptrdiff_t repeat = columns ? m.repeat : 1;
  for (int k = 0; k < M::kParams; ++k) {
    numbers.columns[k] = spread_channels(m.values[k], channels, repeat, held[k].at);
  }
  columns ? walk_columns(m, numbers) : walk_runs(m, numbers);
}

// Rows of columns that are taken as one, so that blocks of vectors fill it.
template <class M>
inline std::ptrdiff_t rows_for_blocks(const M& m) {
  std::ptrdiff_t joined = 1;
  while (joined * m.cols % kJoinedWidth != 0 && 2 * joined * m.cols <= kTileColumns &&
         2 * joined * kJoinedRows <= m.rows) {
    joined *= 2;
  }
  return joined;
}

// Columns that are one run, as rows of another length that begin on lines.
template <class M>
void walk_joined(const M& m) {
  const std::ptrdiff_t size = m.rows * m.cols, past = stream_head(m.out.at, m.how);
  const std::ptrdiff_t head = past < size ? past : size, cols = m.cols;
  Columns held[M::kParams];
  // Rows from element `first` of the run on.
  const auto walk = [&](std::ptrdiff_t first, std::ptrdiff_t rows, std::ptrdiff_t width) {
    if (rows == 0 || width == 0) return;
    M part = m;
    part.move(first);
    part.rows = rows;
    part.cols = width;
    part.set_strides(width);
    if (m.prefetch_rows > 0) part.prefetch_rows = rows_ahead<typename M::T>(width, kTall);
    for (int k = 0; k < M::kParams; ++k) {
      double* to = held[k].at;
      std::ptrdiff_t c = first % cols;
      for (std::ptrdiff_t j = 0; j < cols && j < width; ++j) {
        to[j] = m.values[k][c];
        if (++c == cols) c = 0;
      }
      for (std::ptrdiff_t j = cols; j < width; ++j) to[j] = to[j - cols];
      part.values[k] = to;
    }
    walk_map(part);
  };
  const std::ptrdiff_t width = rows_for_blocks(m) * cols, rows = (size - head) / width;
  walk(0, 1, head);
  walk(head, rows, width);
  walk(head + rows * width, 1, size - head - rows * width);
}

// How the output of a map is stored: past the caches where no line, or few, would be written in
// parts. Vectors that begin on a line need not begin on a byte of mask bits.
template <class M>
inline Store how_to_store(const M& m, bool one_run) {
  const bool has_mask = m.mask.at != nullptr;
  const Store how = has_mask ? Store::pieces : Store::lines;
  const std::ptrdiff_t head = stream_head(m.out.at, how);
  if (has_mask && head % 8 != 0) return Store::cached;
  if (one_run || (head == 0 && stream_head(m.out.at + m.out.stride, how) == 0)) return how;
  const bool in_bytes = !has_mask || m.out.stride % 8 == 0;
  return in_bytes && (m.repeat == m.cols || m.cols >= kStreamedColumns) ? how : Store::cached;
}

// `stream` and `ahead` are those of the tile.
template <class M>
void run_map(M& m, bool stream, bool ahead) {
  const bool one_run = !M::kOfRows && m.repeat == 1 && m.one_run();
  if (kCanStream && stream) m.how = how_to_store(m, one_run);
  if (!m.in_columns()) {
    m.prefetch_rows = M::kOfRows || (m.rows > 1 && (m.channels() == 1 || ahead)) ? 1 : 0;
  } else if (ahead || m.how != Store::cached) {
    m.prefetch_rows = rows_ahead<typename M::T>(m.out.stride, kTall);
  }
  const auto begins_on_lines = [&](std::ptrdiff_t i) {
    return stream_head(m.out.at + i * m.out.stride, m.how) == 0;
  };
  const bool joined = one_run && m.rows > 1 &&
                      (m.cols < kJoinedWidth || !begins_on_lines(0) || !begins_on_lines(1));
  joined ? walk_joined(m) : walk_map(m);
  if (m.how != Store::cached) fence();
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
