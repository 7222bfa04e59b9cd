// The gradient that a ReLU let through, by its bits, and what the maps of gradients have in common.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// g where its bit is set, else 0.
template <class V, class Lanes>
inline V masked(V g, const std::uint8_t* mask, Lanes lanes) {
  return keep(g, load_bits(mask, lanes));
}

// Sums of g and something of x.
template <class Element, int n>
struct GradientSumsOf : SumsOf<Element, n> {
  using T = Element;
  const T *dy, *x;
  const std::uint8_t* mask;
  std::ptrdiff_t dy_stride, mask_stride;

  GradientSumsOf(const GradSumsTile& t, const double* const (&numbers)[n])
      : SumsOf<T, n>(sums_of<T, n>(t, t.x_stride, numbers, 0, t.cols / t.repeat)),
        dy(static_cast<const T*>(t.dy)),
        x(static_cast<const T*>(t.x)),
        mask(t.mask),
        dy_stride(t.dy_stride),
        mask_stride(stride_of(t.mask, t.mask_stride)) {
    this->plain = 64;  // nothing of them is lost again in differences
  }

  struct Row {
    const T *dy, *x;
    const std::uint8_t* mask;
    std::ptrdiff_t i;
  };
  BNPP_INLINE Row row(std::ptrdiff_t i) const {
    return {dy + i * dy_stride, x + i * this->stride, mask + i * mask_stride, i};
  }
  template <class Lanes>
  BNPP_INLINE Part gradient(const Row& row, std::ptrdiff_t j, Lanes lanes) const {
    const Part g = load_part(row.dy + j, lanes);
    return mask == nullptr ? g : keep(g, bits_from(row.mask, j, lanes));
  }
  BNPP_INLINE void foresee(std::ptrdiff_t i, std::ptrdiff_t j) const {
    prefetch(dy + i * dy_stride + j);
    prefetch(x + i * this->stride + j);
  }
  bool one_run() const {
    return are_one_run(this->cols, mask, mask_stride, this->stride, dy_stride);
  }
  // To every `step`-th row from the first given on.
  void go_on(std::ptrdiff_t step, std::ptrdiff_t first) {
    const Row begin = row(first);
    dy = begin.dy;
    x = begin.x;
    mask = begin.mask;
    dy_stride *= step;
    mask_stride *= step;
    this->stride *= step;
  }
};

// dx of dy and x, and the residual's gradient, which is g itself.
template <class Element, class Vector>
struct GradientMapOf : MapOf<Element, Vector, 4> {
  using T = Element;
  using V = Vector;
  const T *dy, *x;
  const std::uint8_t* mask;
  T* dresidual;
  std::ptrdiff_t dy_stride, x_stride, mask_stride, dresidual_stride;

  GradientMapOf(const GradInputTile& t, std::ptrdiff_t repeat)
      : MapOf<T, V, 4>(t, repeat, {t.center, t.a, t.b, t.c}, t.dx, t.dx_stride),
        dy(static_cast<const T*>(t.dy)),
        x(static_cast<const T*>(t.x)),
        mask(t.mask),
        dresidual(static_cast<T*>(t.dresidual)),
        dy_stride(t.dy_stride),
        x_stride(stride_of(t.x, t.x_stride)),
        mask_stride(stride_of(t.mask, t.mask_stride)),
        dresidual_stride(stride_of(t.dresidual, t.dresidual_stride)) {}

  template <std::ptrdiff_t count, class Lanes>
  BNPP_INLINE void gradients(std::ptrdiff_t j, Lanes lanes, V (&g)[count]) const {
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

  bool is_plain() const {
    return dresidual == nullptr && mask == nullptr && this->how == Store::cached && this->ask == 0;
  }
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
