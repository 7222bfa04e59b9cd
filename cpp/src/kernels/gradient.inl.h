// The gradient that a ReLU let through, by its bits, and what the maps of gradients have in common.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// g where its bit is set, else 0.
template <class V, class Lanes>
inline V masked(V g, const std::uint8_t* mask, Lanes lanes) {
  return keep(g, load_bits(mask, lanes));
}

template <class T, bool has_mask, class Lanes>
inline Vec masked_gradient(const T* dy, const std::uint8_t* mask, Lanes lanes) {
  const Vec g = load(dy, lanes);
  if constexpr (has_mask) return masked(g, mask, lanes);
  return g;
}

// dx of dy and x, and the residual's gradient, which is g itself.
template <class Element, class Vector>
struct GradientMapOf : MapOf<Element, Vector, 4> {
  using T = Element;
  using V = Vector;
  const T *dy, *x;
  const std::uint8_t* mask;
  T* dresidual;
  std::ptrdiff_t dy_stride, x_stride, mask_stride, dresidual_stride;

  GradientMapOf(const GradInputTile& t, bool in_columns)
      : MapOf<T, V, 4>(t, in_columns, {t.center, t.a, t.b, t.c}, t.dx, t.dx_stride),
        dy(static_cast<const T*>(t.dy)),
        x(static_cast<const T*>(t.x)),
        mask(t.mask),
        dresidual(static_cast<T*>(t.dresidual)),
        dy_stride(t.dy_stride),
        x_stride(stride_of(t.x, t.x_stride)),
        mask_stride(stride_of(t.mask, t.mask_stride)),
        dresidual_stride(stride_of(t.dresidual, t.dresidual_stride)) {}

  template <std::ptrdiff_t count, class Lanes>
  BNPP_INLINE void gradients(std::ptrdiff_t j, Lanes lanes,
                             V (&g)[count]) const {
    const T* from = dy + j;
    for (std::ptrdiff_t k = 0; k < count; ++k) g[k] = load_like(g[k], from + k * kLanes, lanes);
    if (mask == nullptr) return;
    const std::uint8_t* bits = mask + j / 8;
    for (std::ptrdiff_t k = 0; k < count; ++k) g[k] = masked(g[k], bits + k * (kLanes / 8), lanes);
  }
  template <std::ptrdiff_t count, class Lanes>
  BNPP_INLINE void finish(std::ptrdiff_t j, Lanes lanes, V (&z)[count]) const {
    if (dresidual != nullptr) {  // before dx, which may take the place of dy
      V g[count];
      gradients(j, lanes, g);
      put_block(dresidual + j, g, lanes, Store::cached);
    }
    put_block(this->out + j, z, lanes, this->how);
  }
  BNPP_INLINE void foresee(std::ptrdiff_t j) const {
    prefetch(dy + this->ask * dy_stride + j);
    if (x != nullptr) prefetch(x + this->ask * x_stride + j);
    if (this->how == Store::cached) prefetch(this->out + this->ask * this->out_stride + j);
  }

  bool is_plain() const { return dresidual == nullptr && mask == nullptr && this->how == Store::cached && this->ask == 0; }
  void make_plain() {
    dresidual = nullptr;
    mask = nullptr;
    this->how = Store::cached;
    this->ask = 0;
  }
  bool one_run() const {
    const std::ptrdiff_t n = this->cols;
    return are_one_run(n, mask, mask_stride, this->out_stride, dy_stride, x ? x_stride : n,
                       dresidual ? dresidual_stride : n);
  }
  BNPP_INLINE void step(std::ptrdiff_t n) {
    this->out += n * this->out_stride;
    dy += n * dy_stride;
    x += n * x_stride;
    dresidual += n * dresidual_stride;
    mask += n * mask_stride;
  }
  void move(std::ptrdiff_t n) {
    this->out += n;
    dy += n;
    advance(x, n);
    advance(dresidual, n);
    advance(mask, n / 8);
  }
  void set_strides(std::ptrdiff_t n) {
    this->out_stride = dy_stride = n;
    x_stride = stride_of(x, n);
    dresidual_stride = stride_of(dresidual, n);
    mask_stride = stride_of(mask, n / 8);
  }
};

}  // namespace
}  // namespace bnpp::BNPP_ISA
