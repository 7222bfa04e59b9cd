// float16 (IEEE 754 binary16) and bfloat16 (float32's upper half) as plain 16-bit types, and their
// conversions to and from double: exact one way; the other to float first and then to nearest, ties
// to even, which is what processors have instructions for. That misses the nearest by 2^-13 of a
// unit in the last place at most.
#pragma once

#include <cstdint>
#include <cstring>

namespace bnpp {

struct float16 {
  std::uint16_t bits;
};
struct bfloat16 {
  std::uint16_t bits;
};

// Internal linkage, so that no instruction set's copy of a function can become everybody's.
namespace {

template <class To, class From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same size is needed");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

template <class T>
inline double to_double(T value) {
  return static_cast<double>(value);
}
template <>
inline double to_double(float16 value) {
  const std::uint64_t half = value.bits, magnitude = (half & 0x7fff) << 42;
  const double scaled = bits_as<double>(magnitude) * 0x1p1008;  // subnormals too
  std::uint64_t bits = bits_as<std::uint64_t>(scaled) | (half & 0x8000) << 48;
  if ((half & 0x7c00) == 0x7c00) bits |= std::uint64_t{0x7ff} << 52;
  return bits_as<double>(bits);
}
template <>
inline double to_double(bfloat16 value) {
  return bits_as<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

template <class T>
inline T from_double(double value) {
  return static_cast<T>(value);
}
template <>
inline float16 from_double(double value) {
  value = static_cast<double>(static_cast<float>(value));
  const std::uint64_t bits = bits_as<std::uint64_t>(value), sign = bits >> 48 & 0x8000;
  const std::uint64_t magnitude = bits & ~(std::uint64_t{1} << 63);
  std::uint64_t half;
  if (magnitude > std::uint64_t{0x7ff} << 52) {
    half = 0x7e00;  // NaN
  } else if (magnitude < std::uint64_t{1023 - 14} << 52) {
    constexpr double magic = 0x1p28;  // whose last bit is the smallest subnormal
    half = bits_as<std::uint64_t>(bits_as<double>(magnitude) + magic) & 0xffff;
  } else {
    const std::uint64_t even = magnitude >> 42 & 1;
    half = ((magnitude + 0x1ffffffffff + even) >> 42) - (std::uint64_t{1023 - 15} << 10);
    if (half > 0x7c00) half = 0x7c00;
  }
  return {static_cast<std::uint16_t>(sign | half)};
}
template <>
inline bfloat16 from_double(double value) {
  const auto narrow = static_cast<float>(value);
  const std::uint32_t bits = bits_as<std::uint32_t>(narrow);
  if (narrow != narrow) return {static_cast<std::uint16_t>(bits >> 16 | 0x40)};
  return {static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

}  // namespace
}  // namespace bnpp
