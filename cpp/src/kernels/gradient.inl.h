// The gradient that a ReLU let through, by its bits.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// g where its bit is set, else 0.
template <class V, class Lanes>
inline V masked(V g, const std::uint8_t* mask, Lanes lanes) {
  return choose(Arithmetic<V>::mask(load_bits(mask, lanes)), g, Arithmetic<V>::splat_number(0));
}

template <class T, bool has_mask, class Lanes>
inline Vec masked_gradient(const T* dy, const std::uint8_t* mask, Lanes lanes) {
  const Vec g = load(dy, lanes);
  if constexpr (has_mask) return masked(g, mask, lanes);
  return g;
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
