// The SIMD alphabet: Vec, 16 logical float64 lanes on every instruction set.
// Sixteen lanes everywhere, no fused multiply-add but those that are named, and one fixed tree for
// horizontal sums are what makes the bits of all instruction sets agree.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

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
inline Vec operator/(Vec a, Vec b) {
  for (int i = 0; i < kParts; ++i) a.p[i] = a.p[i] / b.p[i];
  return a;
}
// a * b + c, rounded once.
inline Vec fused(Vec a, Vec b, Vec c) {
  for (int i = 0; i < kParts; ++i) a.p[i] = fused(a.p[i], b.p[i], c.p[i]);
  return a;
}
inline Vec root(Vec a) {
  for (int i = 0; i < kParts; ++i) a.p[i] = root(a.p[i]);
  return a;
}
inline Mask positive(Vec a) {
  Mask m;
  for (int i = 0; i < kParts; ++i) m.p[i] = positive(a.p[i]);
  return m;
}
// a where the mask is set, else b.
inline Vec choose(Mask m, Vec a, Vec b) {
  for (int i = 0; i < kParts; ++i) a.p[i] = choose(m.p[i], a.p[i], b.p[i]);
  return a;
}
// |a|
inline Vec magnitude(Vec a) {
  for (int i = 0; i < kParts; ++i) a.p[i] = magnitude(a.p[i]);
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
inline Mask is_zero(Vec a) {
  Mask m;
  for (int i = 0; i < kParts; ++i) m.p[i] = a.p[i] == 0.0;
  return m;
}
inline unsigned to_bits(Mask m) {
  unsigned bits = 0;
  for (int i = 0; i < kParts; ++i) bits |= to_bits(m.p[i]) << (i * kPartLanes);
  return bits;
}
inline Mask mask_from_bits(unsigned bits) {
  Mask m;

  for (int i = 0; i < kParts; ++i) m.p[i] = from_bits(bits, i * kPartLanes);
  return m;
}

inline double first_lane(Vec v) {
  double lanes[kPartLanes];
  __builtin_memcpy(lanes, &v.p[0], sizeof(lanes));
  return lanes[0];
}

#if defined(__F16C__)
template <class T>
constexpr bool kLaneByLane = false;
#else
// Without instructions for halves: rounded by the scalar conversions of half.h, and not inlined, or
// most of the code would be these.
template <class T>
constexpr bool kLaneByLane = sizeof(T) == sizeof(float16);
template <class T>
__attribute__((noinline)) void narrow_lanes(const double* from, T* to) {
  for (std::ptrdiff_t i = 0; i < kLanes; ++i) to[i] = from_double<T>(from[i]);
}
#endif

// Where the instruction set can: all sixteen bfloat16 rounded in one register, half the
// instructions of two parts. float16, whose conversions are single instructions, is faster in
// parts.
template <class T>
constexpr bool kStoredWhole = false;
template <class T>
void store_whole(T* to, Vec v);
template <class T>
void stream_whole(T* to, Vec v);
#if defined(__AVX512F__)
template <>
constexpr bool kStoredWhole<bfloat16> = true;
// g++ 12 makes more instructions of the portable form.
inline __m256i narrow_whole(__m512 wide) {
  const __m512i bits = _mm512_castps_si512(wide), one = _mm512_set1_epi32(1);
  const __m512i half = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
  const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  const __m512i rounded = _mm512_mask_add_epi32(half, odd, half, one);
  const __mmask16 nan = _mm512_cmp_ps_mask(wide, wide, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_set1_epi32(0x400000);
  const __m512i upper = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0x1f001d, 0x1b0019, 0x170015,
                                         0x130011, 0xf000d, 0xb0009, 0x70005, 0x30001);
  return _mm512_castsi512_si256(
      _mm512_permutexvar_epi16(upper, _mm512_mask_or_epi32(rounded, nan, bits, quiet)));
}
inline __m256i narrow_whole(Vec v) {
  const __m256 low = reinterpret_cast<__m256>(narrow<float>(v.p[0]));
  const __m256 high = reinterpret_cast<__m256>(narrow<float>(v.p[1]));
  return narrow_whole(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
}
template <>
inline void store_whole(bfloat16* to, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow_whole(v));
}
template <>
inline void stream_whole(bfloat16* to, Vec v) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), narrow_whole(v));
}
#endif

template <class T>
inline Vec load(const T* from, Full = {}) {
  Vec r;
  for (int i = 0; i < kParts; ++i) r.p[i] = load_part(from + i * kPartLanes);
  return r;
}
template <class T>
inline void store(T* to, Vec v, Full = {}) {
  if constexpr (kStoredWhole<T>) {
    store_whole(to, v);
  } else if constexpr (kLaneByLane<T>) {
    double lanes[kLanes];
    store(lanes, v);
    narrow_lanes(lanes, to);
  } else {
    for (int i = 0; i < kParts; ++i) {
      const Narrow<T> part = narrow<T>(v.p[i]);
      __builtin_memcpy(to + i * kPartLanes, &part, sizeof(part));
    }
  }
}
// Of n lanes, those of part i.
inline int lanes_of_part(std::ptrdiff_t n, int i) {
  const auto left = static_cast<int>(n) - i * kPartLanes;
  return left < 0 ? 0 : left < kPartLanes ? left : kPartLanes;
}
// The untouched lanes are 0.
template <class T>
inline Vec load(const T* from, Some some) {
  if constexpr (kHasMaskedAccess<T>) {
    Vec r;
    for (int i = 0; i < kParts; ++i) {
      const int n = lanes_of_part(some.n, i);
      r.p[i] = n > 0 ? widen<T>(load_first<T>(from + i * kPartLanes, n)) : spread(0);
    }
    return r;
  } else {
    T buffer[kLanes] = {};
    copy_some<kLanes>(buffer, from, some.n);
    return load(buffer);
  }
}
template <class T>
inline void store(T* to, Vec v, Some some) {
  if constexpr (kHasMaskedAccess<T>) {
    for (int i = 0; i < kParts; ++i) {
      const int n = lanes_of_part(some.n, i);
      if (n > 0) store_first<T>(to + i * kPartLanes, narrow<T>(v.p[i]), n);
    }
  } else {
    T buffer[kLanes];
    store(buffer, v);
    copy_some<kLanes>(to, buffer, some.n);
  }
}
// v in the first n lanes, `rest` in the others.
inline Vec first_of(Vec v, std::ptrdiff_t n, Vec rest) {
  return choose(mask_from_bits((1u << n) - 1u), v, rest);
}
inline Vec first_of(Vec v, Full, Vec) { return v; }
inline Vec first_of(Vec v, Some some, Vec rest) { return first_of(v, some.n, rest); }

// The same past the caches, at an address that is a multiple of kStreamAlign, or of a vector of T
// where that is less; fence() ends a series.
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
// In pieces of 16 bytes, at any multiple of them: the lines that vectors cross are filled by
// the next one.
template <class T, class V>
inline void stream_pieces(T* to, V v) {
  constexpr std::size_t pieces = kLanes * sizeof(T) / sizeof(__m128i);
  alignas(64) T buffer[kLanes];
  store(buffer, v);
  __m128i* at = reinterpret_cast<__m128i*>(to);
  for (std::size_t k = 0; k < pieces; ++k) {
    __m128i piece;
    __builtin_memcpy(&piece, buffer + k * (sizeof(piece) / sizeof(T)), sizeof(piece));
    _mm_stream_si128(at + k, piece);
  }
}
template <class T>
inline void stream(T* to, Vec v) {
  if constexpr (kStoredWhole<T>) {
    stream_whole(to, v);
  } else if constexpr (sizeof(T) == sizeof(float16)) {
    stream_pieces(to, v);
  } else {
    for (int i = 0; i < kParts; ++i) stream_part(to + i * kPartLanes, narrow<T>(v.p[i]));
  }
}
inline void fence() { _mm_sfence(); }
#else
constexpr bool kCanStream = false;
template <class T>
void stream(T* to, Vec v);  // not to be called
template <class T, class V>
void stream_pieces(T* to, V v);
inline void fence() {}
#endif

// The line of an address, which need not be valid.
inline void prefetch(const void* address) {
#if defined(__GNUC__)
  __builtin_prefetch(address);
#endif
}

// v rounded to the nearest T.
template <class T>
inline Vec round_to(Vec v) {
  T buffer[kLanes];
  store(buffer, v);
  return load(buffer);
}

// One bit a column, column j in bit j % 8 of byte j / 8.
inline unsigned load_bits(const std::uint8_t* from, Full) {
  return static_cast<unsigned>(from[0] | from[1] << 8);
}
inline unsigned load_bits(const std::uint8_t* from, Some some) {
  return static_cast<unsigned>(some.n > 8 ? from[0] | from[1] << 8 : from[0]);
}
inline void store_bits(std::uint8_t* to, unsigned bits, Full) {
  const std::uint8_t bytes[] = {static_cast<std::uint8_t>(bits),
                                static_cast<std::uint8_t>(bits >> 8)};
  __builtin_memcpy(to, bytes, 2);
}
inline void store_bits(std::uint8_t* to, unsigned bits, Some some) {
  bits &= (1u << some.n) - 1u;
  to[0] = static_cast<std::uint8_t>(bits);
  if (some.n > 8) to[1] = static_cast<std::uint8_t>(bits >> 8);
}
// The lanes above 0, bit by bit; and v where its bit is set, else 0. g++ 12 makes a vector of a
// mask and a mask of that again where it is not told.
inline unsigned positive_bits(Vec v) {
#if defined(__AVX512F__)
  unsigned bits = 0;
  for (int i = 0; i < kParts; ++i) {
    const unsigned part =
        _mm512_cmp_pd_mask(reinterpret_cast<__m512d>(v.p[i]), _mm512_setzero_pd(), _CMP_GT_OQ);
    bits |= part << (i * kPartLanes);
  }
  return bits;
#else
  return to_bits(positive(v));
#endif
}
inline Vec keep(Vec v, unsigned bits) {
  for (int i = 0; i < kParts; ++i) v.p[i] = keep(v.p[i], bits >> (i * kPartLanes));
  return v;
}

// a + b = sum + error, exactly (Knuth). The error of an Inf is NaN.
inline Vec two_sum(Vec a, Vec b, Vec& error) {
  const Vec sum = a + b, from_b = sum - a;
  error = (a - (sum - from_b)) + (b - from_b);
  return sum;
}

// The upper half of the lanes folded upon the lower, of hi + lo.
inline void fold_part(Part& hi, Part& lo, Part upper_hi, Part upper_lo) {
  const Part sum = hi + upper_hi, from_upper = sum - hi;
  lo = lo + (upper_lo + ((hi - (sum - from_upper)) + (upper_hi - from_upper)));
  hi = sum;
}
template <int half>
inline void fold(Vec& hi, Vec& lo) {
  if constexpr (half >= kPartLanes) {
    constexpr int n = half / kPartLanes;
    for (int i = 0; i < n; ++i) fold_part(hi.p[i], lo.p[i], hi.p[i + n], lo.p[i + n]);
  } else {
    fold_part(hi.p[0], lo.p[0], from_lane<half>(hi.p[0]), from_lane<half>(lo.p[0]));
  }
}
// The sum of all lanes of hi + lo, in one fixed tree.
inline PairSum sum_lanes(Vec hi, Vec lo) {
  fold<8>(hi, lo);
  fold<4>(hi, lo);
  fold<2>(hi, lo);
  fold<1>(hi, lo);
  return {first_lane(hi), first_lane(lo)};
}
inline double sum(Vec v) { return sum_lanes(v, splat(0)).hi; }

}  // namespace
}  // namespace bnpp::BNPP_ISA
