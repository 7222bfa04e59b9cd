// The SIMD alphabet in float32: Single, the same 16 lanes, for maps of float32 tensors and halves,
// whose bound leaves room for the few roundings they make.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

#if defined(BNPP_SCALAR) || !defined(__GNUC__)
constexpr int kSingleLanes = 1;
using SinglePart = float;
using SingleBits = bool;
inline unsigned to_bits_single(SingleBits m) { return m; }
inline SingleBits single_bits(unsigned bits, int from) { return bits >> from & 1u; }
inline SinglePart magnitude_of(SinglePart p) { return __builtin_fabsf(p); }
inline unsigned less_bits(SinglePart a, SinglePart b) { return a < b; }
#else
#if defined(__AVX512F__)
constexpr int kSingleLanes = 16;
#elif defined(__AVX__)
constexpr int kSingleLanes = 8;
#else
constexpr int kSingleLanes = 4;
#endif
typedef float SinglePart __attribute__((vector_size(kSingleLanes * sizeof(float))));
typedef std::int32_t SingleBits __attribute__((vector_size(kSingleLanes * sizeof(float))));

inline unsigned to_bits_single(SingleBits m) {
#if defined(__AVX512F__)
  return static_cast<unsigned>(_mm512_movepi32_mask(reinterpret_cast<__m512i>(m)));
#elif defined(__AVX__)
  return static_cast<unsigned>(_mm256_movemask_ps(reinterpret_cast<__m256>(m)));
#elif defined(__SSE2__)
  return static_cast<unsigned>(_mm_movemask_ps(reinterpret_cast<__m128>(m)));
#else
  unsigned bits = 0;
  for (int i = 0; i < kSingleLanes; ++i) bits |= (m[i] ? 1u : 0u) << i;
  return bits;
#endif
}
// The lanes whose bit is set, of the kSingleLanes bits that begin at `from`.
inline SingleBits single_bits(unsigned bits, int from) {
  SingleBits lane_bit;
  for (int i = 0; i < kSingleLanes; ++i) lane_bit[i] = std::int32_t{1} << (from + i);
  const SingleBits all = (SingleBits{} + static_cast<std::int32_t>(bits)) & lane_bit;
  return all == lane_bit;
}
inline SinglePart magnitude_of(SinglePart p) {
  return reinterpret_cast<SinglePart>(reinterpret_cast<SingleBits>(p) & 0x7fffffff);
}
inline unsigned less_bits(SinglePart a, SinglePart b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_LT_OQ);
#else
  return to_bits_single(a < b);
#endif
}
#endif
constexpr int kSingles = kLanes / kSingleLanes;

struct Single {
  SinglePart p[kSingles];
};
struct SingleMask {
  SingleBits p[kSingles];
};

inline Single splat_single(float v) {
  Single r;
  for (int i = 0; i < kSingles; ++i) r.p[i] = v - SinglePart{};
  return r;
}
inline Single operator+(Single a, Single b) {
  for (int i = 0; i < kSingles; ++i) a.p[i] = a.p[i] + b.p[i];
  return a;
}
inline Single operator-(Single a, Single b) {
  for (int i = 0; i < kSingles; ++i) a.p[i] = a.p[i] - b.p[i];
  return a;
}
inline Single operator*(Single a, Single b) {
  for (int i = 0; i < kSingles; ++i) a.p[i] = a.p[i] * b.p[i];
  return a;
}
inline Single choose(SingleMask m, Single a, Single b) {
  for (int i = 0; i < kSingles; ++i) a.p[i] = m.p[i] ? a.p[i] : b.p[i];
  return a;
}
// |a|
inline Single magnitude(Single a) {
  for (int i = 0; i < kSingles; ++i) a.p[i] = magnitude_of(a.p[i]);
  return a;
}
// max(a, 0), which keeps NaN.
inline Single relu(Single a) {
  for (int i = 0; i < kSingles; ++i) a.p[i] = a.p[i] <= 0.0f ? SinglePart{} : a.p[i];
  return a;
}
// Bit by bit, whether a < b.
inline unsigned bits_of_less(Single a, Single b) {
  unsigned bits = 0;
  for (int i = 0; i < kSingles; ++i) bits |= less_bits(a.p[i], b.p[i]) << (i * kSingleLanes);
  return bits;
}

// a * b + c, rounded once.
#if defined(__AVX512F__)
inline SinglePart fused(SinglePart a, SinglePart b, SinglePart c) {
  return reinterpret_cast<SinglePart>(_mm512_fmadd_ps(
      reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
}
#elif defined(__FMA__)
inline SinglePart fused(SinglePart a, SinglePart b, SinglePart c) {
  return reinterpret_cast<SinglePart>(_mm256_fmadd_ps(
      reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
}
#elif defined(BNPP_SCALAR) || !defined(__GNUC__)
inline float fused_single(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#else
// Float64 holds the product exactly; where it rounds the sum, the last bit says so: a sum that lies
// between two floats, or on one, still does.
inline Part sum_to_odd(Part p, Part c) {
  const Part sum = p + c, from_c = sum - p;
  const Part error = (p - (sum - from_c)) + (c - from_c);
  const PartBits lost = error * error > 0.0;  // not of Inf and NaN, whose error is NaN
  const PartBits above = (error < 0.0) ^ (sum < 0.0);
  const PartBits bits = reinterpret_cast<PartBits>(sum);
  return reinterpret_cast<Part>((bits + (above & lost)) | (lost & 1));
}
inline SinglePart fused(SinglePart a, SinglePart b, SinglePart c) {
  SinglePart r;
  for (int i = 0; i < kSingleLanes; i += kPartLanes) {
    Narrow<float> x, y, z;
    __builtin_memcpy(&x, reinterpret_cast<const char*>(&a) + i * sizeof(float), sizeof(x));
    __builtin_memcpy(&y, reinterpret_cast<const char*>(&b) + i * sizeof(float), sizeof(y));
    __builtin_memcpy(&z, reinterpret_cast<const char*>(&c) + i * sizeof(float), sizeof(z));
    x = narrow<float>(sum_to_odd(widen<float>(x) * widen<float>(y), widen<float>(z)));
    __builtin_memcpy(reinterpret_cast<char*>(&r) + i * sizeof(float), &x, sizeof(x));
  }
  return r;
}
#endif
inline Single fused(Single a, Single b, Single c) {
#if defined(BNPP_SCALAR) || !defined(__GNUC__)
  for (int i = 0; i < kSingles; ++i) a.p[i] = fused_single(a.p[i], b.p[i], c.p[i]);
#else
  for (int i = 0; i < kSingles; ++i) a.p[i] = fused(a.p[i], b.p[i], c.p[i]);
#endif
  return a;
}

inline Single load_single(const float* from, Full = {}) {
  Single r;
  for (int i = 0; i < kSingles; ++i) {
    __builtin_memcpy(&r.p[i], from + i * kSingleLanes, sizeof(r.p[i]));
  }
  return r;
}
inline void store(float* to, Single v, Full = {}) {
  for (int i = 0; i < kSingles; ++i) {
    __builtin_memcpy(to + i * kSingleLanes, &v.p[i], sizeof(v.p[i]));
  }
}
// The first n > 0 lanes of one part, or all: the others 0, or not stored.
#if defined(__AVX512F__)
inline __mmask16 first_singles(std::ptrdiff_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
inline SinglePart load_first_singles(const float* from, std::ptrdiff_t n) {
  return reinterpret_cast<SinglePart>(_mm512_maskz_loadu_ps(first_singles(n), from));
}
inline void store_first_singles(float* to, SinglePart v, std::ptrdiff_t n) {
  _mm512_mask_storeu_ps(to, first_singles(n), reinterpret_cast<__m512>(v));
}
#elif defined(__AVX2__)
inline __m256i first_singles(std::ptrdiff_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline SinglePart load_first_singles(const float* from, std::ptrdiff_t n) {
  return reinterpret_cast<SinglePart>(_mm256_maskload_ps(from, first_singles(n)));
}
inline void store_first_singles(float* to, SinglePart v, std::ptrdiff_t n) {
  _mm256_maskstore_ps(to, first_singles(n), reinterpret_cast<__m256>(v));
}
#else
inline std::size_t bytes_of_singles(std::ptrdiff_t n) {
  return static_cast<std::size_t>(n < kSingleLanes ? n : kSingleLanes) * sizeof(float);
}
inline SinglePart load_first_singles(const float* from, std::ptrdiff_t n) {
  SinglePart v = {};
  __builtin_memcpy(&v, from, bytes_of_singles(n));
  return v;
}
inline void store_first_singles(float* to, SinglePart v, std::ptrdiff_t n) {
  __builtin_memcpy(to, &v, bytes_of_singles(n));
}
#endif
// The untouched lanes are 0.
inline Single load_single(const float* from, Some some) {
  Single r;
  for (int i = 0; i < kSingles; ++i) {
    const std::ptrdiff_t n = some.n - i * kSingleLanes;
    r.p[i] = n > 0 ? load_first_singles(from + i * kSingleLanes, n) : SinglePart{};
  }
  return r;
}
inline void store(float* to, Single v, Some some) {
  for (int i = 0; i < kSingles; ++i) {
    const std::ptrdiff_t n = some.n - i * kSingleLanes;
    if (n > 0) store_first_singles(to + i * kSingleLanes, v.p[i], n);
  }
}

// Past the caches, under the rules of the stream of a Vec.
inline void stream(float* to, Single v) {
  for (int i = 0; i < kSingles; ++i) {
#if defined(__AVX512F__)
    _mm512_stream_ps(to + i * kSingleLanes, reinterpret_cast<__m512>(v.p[i]));
#elif defined(__AVX__)
    _mm256_stream_ps(to + i * kSingleLanes, reinterpret_cast<__m256>(v.p[i]));
#elif defined(__SSE2__) && !defined(BNPP_SCALAR)
    _mm_stream_ps(to + i * kSingleLanes, reinterpret_cast<__m128>(v.p[i]));
#else
    store(to + i * kSingleLanes, v);  // not to be called
#endif
  }
}

// What kernels of either arithmetic say: V is Vec or Single.
template <class V>
struct Arithmetic;
template <>
struct Arithmetic<Vec> {
  using Number = double;
  static constexpr int parts = kParts;
  static constexpr bool is_single = false;
  static Vec splat_number(double v) { return splat(v); }
  template <class T, class Lanes>
  static Vec load_from(const T* from, Lanes lanes) {
    return load(from, lanes);
  }
  static Mask mask(unsigned bits) { return mask_from_bits(bits); }
};
template <>
struct Arithmetic<Single> {
  using Number = float;
  static constexpr int parts = kSingles;
  static constexpr bool is_single = true;
  static Single splat_number(double v) { return splat_single(static_cast<float>(v)); }
  template <class T, class Lanes>
  static Single load_from(const T* from, Lanes lanes) {
    return load_single(from, lanes);
  }
  static SingleMask mask(unsigned bits) {
    SingleMask m;
    for (int i = 0; i < kSingles; ++i) m.p[i] = single_bits(bits, i * kSingleLanes);
    return m;
  }
};

inline unsigned positive_bits(Single v) { return bits_of_less(splat_single(0), v); }
inline Single keep(Single v, unsigned bits) {
#if defined(__AVX512F__)
  v.p[0] = reinterpret_cast<SinglePart>(
      _mm512_maskz_mov_ps(static_cast<__mmask16>(bits), reinterpret_cast<__m512>(v.p[0])));
  return v;
#else
  return choose(Arithmetic<Single>::mask(bits), v, splat_single(0));
#endif
}

// Loaded as what the first argument is.
template <class V, class T, class Lanes>
inline V load_like(const V&, const T* from, Lanes lanes) {
  return Arithmetic<V>::load_from(from, lanes);
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
