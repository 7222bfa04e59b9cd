// One register of float64 lanes, Part, and how each dtype is loaded into it and stored from it.
// With vec.h, which makes 16 lanes of several, and the two files of Single the only one that knows
// vector types and intrinsics.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

constexpr std::ptrdiff_t kLanes = 16;

#if defined(BNPP_SCALAR) || !defined(__GNUC__)
// Arrays instead of vectors: the plain table, and compilers without vector extensions.
constexpr int kPartLanes = 1;
constexpr int kParts = kLanes;
using Part = double;
template <class T>
using Narrow = T;  // the T's of one Part
using PartBits = bool;
inline PartBits positive(Part p) { return p > 0; }
inline Part choose(PartBits m, Part p, Part otherwise) { return m ? p : otherwise; }
inline Part magnitude(Part p) { return __builtin_fabs(p); }
inline unsigned to_bits(PartBits m) { return m; }
inline PartBits from_bits(unsigned bits, int from) { return bits >> from & 1u; }
template <class T>
inline Part widen(Narrow<T> n) {
  return to_double(n);
}
template <class T>
inline Narrow<T> narrow(Part p) {
  return from_double<T>(p);
}
inline Part spread(double v) { return v; }
template <int lane>
inline Part from_lane(Part p);  // not to be called
inline Part fused(Part a, Part b, Part c) { return __builtin_fma(a, b, c); }
inline Part root(Part a) { return __builtin_sqrt(a); }
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
typedef std::uint16_t HalfBits __attribute__((vector_size(kPartLanes * sizeof(std::uint16_t))));
typedef std::uint32_t FloatBits __attribute__((vector_size(kPartLanes * sizeof(std::uint32_t))));
template <>
struct NarrowOf<float16> {
  typedef HalfBits type;
};
template <>
struct NarrowOf<bfloat16> {
  typedef HalfBits type;
};
template <class T>
using Narrow = typename NarrowOf<T>::type;

inline PartBits positive(Part p) { return p > 0.0; }
inline Part choose(PartBits m, Part p, Part otherwise) { return m ? p : otherwise; }
inline Part magnitude(Part p) {
  return reinterpret_cast<Part>(reinterpret_cast<PartBits>(p) & 0x7fffffffffffffff);
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
inline Part spread(double v) { return v - Part{}; }  // v + 0 would lose the sign of -0
// The lanes from `lane` on, those before after them.
template <int lane>
inline Part from_lane(Part p) {
#if defined(__AVX512F__)
  const auto v = reinterpret_cast<__m512d>(p);
  return reinterpret_cast<Part>(lane == 1   ? _mm512_permute_pd(v, 0x55)
                                : lane == 2 ? _mm512_shuffle_f64x2(v, v, 0x39)
                                            : _mm512_shuffle_f64x2(v, v, 0x4e));
#elif defined(__AVX__)
  const auto v = reinterpret_cast<__m256d>(p);
  return reinterpret_cast<Part>(lane == 1 ? _mm256_permute_pd(v, 0x5)
                                          : _mm256_permute2f128_pd(v, v, 0x01));
#else
  return Part{p[1], p[0]};
#endif
}
inline Part fused(Part a, Part b, Part c) {
#if defined(__AVX512F__)
  return reinterpret_cast<Part>(_mm512_fmadd_pd(
      reinterpret_cast<__m512d>(a), reinterpret_cast<__m512d>(b), reinterpret_cast<__m512d>(c)));
#elif defined(__FMA__)
  return reinterpret_cast<Part>(_mm256_fmadd_pd(
      reinterpret_cast<__m256d>(a), reinterpret_cast<__m256d>(b), reinterpret_cast<__m256d>(c)));
#else
  for (int i = 0; i < kPartLanes; ++i) a[i] = __builtin_fma(a[i], b[i], c[i]);
  return a;
#endif
}
inline Part root(Part a) {
#if defined(__AVX512F__)
  return reinterpret_cast<Part>(_mm512_sqrt_pd(reinterpret_cast<__m512d>(a)));
#elif defined(__AVX__)
  return reinterpret_cast<Part>(_mm256_sqrt_pd(reinterpret_cast<__m256d>(a)));
#else
  for (int i = 0; i < kPartLanes; ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
#endif
}

template <class T>
inline Part widen(Narrow<T> n) {
  return __builtin_convertvector(n, Part);
}
template <class T>
inline Narrow<T> narrow(Part p) {
  return __builtin_convertvector(p, Narrow<T>);
}
// g++ 12 makes two half conversions of one, through memory, or one of each element.
#if defined(__AVX512F__)
template <>
inline Part widen<float>(Narrow<float> n) {
  return reinterpret_cast<Part>(_mm512_maskz_cvtps_pd(0xff, reinterpret_cast<__m256>(n)));
}
#elif defined(__AVX__)
template <>
inline Part widen<float>(Narrow<float> n) {
  return reinterpret_cast<Part>(_mm256_cvtps_pd(reinterpret_cast<__m128>(n)));
}
template <>
inline Narrow<float> narrow<float>(Part p) {
  return reinterpret_cast<Narrow<float>>(_mm256_cvtpd_ps(reinterpret_cast<__m256d>(p)));
}
#elif defined(__SSE2__)
template <>
inline Part widen<float>(Narrow<float> n) {
  const __m128i bits = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(&n));
  return reinterpret_cast<Part>(_mm_cvtps_pd(_mm_castsi128_ps(bits)));
}
template <>
inline Narrow<float> narrow<float>(Part p) {
  const __m128 low = _mm_cvtpd_ps(reinterpret_cast<__m128d>(p));
  Narrow<float> n;
  __builtin_memcpy(&n, &low, sizeof(n));
  return n;
}
#endif

#if defined(__F16C__)
// g++ 12 converts vectors of 16 and 32 bits element by element.
inline HalfBits narrow_bits(FloatBits w) {
#if defined(__AVX512F__)
  const __m128i bits = _mm256_cvtepi32_epi16(reinterpret_cast<__m256i>(w));
#else
  const __m128i bits = _mm_packus_epi32(reinterpret_cast<__m128i>(w), __m128i{});
#endif
  HalfBits n;
  __builtin_memcpy(&n, &bits, sizeof(n));
  return n;
}
template <>
inline Part widen<bfloat16>(HalfBits n) {
  // Each half into the upper half of a word, by one shuffle.
  __m128i bits = {};
  __builtin_memcpy(&bits, &n, sizeof(n));
#if defined(__AVX512F__)
  const __m256i to = _mm256_setr_epi16(-1, 0x100, -1, 0x302, -1, 0x504, -1, 0x706, -1, 0x908, -1,
                                       0xb0a, -1, 0xd0c, -1, 0xf0e);
  return widen<float>(
      reinterpret_cast<Narrow<float>>(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bits), to)));
#else
  const __m128i to = _mm_setr_epi16(-1, 0x100, -1, 0x302, -1, 0x504, -1, 0x706);
  return widen<float>(reinterpret_cast<Narrow<float>>(_mm_shuffle_epi8(bits, to)));
#endif
}
template <>
inline HalfBits narrow<bfloat16>(Part p) {
  const Narrow<float> wide = narrow<float>(p);
  const FloatBits bits = reinterpret_cast<FloatBits>(wide);
  const FloatBits rounded = (bits + (0x7fff + (bits >> 16 & 1))) >> 16;
  return narrow_bits(wide != wide ? bits >> 16 | 0x40 : rounded);
}
template <>
inline Part widen<float16>(HalfBits n) {
  __m128i half = {};
  __builtin_memcpy(&half, &n, sizeof(n));
#if defined(__AVX512F__)
  return widen<float>(reinterpret_cast<Narrow<float>>(_mm256_cvtph_ps(half)));
#else
  return widen<float>(reinterpret_cast<Narrow<float>>(_mm_cvtph_ps(half)));
#endif
}
template <>
inline HalfBits narrow<float16>(Part p) {
  const Narrow<float> wide = narrow<float>(p);
#if defined(__AVX512F__)
  const __m128i half = _mm256_cvtps_ph(reinterpret_cast<__m256>(wide), _MM_FROUND_TO_NEAREST_INT);
#else
  const __m128i half = _mm_cvtps_ph(reinterpret_cast<__m128>(wide), _MM_FROUND_TO_NEAREST_INT);
#endif
  HalfBits n;
  __builtin_memcpy(&n, &half, sizeof(n));
  return n;
}
#else
// By the formulas of half.h.
template <>
inline Part widen<bfloat16>(HalfBits n) {
  const FloatBits bits = __builtin_convertvector(n, FloatBits) << 16;
  return widen<float>(reinterpret_cast<Narrow<float>>(bits));
}
template <>
inline Part widen<float16>(HalfBits n) {
  const PartBits half = __builtin_convertvector(n, PartBits);
  const PartBits magnitude = (half & 0x7fff) << 42;
  const Part scaled = reinterpret_cast<Part>(magnitude) * 0x1p1008;
  const PartBits no_number = ((half & 0x7c00) == 0x7c00) & std::int64_t{0x7ff} << 52;
  return reinterpret_cast<Part>(reinterpret_cast<PartBits>(scaled) | (half & 0x8000) << 48 |
                                no_number);
}
#endif
#endif

// Where the instruction set can: the first n lanes of one part, the others 0 or not stored.
template <class T>
constexpr bool kHasMaskedAccess = false;
template <class T>
Narrow<T> load_first(const T* from, int n);
template <class T>
void store_first(T* to, Narrow<T> part, int n);
#if defined(__AVX2__)
template <>
constexpr bool kHasMaskedAccess<float> = true;
template <>
constexpr bool kHasMaskedAccess<double> = true;
#endif
#if defined(__AVX512F__)
inline __mmask8 first_lanes(int n) { return static_cast<__mmask8>((1u << n) - 1u); }
template <>
constexpr bool kHasMaskedAccess<float16> = true;
template <>
constexpr bool kHasMaskedAccess<bfloat16> = true;
inline HalfBits load_first_halves(const void* from, int n) {
  return reinterpret_cast<HalfBits>(_mm_maskz_loadu_epi16(first_lanes(n), from));
}
inline void store_first_halves(void* to, HalfBits part, int n) {
  _mm_mask_storeu_epi16(to, first_lanes(n), reinterpret_cast<__m128i>(part));
}
template <>
inline Narrow<float16> load_first(const float16* from, int n) {
  return load_first_halves(from, n);
}
template <>
inline Narrow<bfloat16> load_first(const bfloat16* from, int n) {
  return load_first_halves(from, n);
}
template <>
inline void store_first(float16* to, Narrow<float16> part, int n) {
  store_first_halves(to, part, n);
}
template <>
inline void store_first(bfloat16* to, Narrow<bfloat16> part, int n) {
  store_first_halves(to, part, n);
}
template <>
inline Narrow<float> load_first(const float* from, int n) {
  return reinterpret_cast<Narrow<float>>(_mm256_maskz_loadu_ps(first_lanes(n), from));
}
template <>
inline Narrow<double> load_first(const double* from, int n) {
  return reinterpret_cast<Narrow<double>>(_mm512_maskz_loadu_pd(first_lanes(n), from));
}
template <>
inline void store_first(float* to, Narrow<float> part, int n) {
  _mm256_mask_storeu_ps(to, first_lanes(n), reinterpret_cast<__m256>(part));
}
template <>
inline void store_first(double* to, Narrow<double> part, int n) {
  _mm512_mask_storeu_pd(to, first_lanes(n), reinterpret_cast<__m512d>(part));
}
#elif defined(__AVX2__)
inline __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
inline __m128i first_narrow_lanes(int n) {
  return _mm_cmpgt_epi32(_mm_set1_epi32(n), _mm_setr_epi32(0, 1, 2, 3));
}
template <>
inline Narrow<float> load_first(const float* from, int n) {
  return reinterpret_cast<Narrow<float>>(_mm_maskload_ps(from, first_narrow_lanes(n)));
}
template <>
inline Narrow<double> load_first(const double* from, int n) {
  return reinterpret_cast<Narrow<double>>(_mm256_maskload_pd(from, first_lanes(n)));
}
template <>
inline void store_first(float* to, Narrow<float> part, int n) {
  _mm_maskstore_ps(to, first_narrow_lanes(n), reinterpret_cast<__m128>(part));
}
template <>
inline void store_first(double* to, Narrow<double> part, int n) {
  _mm256_maskstore_pd(to, first_lanes(n), reinterpret_cast<__m256d>(part));
}
#endif

// How many lanes an access touches: all, or the first n > 0.
struct Full {
  static constexpr bool whole = true;
};
struct Some {
  static constexpr bool whole = false;
  std::ptrdiff_t n;
};

// n items, `most` at most, without a call.
template <std::ptrdiff_t piece, std::ptrdiff_t most, class T>
inline void copy_piece(T*& to, const T*& from, std::ptrdiff_t n) {
  if constexpr (piece <= most) {
    if ((n & piece) == 0) return;
    __builtin_memcpy(to, from, piece * sizeof(T));
    to += piece;
    from += piece;
  }
}
template <std::ptrdiff_t most, class T>
inline void copy_some(T* to, const T* from, std::ptrdiff_t n) {
  copy_piece<16, most>(to, from, n);
  copy_piece<8, most>(to, from, n);
  copy_piece<4, most>(to, from, n);
  copy_piece<2, most>(to, from, n);
  copy_piece<1, most>(to, from, n);
}

// One part, or what there is of it: the others are 0, or not stored.
template <class T>
inline Part load_part(const T* from, Full = {}) {
  Narrow<T> part;
  __builtin_memcpy(&part, from, sizeof(part));
  return widen<T>(part);
}
template <class T>
inline Part load_part(const T* from, Some some) {
  if (some.n >= kPartLanes) return load_part(from);
  if constexpr (kHasMaskedAccess<T>) {
    return widen<T>(load_first<T>(from, static_cast<int>(some.n)));
  } else {
    T buffer[kPartLanes] = {};
    copy_some<kPartLanes - 1>(buffer, from, some.n);
    return load_part(buffer);
  }
}
inline void store_part(double* to, Part part, Full = {}) {
  __builtin_memcpy(to, &part, sizeof(part));
}
inline void store_part(double* to, Part part, Some some) {
  if (some.n >= kPartLanes) return store_part(to, part);
  double buffer[kPartLanes];
  store_part(buffer, part);
  copy_some<kPartLanes - 1>(to, buffer, some.n);
}
// The first n lanes of v, and 0 in the others.
inline Part first_of(Part v, Full) { return v; }
inline Part first_of(Part v, Some some) {
  return some.n >= kPartLanes ? v : choose(from_bits((1u << some.n) - 1u, 0), v, spread(0));
}
// v where its bit is set, else 0.
inline Part keep(Part v, unsigned bits) {
#if defined(__AVX512F__)
  return reinterpret_cast<Part>(
      _mm512_maskz_mov_pd(static_cast<__mmask8>(bits), reinterpret_cast<__m512d>(v)));
#else
  return choose(from_bits(bits, 0), v, spread(0));
#endif
}
inline PartBits finite(Part v) { return v - v == 0.0; }
}  // namespace
}  // namespace bnpp::BNPP_ISA
