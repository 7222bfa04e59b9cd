// combine: out = a * u + b * v + (d * (x - center) + c), over those of u, v and x that are there.
// The mask holds back u (a gradient on its way in) or out (a tangent on its way out).
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class Element>
struct Combine : MapOf<Element, Vec, 5, 3> {
  using T = Element;
  using V = Vec;
  bool mask_out;

  Combine(const CombineTile& t, std::ptrdiff_t repeat)
      : MapOf<T, V, 5, 3>(t, repeat, {t.center, t.a, t.b, t.d, t.c},
                          {{t.u, t.u_stride}, {t.v, t.v_stride}, {t.x, t.x_stride}},
                          {t.out, t.out_stride}),
        mask_out(t.mask_out) {
    this->mask = {const_cast<std::uint8_t*>(t.mask), t.mask_stride};  // which is only read
  }

  template <std::ptrdiff_t count, class P, class Lanes>
  BNPP_INLINE void terms(std::ptrdiff_t j, const P& params, Lanes lanes, V (&z)[count],
                         V (&)[count]) const {
    const auto& [u, v, x] = this->in;
    for (std::ptrdiff_t k = 0; k < count; ++k) z[k] = params[k].p[4];
    if (x.at != nullptr) {
      const T* from = x.at + j;
      for (std::ptrdiff_t k = 0; k < count; ++k) {
        z[k] = params[k].p[3] * (load(from + k * kLanes, lanes) - params[k].p[0]) + z[k];
      }
    }
    if (v.at != nullptr) {
      const T* from = v.at + j;
      for (std::ptrdiff_t k = 0; k < count; ++k) {
        z[k] = params[k].p[2] * load(from + k * kLanes, lanes) + z[k];
      }
    }
    if (u.at == nullptr) return;
    const T* from = u.at + j;
    for (std::ptrdiff_t k = 0; k < count; ++k) {
      const Vec w = load(from + k * kLanes, lanes);
      z[k] = params[k].p[1] * (mask_out ? w : held(j + k * kLanes, lanes, w)) + z[k];
    }
  }
  template <std::ptrdiff_t count, class Lanes>
  BNPP_INLINE void finish(std::ptrdiff_t j, Lanes lanes, V (&z)[count]) const {
    for (std::ptrdiff_t k = 0; mask_out && k < count; ++k) {
      z[k] = held(j + k * kLanes, lanes, z[k]);
    }
    put_block(this->out.at + j, z, lanes, this->how);
  }
  // w where the mask has a bit, else 0.
  template <class Lanes>
  BNPP_INLINE Vec held(std::ptrdiff_t j, Lanes lanes, Vec w) const {
    return this->mask.at == nullptr ? w : masked(w, this->mask.at + j / 8, lanes);
  }
};

}  // namespace

template <class T, Layout layout>
void combine(const CombineTile& t) {
  Combine<T> map(t, repeat_of<layout>(t));
  run_map(map, t.stream, t.ahead);
}

#define BNPP_UNIT(name, type)                                    \
  template void combine<type, Layout::rows>(const CombineTile&); \
  template void combine<type, Layout::cols>(const CombineTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
