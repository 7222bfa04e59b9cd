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
      : SumsOf<T, n>(sums_of<T, n>(t, t.ahead, t.x_stride, numbers, 0, t.cols / t.repeat)),
        dy(static_cast<const T*>(t.dy)),
        x(static_cast<const T*>(t.x)),
        mask(t.mask),
        dy_stride(t.dy_stride),
        mask_stride(t.mask != nullptr ? t.mask_stride : 0) {
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
  BNPP_INLINE void prefetch_lines(std::ptrdiff_t i, std::ptrdiff_t j) const {
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
struct GradientMapOf : MapOf<Element, Vector, 4, 2> {
  using T = Element;
  using V = Vector;

  GradientMapOf(const GradInputTile& t, std::ptrdiff_t repeat)
      : MapOf<T, V, 4, 2>(t, repeat, {t.center, t.a, t.b, t.c},
                          {{t.dy, t.dy_stride}, {t.x, t.x_stride}}, {t.dx, t.dx_stride}) {
    this->second = {t.dresidual, t.dresidual_stride};
    this->mask = {const_cast<std::uint8_t*>(t.mask), t.mask_stride};  // which is only read
  }
  const T* x() const { return this->in[1].at; }

  template <std::ptrdiff_t count, class Lanes>
  BNPP_INLINE void gradients(std::ptrdiff_t j, Lanes lanes, V (&g)[count]) const {
    const T* from = this->in[0].at + j;
    for (std::ptrdiff_t k = 0; k < count; ++k) g[k] = load_like(g[k], from + k * kLanes, lanes);
    if (this->mask.at == nullptr) return;
    const std::uint8_t* bits = this->mask.at + j / 8;
    for (std::ptrdiff_t k = 0; k < count; ++k) g[k] = masked(g[k], bits + k * (kLanes / 8), lanes);
  }
  template <std::ptrdiff_t count, class Lanes>
  BNPP_INLINE void finish(std::ptrdiff_t j, Lanes lanes, V (&z)[count]) const {
    if (this->second.at != nullptr) {  // before dx, which may take the place of dy
      V g[count];
      gradients(j, lanes, g);
      put_block(this->second.at + j, g, lanes, Store::cached);
    }
    put_block(this->out.at + j, z, lanes, this->how);
  }
};

}  // namespace
}  // namespace bnpp::BNPP_ISA
