// The backward verbs that heed weights.
//   weighted_grad_sums: sum g and sum g * (x - mean) without what has no weight and is not finite.
//   Only channels whose plain sums are not finite come here.
//   weighted_grad_input: dx = a * g + w * (b * (x - center) + c), and a * g where w is 0.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class T>
struct WeightedGradients : GradientSumsOf<T, 2> {
  using Row = typename GradientSumsOf<T, 2>::Row;
  static constexpr bool kRare = true;
  WeightRows<T> weights;

  explicit WeightedGradients(const WeightedGradSumsTile& t)
      : GradientSumsOf<T, 2>(t.tile, {t.tile.center, t.low}), weights(t.weights) {}

  template <bool exact, class Lanes>
  BNPP_INLINE void terms(const Row& row, std::ptrdiff_t j, Lanes lanes, const Numbers<2>& k,
                         Part& u, Part& v) const {
    u = this->gradient(row, j, lanes);
    const Part d = load_part(row.x + j, lanes) - k.p[0];
    v = choose(positive(weights.at(weights.row(row.i), j, lanes)), d, choose(finite(d), d, k.p[1]));
  }
  void go_on(std::ptrdiff_t step, std::ptrdiff_t first) {
    GradientSumsOf<T, 2>::go_on(step, first);
    weights.go_on(step, first);
  }
  bool one_run() const { return weights.one_run(this->cols) && GradientSumsOf<T, 2>::one_run(); }
};

template <class Element>
struct WeightedGradInput : GradientMapOf<Element, Vec> {
  using T = Element;
  using V = Vec;
  RowsOf<const Weight<T>> w;
  bool per_row;

  WeightedGradInput(const WeightedGradInputTile& t, std::ptrdiff_t repeat)
      : GradientMapOf<T, Vec>(t.tile, repeat),
        w(t.weights.w, t.weights.per_row ? 1 : t.weights.w_stride),
        per_row(t.weights.per_row) {}

  template <std::ptrdiff_t count, class P, class Lanes>
  BNPP_INLINE void terms(std::ptrdiff_t j, const P& params, Lanes lanes, V (&z)[count],
                         V (&)[count]) const {
    this->gradients(j, lanes, z);
    const T* from = this->x() + j;
    for (std::ptrdiff_t k = 0; k < count; ++k) {
      const auto& [center, a, b, c] = params[k].p;
      const Vec of_row = splat(per_row ? static_cast<double>(*w.at) : 0);
      const Vec weight = per_row ? of_row : load(w.at + j + k * kLanes, lanes);
      const Vec part = weight * (b * (load(from + k * kLanes, lanes) - center) + c);
      z[k] = a * z[k] + choose(positive(weight), part, splat(0));
    }
  }

  bool one_run() const {
    return !per_row && w.is_one_run(this->cols) && GradientMapOf<T, Vec>::one_run();
  }
  BNPP_INLINE void step(std::ptrdiff_t n) {
    w.step(n);
    GradientMapOf<T, Vec>::step(n);
  }
  void move(std::ptrdiff_t n) {
    w.move(n);
    GradientMapOf<T, Vec>::move(n);
  }
  void set_strides(std::ptrdiff_t n) {
    w.set_stride(n);
    GradientMapOf<T, Vec>::set_strides(n);
  }
};

}  // namespace

template <class T, Layout layout>
void weighted_grad_sums(const WeightedGradSumsTile& tile) {
  WeightedGradSumsTile t = tile;
  t.tile = as_columns<layout>(t.tile);
  sum_tile(WeightedGradients<T>(t), t.tile.narrow, t.tile.sum_g, t.tile.sum_gx);
}

template <class T, Layout layout>
void weighted_grad_input(const WeightedGradInputTile& t) {
  WeightedGradInput<T> map(t, repeat_of<layout>(t.tile));
  run_map(map, t.tile.stream, t.tile.ahead);
}

#define BNPP_UNIT(name, type)                                                          \
  template void weighted_grad_sums<type, Layout::rows>(const WeightedGradSumsTile&);   \
  template void weighted_grad_sums<type, Layout::cols>(const WeightedGradSumsTile&);   \
  template void weighted_grad_input<type, Layout::rows>(const WeightedGradInputTile&); \
  template void weighted_grad_input<type, Layout::cols>(const WeightedGradInputTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
