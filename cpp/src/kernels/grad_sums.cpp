// grad_sums: sum g and sum g * (x - center), with g = dy where the ReLU let the value through.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class T>
struct Gradients : GradientSumsOf<T, 1> {
  static constexpr bool kMayBeExact = sizeof(T) < sizeof(double);
  using Row = typename GradientSumsOf<T, 1>::Row;

  explicit Gradients(const GradSumsTile& t) : GradientSumsOf<T, 1>(t, {t.center}) {}

  bool exact(std::ptrdiff_t channels) const { return all_zero(this->numbers[0], channels); }
  template <bool exact, class Lanes>
  BNPP_INLINE void terms(const Row& row, std::ptrdiff_t j, Lanes lanes, const Numbers<1>& k,
                         Part& u, Part& v) const {
    u = this->gradient(row, j, lanes);
    v = load_part(row.x + j, lanes);
    if constexpr (!exact) v = v - k.p[0];
  }
};

}  // namespace

template <class T, Layout layout>
void grad_sums(const GradSumsTile& tile) {
  const GradSumsTile t = as_columns<layout>(tile);
  sum_tile(Gradients<T>(t), t.narrow, t.sum_g, t.sum_gx);
}

#define BNPP_UNIT(name, type)                                       \
  template void grad_sums<type, Layout::rows>(const GradSumsTile&); \
  template void grad_sums<type, Layout::cols>(const GradSumsTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
