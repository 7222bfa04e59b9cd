// combine: out = a * u + b * v + (d * (x - center) + c), over those of u, v and x that are there.
// The mask holds back u (a gradient on its way in) or out (a tangent on its way out).
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

// Which sources there are is asked vector by vector: the branch is always foreseen, and kernels for
// every combination would be two dozen.
inline bool is_in_one_run(const CombineTile& t) {
  return is_one_run(t, t.out_stride, t.u ? t.u_stride : t.cols, t.v ? t.v_stride : t.cols,
                    t.x ? t.x_stride : t.cols);
}

template <class T, Layout layout, Store how>
void combine_tile(const CombineTile t) {
  const T* u = static_cast<const T*>(t.u);
  const T* v = static_cast<const T*>(t.v);
  const T* x = static_cast<const T*>(t.x);
  T* out = static_cast<T*>(t.out);
  const double* const values[] = {t.center, t.a, t.b, t.d, t.c};
  const auto element = [&](std::ptrdiff_t i, std::ptrdiff_t j, auto lanes,
                           const Params<5>& params) BNPP_INLINE_LAMBDA {
    const auto& [center, a, b, d, c] = params.p;
    const auto source = [&](const T* from, std::ptrdiff_t stride)
                            BNPP_INLINE_LAMBDA { return load(from + i * stride + j, lanes); };
    const auto held = [&](Vec w, bool here) BNPP_INLINE_LAMBDA {
      if (t.mask == nullptr || !here) return w;
      return choose(load_mask(t.mask + i * t.mask_stride + j / 8, lanes), w, splat(0));
    };
    Vec z = c;
    if (x != nullptr) z = d * (source(x, t.x_stride) - center) + z;
    if (v != nullptr) z = b * source(v, t.v_stride) + z;
    if (u != nullptr) z = a * held(source(u, t.u_stride), !t.mask_out) + z;
    put<how>(out + i * t.out_stride + j, held(z, t.mask_out), lanes);
  };
  const auto foresee = [&](std::ptrdiff_t i, std::ptrdiff_t j) BNPP_INLINE_LAMBDA {
    if (u != nullptr) prefetch(u + i * t.u_stride + j);
    if (v != nullptr) prefetch(v + i * t.v_stride + j);
    if (x != nullptr) prefetch(x + i * t.x_stride + j);
    if (how == Store::cached) prefetch(out + i * t.out_stride + j);
  };
  if constexpr (how != Store::cached) {
    walk_streamed<layout, how>(t, out, t.out_stride, values, element, foresee, is_in_one_run(t));
    fence();
  } else {
    walk<layout>(t, values, element, foresee);
  }
}

}  // namespace

template <class T, Layout layout>
void combine(const CombineTile& t) {
  const bool streamed = kCanStream && t.stream &&
                        can_stream<layout, Store::lines>(t, static_cast<const T*>(t.out),
                                                         t.out_stride, is_in_one_run(t));
  with_flag(streamed, [&](auto stream) {
    combine_tile<T, layout, store_of<Store::lines, decltype(stream)>()>(t);
  });
}

#define BNPP_UNIT(name, type)                                    \
  template void combine<type, Layout::rows>(const CombineTile&); \
  template void combine<type, Layout::cols>(const CombineTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
