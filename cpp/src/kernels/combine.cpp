// combine: out = a * u + b * v + (d * (x - center) + c), over those of u, v and x that are there.
// The mask holds back u (a gradient on its way in) or out (a tangent on its way out).
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class Element>
struct Combine : MapOf<Element, Vec, 5> {
  using T = Element;
  using V = Vec;
  const T *u, *v, *x;
  const std::uint8_t* mask;
  std::ptrdiff_t u_stride, v_stride, x_stride, mask_stride;
  bool mask_out;

  Combine(const CombineTile& t, std::ptrdiff_t repeat)
      : MapOf<T, V, 5>(t, repeat, {t.center, t.a, t.b, t.d, t.c}, t.out, t.out_stride),
        u(static_cast<const T*>(t.u)),
        v(static_cast<const T*>(t.v)),
        x(static_cast<const T*>(t.x)),
        mask(t.mask),
        u_stride(stride_of(t.u, t.u_stride)),
        v_stride(stride_of(t.v, t.v_stride)),
        x_stride(stride_of(t.x, t.x_stride)),
        mask_stride(stride_of(t.mask, t.mask_stride)),
        mask_out(t.mask_out) {}

  template <std::ptrdiff_t count, class P, class Lanes>
  BNPP_INLINE void terms(std::ptrdiff_t j, const P& params, Lanes lanes, V (&z)[count],
                         V (&)[count]) const {
    for (std::ptrdiff_t k = 0; k < count; ++k) z[k] = params[k].p[4];
    if (x != nullptr) {
      const T* from = x + j;
      for (std::ptrdiff_t k = 0; k < count; ++k) {
        z[k] = params[k].p[3] * (load(from + k * kLanes, lanes) - params[k].p[0]) + z[k];
      }
    }
    if (v != nullptr) {
      const T* from = v + j;
      for (std::ptrdiff_t k = 0; k < count; ++k) {
        z[k] = params[k].p[2] * load(from + k * kLanes, lanes) + z[k];
      }
    }
    if (u == nullptr) return;
    const T* from = u + j;
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
    put_block(this->out + j, z, lanes, this->how);
  }
  // w where the mask has a bit, else 0.
  template <class Lanes>
  BNPP_INLINE Vec held(std::ptrdiff_t j, Lanes lanes, Vec w) const {
    return mask == nullptr ? w : masked(w, mask + j / 8, lanes);
  }
  BNPP_INLINE void foresee(std::ptrdiff_t j) const {
    if (u != nullptr) prefetch(u + this->ask * u_stride + j);
    if (v != nullptr) prefetch(v + this->ask * v_stride + j);
    if (x != nullptr) prefetch(x + this->ask * x_stride + j);
    if (this->how == Store::cached) prefetch(this->out + this->ask * this->out_stride + j);
  }

  bool one_run() const {
    const std::ptrdiff_t n = this->cols;
    return are_one_run(n, mask, mask_stride, this->out_stride, u ? u_stride : n, v ? v_stride : n,
                       x ? x_stride : n);
  }
  BNPP_INLINE void step(std::ptrdiff_t n) {
    this->out += n * this->out_stride;
    u += n * u_stride;
    v += n * v_stride;
    x += n * x_stride;
    mask += n * mask_stride;
  }
  void move(std::ptrdiff_t n) {
    this->out += n;
    advance(u, n);
    advance(v, n);
    advance(x, n);
    advance(mask, n / 8);
  }
  void set_strides(std::ptrdiff_t n) {
    this->out_stride = n;
    u_stride = stride_of(u, n);
    v_stride = stride_of(v, n);
    x_stride = stride_of(x, n);
    mask_stride = stride_of(mask, n / 8);
  }
};

}  // namespace

template <class T, Layout layout>
void combine(const CombineTile& t) {
  Combine<T> map(t, repeat_of<layout>(t));
  run_map(map, t.mask != nullptr, t.stream, t.ahead);
}

#define BNPP_UNIT(name, type)                                    \
  template void combine<type, Layout::rows>(const CombineTile&); \
  template void combine<type, Layout::cols>(const CombineTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
