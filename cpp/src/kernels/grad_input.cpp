// grad_input: dx = (a * g + c) + b * (x - center), with g = dy where the ReLU let the value
// through. Without x (frozen statistics) dx = a * g, so that an Inf in x cannot reach dx.
// In float32 or float64 as in affine.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class Element>
struct GradInput : GradientMapOf<Element, MapVec<Element>> {
  using T = Element;
  using V = MapVec<T>;
  static constexpr bool kPlain = true;

  GradInput(const GradInputTile& t, std::ptrdiff_t repeat) : GradientMapOf<T, V>(t, repeat) {
    if constexpr (Arithmetic<V>::is_single) {
      const std::ptrdiff_t n = this->channels();
      this->all_fit = all_in_range(t.a, n) &&
                      (t.x == nullptr ||
                       (all_moderate(t.center, n) && all_moderate(t.c, n) && all_in_range(t.b, n)));
    }
  }
  bool fits(std::ptrdiff_t channel) const {
    const auto& [center, a, b, c] = this->values;
    return is_in_range(a[channel]) &&
           (this->x() == nullptr ||
            (is_moderate(center[channel]) && is_moderate(c[channel]) && is_in_range(b[channel])));
  }
  double exact(std::ptrdiff_t j, std::ptrdiff_t channel) const {
    const auto& [center, a, b, c] = this->values;
    const bool through = this->mask.at == nullptr || (this->mask.at[j / 8] >> j % 8 & 1) != 0;
    const double ag = a[channel] * (through ? to_double(this->in[0].at[j]) : 0);
    if (this->x() == nullptr) return ag;
    const double d = to_double(this->x()[j]) - center[channel];
    return (ag + c[channel]) + b[channel] * d;
  }

  template <std::ptrdiff_t count, class P, class Lanes>
  BNPP_INLINE void terms(std::ptrdiff_t j, const P& params, Lanes lanes, V (&z)[count],
                         V (&others)[count]) const {
    this->gradients(j, lanes, z);
    for (std::ptrdiff_t k = 0; k < count; ++k) {
      z[k] = params[k].p[1] * z[k];
      others[k] = magnitude(z[k]);
    }
    if (this->x() == nullptr) return;
    const T* from = this->x() + j;
    for (std::ptrdiff_t k = 0; k < count; ++k) {
      const auto& [center, a, b, c] = params[k].p;
      z[k] = (z[k] + c) + b * (load_like(z[k], from + k * kLanes, lanes) - center);
      others[k] = others[k] + magnitude(c);
    }
  }
};

}  // namespace

template <class T, Layout layout>
void grad_input(const GradInputTile& t) {
  GradInput<T> map(t, repeat_of<layout>(t));
  run_map(map, t.stream, t.ahead);
}

#define BNPP_UNIT(name, type)                                         \
  template void grad_input<type, Layout::rows>(const GradInputTile&); \
  template void grad_input<type, Layout::cols>(const GradInputTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
