// affine: y = act((x - center) * scale + (offset + residual)).
// The centre lies so near the mean that x - center loses nothing at any mean.
//
// Tensors of float32 and less are computed in float32, which makes at most one rounding of
// |gamma * xh| in each of x - center, scale, the product and the sum, and as many of beta and
// residual: within contract 1. Of halves, which may be no more than one of their own units off,
// what lies near 0 is mended.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class Element, class Vector>
struct Affine : MapOf<Element, Vector, 3, 2> {
  using T = Element;
  using V = Vector;
  static constexpr bool kPlain = Arithmetic<V>::is_single || sizeof(T) == sizeof(double);
  bool relu;

  Affine(const AffineTile& t, std::ptrdiff_t repeat)
      : MapOf<T, V, 3, 2>(t, repeat, {t.center, t.scale, t.offset},
                          {{t.x, t.x_stride}, {t.residual, t.residual_stride}}, {t.y, t.y_stride}),
        relu(t.relu) {
    this->mask = {t.mask, t.mask_stride};
    if constexpr (Arithmetic<V>::is_single) {
      const std::ptrdiff_t n = this->channels();
      this->all_fit =
          all_moderate(t.center, n) && all_moderate(t.offset, n) && all_in_range(t.scale, n);
    }
  }
  bool fits(std::ptrdiff_t c) const {
    const auto& [center, scale, offset] = this->values;
    return is_moderate(center[c]) && is_moderate(offset[c]) && is_in_range(scale[c]);
  }
  double exact(std::ptrdiff_t j, std::ptrdiff_t c) const {
    const auto& [center, scale, offset] = this->values;
    double shift = offset[c];
    const auto& [x, residual] = this->in;
    if (residual.at != nullptr) shift += to_double(residual.at[j]);
    return (to_double(x.at[j]) - center[c]) * scale[c] + shift;
  }

  template <std::ptrdiff_t count, class P, class Lanes>
  BNPP_INLINE void terms(std::ptrdiff_t j, const P& params, Lanes lanes, V (&z)[count],
                         V (&others)[count]) const {
    const auto& [x, residual] = this->in;
    const T* from = x.at + j;
    for (std::ptrdiff_t k = 0; k < count; ++k) {
      const auto& [center, scale, offset] = params[k].p;
      z[k] = (load_like(z[k], from + k * kLanes, lanes) - center) * scale;
      others[k] = magnitude(offset);
    }
    if (residual.at == nullptr) {
      for (std::ptrdiff_t k = 0; k < count; ++k) z[k] = z[k] + params[k].p[2];
      return;
    }
    const T* added = residual.at + j;
    for (std::ptrdiff_t k = 0; k < count; ++k) {
      const V r = load_like(z[k], added + k * kLanes, lanes);
      z[k] = z[k] + (params[k].p[2] + r);
      others[k] = others[k] + magnitude(r);
    }
  }
  template <std::ptrdiff_t count, class Lanes>
  BNPP_INLINE void finish(std::ptrdiff_t j, Lanes lanes, V (&z)[count]) const {
    if (this->mask.at != nullptr) {
      std::uint8_t* bits = this->mask.at + j / 8;
      for (std::ptrdiff_t k = 0; k < count; ++k) {
        store_bits(bits + k * (kLanes / 8), positive_bits(z[k]), lanes);
      }
    }
    if (relu) {
      for (std::ptrdiff_t k = 0; k < count; ++k) z[k] = bnpp::BNPP_ISA::relu(z[k]);
    }
    put_block(this->out.at + j, z, lanes, this->how);
  }
  bool is_plain() const { return this->in[1].at == nullptr && MapOf<T, V, 3, 2>::is_plain(); }
  void make_plain() {
    this->in[1] = {};
    MapOf<T, V, 3, 2>::make_plain();
  }
};

}  // namespace

template <class T, Layout layout>
void affine(const AffineTile& t) {
  if (t.wide) {
    Affine<T, Vec> map(t, repeat_of<layout>(t));
    return run_map(map, t.stream, t.ahead);
  }
  Affine<T, MapVec<T>> map(t, repeat_of<layout>(t));
  run_map(map, t.stream, t.ahead);
}

#define BNPP_UNIT(name, type)                                  \
  template void affine<type, Layout::rows>(const AffineTile&); \
  template void affine<type, Layout::cols>(const AffineTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
