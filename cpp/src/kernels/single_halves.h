// Halves as Single: widened exactly when loaded, rounded to nearest, ties to even, when stored.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// One part from its halves, and to them.
template <class T>
SinglePart load_halves(const T* from);
template <class T>
void store_halves(T* to, SinglePart part);

#if defined(BNPP_SCALAR) || !defined(__GNUC__)
template <class T>
inline SinglePart load_halves(const T* from) {
  return static_cast<float>(to_double(*from));
}
template <class T>
inline void store_halves(T* to, SinglePart part) {
  *to = from_double<T>(static_cast<double>(part));
}
#elif defined(__AVX512BW__)
template <>
inline SinglePart load_halves(const bfloat16* from) {
  // Each half into the upper half of a word, by one shuffle.
  const __m512i to =
      _mm512_set_epi32(0xf0000, 0xe0000, 0xd0000, 0xc0000, 0xb0000, 0xa0000, 0x90000, 0x80000,
                       0x70000, 0x60000, 0x50000, 0x40000, 0x30000, 0x20000, 0x10000, 0);
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return reinterpret_cast<SinglePart>(
      _mm512_maskz_permutexvar_epi16(0xaaaaaaaa, to, _mm512_castsi256_si512(bits)));
}
template <>
inline SinglePart load_halves(const float16* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return reinterpret_cast<SinglePart>(_mm512_cvtph_ps(bits));
}
inline __m256i narrow_single(const bfloat16*, SinglePart part) {
  return narrow_whole(reinterpret_cast<__m512>(part));
}
inline __m256i narrow_single(const float16*, SinglePart part) {
  return _mm512_cvtps_ph(reinterpret_cast<__m512>(part), _MM_FROUND_TO_NEAREST_INT);
}
template <class T>
inline void store_halves(T* to, SinglePart part) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow_single(to, part));
}
#else
typedef std::uint32_t SingleWords __attribute__((vector_size(kSingleLanes * sizeof(float))));
// The upper half of each word, rounded; in the lower half of the word.
inline SingleWords to_bfloat16(SinglePart part) {
  const SingleWords bits = reinterpret_cast<SingleWords>(part);
  const SingleWords rounded = (bits + (0x7fff + (bits >> 16 & 1))) >> 16;
  return part != part ? bits >> 16 | 0x40 : rounded;
}
#if defined(__F16C__) && defined(__AVX2__)
template <>
inline SinglePart load_halves(const bfloat16* from) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  const __m256i to = _mm256_setr_epi16(-1, 0x100, -1, 0x302, -1, 0x504, -1, 0x706, -1, 0x908, -1,
                                       0xb0a, -1, 0xd0c, -1, 0xf0e);
  return reinterpret_cast<SinglePart>(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bits), to));
}
template <>
inline SinglePart load_halves(const float16* from) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return reinterpret_cast<SinglePart>(_mm256_cvtph_ps(bits));
}
template <>
inline void store_halves(bfloat16* to, SinglePart part) {
  const __m256i words = reinterpret_cast<__m256i>(to_bfloat16(part));
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(to),
      _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
template <>
inline void store_halves(float16* to, SinglePart part) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm256_cvtps_ph(reinterpret_cast<__m256>(part), _MM_FROUND_TO_NEAREST_INT));
}
#else
// Not inlined for the reason of narrow_lanes.
template <class T>
__attribute__((noinline)) SinglePart load_halves(const T* from) {
  SinglePart part;
  for (int i = 0; i < kSingleLanes; ++i) part[i] = static_cast<float>(to_double(from[i]));
  return part;
}
template <class T>
__attribute__((noinline)) void store_halves(T* to, SinglePart part) {
  for (int i = 0; i < kSingleLanes; ++i) to[i] = from_double<T>(static_cast<double>(part[i]));
}
#if defined(__SSE2__)
template <>
inline SinglePart load_halves(const bfloat16* from) {
  const __m128i bits = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return reinterpret_cast<SinglePart>(_mm_unpacklo_epi16(__m128i{}, bits));
}
template <>
inline void store_halves(bfloat16* to, SinglePart part) {
  // Signed, as SSE2 packs words no other way.
  const __m128i words = _mm_slli_epi32(reinterpret_cast<__m128i>(to_bfloat16(part)), 16);
  const __m128i upper = _mm_srai_epi32(words, 16);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packs_epi32(upper, upper));
}
#endif
#endif
#endif

template <class T>
inline Single load_single(const T* from, Full = {}) {
  Single r;
  for (int i = 0; i < kSingles; ++i) r.p[i] = load_halves(from + i * kSingleLanes);
  return r;
}
template <class T>
inline void store(T* to, Single v, Full = {}) {
  for (int i = 0; i < kSingles; ++i) store_halves(to + i * kSingleLanes, v.p[i]);
}
// The first n > 0 lanes; the others 0, or not stored.
template <class T>
inline Single load_single(const T* from, Some some) {
  T buffer[kLanes] = {};
  copy_some<kLanes>(buffer, from, some.n);
  return load_single(buffer);
}
template <class T>
inline void store(T* to, Single v, Some some) {
  T buffer[kLanes];
  store(buffer, v);
  copy_some<kLanes>(to, buffer, some.n);
}
template <class T>
inline void stream(T* to, Single v) {
#if defined(__AVX512F__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), narrow_single(to, v.p[0]));
#else
  stream_pieces(to, v);
#endif
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
