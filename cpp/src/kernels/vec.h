// The SIMD alphabet: Vec, 16 logical float64 lanes on every instruction set, and how each dtype is
// loaded into it and stored from it. The only file that knows vector types and intrinsics.
// Sixteen lanes everywhere, no fused multiply-add and one fixed tree for horizontal sums are what
// makes the bits of all instruction sets agree.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

constexpr std::ptrdiff_t kLanes = 16;

#if defined(BNPP_SCALAR) || !defined(__GNUC__)
// Arrays instead of vectors: the plain table, and compilers without vector extensions.
constexpr int kParts = kLanes;
using Part = double;
template <class T>
using Narrow = T;  // the T's of one Part
using PartBits = bool;
inline PartBits positive(Part p) { return p > 0; }
inline Part keep_where(PartBits m, Part p) { return m ? p : 0.0; }
inline unsigned to_bits(PartBits m) { return m; }
inline PartBits from_bits(unsigned bits, int) { return bits & 1u; }
template <class T>
inline Part widen(Narrow<T> n) {
  return static_cast<double>(n);
}
template <class T>
inline Narrow<T> narrow(Part p) {
  return static_cast<T>(p);
}
inline Part spread(double v) { return v; }
#else
#if defined(__AVX512F__)
constexpr int kPartLanes = 8;
#elif defined(__AVX__)
constexpr int kPartLanes = 4;
#else
constexpr int kPartLanes = 2;
#endif
constexpr int kParts = kLanes / kPartLanes;
typedef double Part __attribute__((vector_size(kPartLanes * sizeof(double))));
typedef std::int64_t PartBits __attribute__((vector_size(kPartLanes * sizeof(double))));
template <class T>
struct NarrowOf {
  typedef T type __attribute__((vector_size(kPartLanes * sizeof(T))));
};
template <class T>
using Narrow = typename NarrowOf<T>::type;

inline PartBits positive(Part p) { return p > 0.0; }
inline Part keep_where(PartBits m, Part p) {
  return reinterpret_cast<Part>(m & reinterpret_cast<PartBits>(p));
}
inline unsigned to_bits(PartBits m) {
#if defined(__AVX512F__)
  return static_cast<unsigned>(_mm512_movepi64_mask(reinterpret_cast<__m512i>(m)));
#elif defined(__AVX__)
  return static_cast<unsigned>(_mm256_movemask_pd(reinterpret_cast<__m256d>(m)));
#else
  unsigned bits = 0;
  for (int i = 0; i < kPartLanes; ++i) bits |= (m[i] ? 1u : 0u) << i;
  return bits;
#endif
}
// The lanes whose bit is set, of the kPartLanes bits that begin at `from`.
inline PartBits from_bits(unsigned bits, int from) {
  PartBits lane_bit;
  for (int i = 0; i < kPartLanes; ++i) lane_bit[i] = std::int64_t{1} << (from + i);
  const PartBits all = (PartBits{} + static_cast<std::int64_t>(bits)) & lane_bit;
  return all == lane_bit;
}
template <class T>
inline Part widen(Narrow<T> n) {
  return __builtin_convertvector(n, Part);
}
template <class T>
inline Narrow<T> narrow(Part p) {
  return __builtin_convertvector(p, Narrow<T>);
}
#if defined(__AVX512F__)  // where g++ 12 makes two half conversions of one
template <>
inline Part widen<float>(Narrow<float> n) {
  return reinterpret_cast<Part>(_mm512_maskz_cvtps_pd(0xff, reinterpret_cast<__m256>(n)));
}
#endif
inline Part spread(double v) { return v - Part{}; }  // v + 0 would lose the sign of -0
#endif

struct Vec {
  Part p[kParts];
};
struct Mask {
  PartBits p[kParts];
};

inline Vec splat(double v) {
  Vec r;
  for (int i = 0; i < kParts; ++i) r.p[i] = spread(v);
  return r;
}
inline Vec operator+(Vec a, Vec b) {
  for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] + b.p[i];
  return a;
}
inline Vec operator-(Vec a, Vec b) {
  for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] - b.p[i];
  return a;
}
inline Vec operator*(Vec a, Vec b) {
  for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] * b.p[i];
  return a;
}
inline Mask positive(Vec a) {
  Mask m;
  for (int i = 0; i < kParts; ++i) m.p[i] = positive(a.p[i]);
  return m;
}
// a where the mask is set, else 0.
inline Vec keep_where(Mask m, Vec a) {
  for (int i = 0; i < kParts; ++i) a.p[i] = keep_where(m.p[i], a.p[i]);
  return a;
}
// max(a, 0), which keeps NaN.
inline Vec relu(Vec a) {
  for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] <= 0.0 ? spread(0.0) : a.p[i];
  return a;
}
// a where it is finite, else 0.
inline Vec finite_or_zero(Vec a) {
  for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] - a.p[i] == 0.0 ? a.p[i] : spread(0.0);
  return a;
}
inline unsigned to_bits(Mask m) {
  unsigned bits = 0;
  for (int i = 0; i < kParts; ++i) bits |= to_bits(m.p[i]) << (i * (kLanes / kParts));
  return bits;
}
inline Mask mask_from_bits(unsigned bits) {
  Mask m;
  constexpr int lanes = kLanes / kParts;
  for (int i = 0; i < kParts; ++i) {
#if defined(BNPP_SCALAR) || !defined(__GNUC__)
    m.p[i] = from_bits(bits >> (i * lanes), 0);
#else
    m.p[i] = from_bits(bits, i * lanes);
#endif
  }
  return m;
}

// How many of the 16 lanes an access touches: all, or the first n < 16.
struct Full {};
struct Some {
  std::ptrdiff_t n;
};

template <class T>
inline Vec load(const T* from, Full = {}, T = {}) {
  Vec r;
  constexpr int lanes = kLanes / kParts;
  for (int i = 0; i < kParts; ++i) {
    Narrow<T> part;
    __builtin_memcpy(&part, from + i * lanes, sizeof(part));
    r.p[i] = widen<T>(part);
  }
  return r;
}
template <class T>
inline void store(T* to, Vec v, Full = {}) {
  constexpr int lanes = kLanes / kParts;
  for (int i = 0; i < kParts; ++i) {
    const Narrow<T> part = narrow<T>(v.p[i]);
    __builtin_memcpy(to + i * lanes, &part, sizeof(part));
  }
}
// The untouched lanes are `rest`.
template <class T>
inline Vec load(const T* from, Some some, T rest = {}) {
  T buffer[kLanes];
  store(buffer, splat(static_cast<double>(rest)));
  __builtin_memcpy(buffer, from, static_cast<std::size_t>(some.n) * sizeof(T));
  return load(buffer);
}
template <class T>
inline void store(T* to, Vec v, Some some) {
  T buffer[kLanes];
  store(buffer, v);
  __builtin_memcpy(to, buffer, static_cast<std::size_t>(some.n) * sizeof(T));
}
// The same past the caches, at an address that is a multiple of kStreamAlign; fence() ends a
// series.
constexpr std::ptrdiff_t kStreamAlign = 64;
#if defined(__SSE2__) && !defined(BNPP_SCALAR)
constexpr bool kCanStream = true;
inline void stream_part(float* to, Narrow<float> v) {
#if defined(__AVX512F__)
  _mm256_stream_ps(to, reinterpret_cast<__m256>(v));
#elif defined(__AVX__)
  _mm_stream_ps(to, reinterpret_cast<__m128>(v));
#else
  long long bits;
  __builtin_memcpy(&bits, &v, sizeof(bits));
  _mm_stream_si64(reinterpret_cast<long long*>(to), bits);
#endif
}
inline void stream_part(double* to, Narrow<double> v) {
#if defined(__AVX512F__)
  _mm512_stream_pd(to, reinterpret_cast<__m512d>(v));
#elif defined(__AVX__)
  _mm256_stream_pd(to, reinterpret_cast<__m256d>(v));
#else
  _mm_stream_pd(to, reinterpret_cast<__m128d>(v));
#endif
}
template <class T>
inline void stream(T* to, Vec v) {
  for (int i = 0; i < kParts; ++i) stream_part(to + i * (kLanes / kParts), narrow<T>(v.p[i]));
}
inline void fence() { _mm_sfence(); }
#else
constexpr bool kCanStream = false;
inline void fence() {}
#endif

// Asks for the line of an address, which need not be valid.
inline void prefetch(const void* address) {
#if defined(__GNUC__)
  __builtin_prefetch(address);
#endif
}

// v rounded to the nearest T.
template <class T>
inline Vec round_to(Vec v) {
  for (int i = 0; i < kParts; ++i) v.p[i] = widen<T>(narrow<T>(v.p[i]));
  return v;
}

// One bit a column, column j in bit j % 8 of byte j / 8.
inline Mask load_mask(const std::uint8_t* from, Full) {
  return mask_from_bits(from[0] | from[1] << 8);
}
inline Mask load_mask(const std::uint8_t* from, Some some) {
  return mask_from_bits(some.n > 8 ? from[0] | from[1] << 8 : from[0]);
}
inline void store_mask(std::uint8_t* to, Mask m, Full) {
  const unsigned bits = to_bits(m);
  to[0] = static_cast<std::uint8_t>(bits);
  to[1] = static_cast<std::uint8_t>(bits >> 8);
}
inline void store_mask(std::uint8_t* to, Mask m, Some some) {
  const unsigned bits = to_bits(m) & ((1u << some.n) - 1u);
  to[0] = static_cast<std::uint8_t>(bits);
  if (some.n > 8) to[1] = static_cast<std::uint8_t>(bits >> 8);
}

// a + b = sum + error, exactly (Knuth). The error of an Inf is NaN.
inline Vec two_sum(Vec a, Vec b, Vec& error) {
  const Vec sum = a + b, from_b = sum - a;
  error = (a - (sum - from_b)) + (b - from_b);
  return sum;
}

// The sum of all lanes of hi + lo, in one fixed tree: the upper half folded upon the lower, four
// times.
template <std::ptrdiff_t half>
inline void fold(double* hi, double* lo) {
  for (std::ptrdiff_t i = 0; i < half; ++i) {
    const double a = hi[i], b = hi[i + half], sum = a + b, from_b = sum - a;
    lo[i] += lo[i + half] + ((a - (sum - from_b)) + (b - from_b));
    hi[i] = sum;
  }
}
inline PairSum sum_lanes(Vec high, Vec low) {
  double hi[kLanes], lo[kLanes];
  store(hi, high);
  store(lo, low);
  fold<8>(hi, lo);
  fold<4>(hi, lo);
  fold<2>(hi, lo);
  fold<1>(hi, lo);
  return {hi[0], lo[0]};
}
inline double sum(Vec v) {
  const PairSum s = sum_lanes(v, splat(0));
  return s.hi;
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
