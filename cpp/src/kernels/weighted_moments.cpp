// weighted_moments: s1 = sum w (x - K) and s2 = sum w (x - K)^2, about a shift K near the values
// that have weight; what has none may be anything, NaN too.
//
// As moments, with K the weighted mean of a few of the tile's values, and a second pass where that
// proves poor.
#include "kernels/unit.h"

namespace bnpp::BNPP_ISA {
namespace {

template <class Element>
struct WeightedValues : SumsOf<Element, 1> {
  using T = Element;
  const T* x;
  WeightRows<T> weights;
  const std::int32_t* start;

  // Of n channels from c on, about the shifts in the tile's sums.
  WeightedValues(const WeightedMomentsTile& t, std::ptrdiff_t c, std::ptrdiff_t n)
      : SumsOf<T, 1>(
            sums_of<T, 1>(t.tile, t.tile.ahead, t.tile.x_stride, &t.tile.sums.shift, c, n)),
        x(static_cast<const T*>(t.tile.x) + c * t.tile.repeat),
        weights(t.weights),
        start(t.start) {
    if (!weights.per_row) weights.w += c * t.tile.repeat;
  }

  struct Row {
    const T* x;
    const Weight<T>* w;
  };
  BNPP_INLINE Row row(std::ptrdiff_t i) const {
    if (start != nullptr) i = start[i / kRowsListed] + i % kRowsListed;
    return {x + i * this->stride, weights.row(i)};
  }
  // Whole runs without weight need not be read.
  bool is_void(std::ptrdiff_t i) const { return weights.per_row && !(*row(i).w > 0); }
  BNPP_INLINE void prefetch_lines(std::ptrdiff_t i, std::ptrdiff_t j) const {
    if (i < this->rows) prefetch(row(i).x + j);
  }
  template <bool exact, class Lanes>
  BNPP_INLINE void terms(const Row& row, std::ptrdiff_t j, Lanes lanes, const Numbers<1>& k,
                         Part& u, Part& v) const {
    const Part w = weights.at(row.w, j, lanes);
    v = choose(positive(w), load_part(row.x + j, lanes) - k.p[0], spread(0));
    u = w * v;
  }
  bool one_run() const { return false; }
  void go_on(std::ptrdiff_t step, std::ptrdiff_t first) {
    x += first * this->stride;
    this->stride *= step;
    weights.go_on(step, first);
  }
};

// The weighted mean of the start of the first of some rows that has weight there.
template <class T>
inline double shift_of_run(const WeightedMomentsTile& tile, const WeightedValues<T>& of,
                           std::ptrdiff_t column) {
  const std::ptrdiff_t repeat = tile.tile.repeat, n = repeat < kLanes ? repeat : kLanes;
  const bool per_row = of.weights.per_row;
  for (std::ptrdiff_t i = 0; i < of.rows && (per_row || i < kShiftRows); ++i) {
    const auto row = of.row(i);
    if (per_row) {
      if (*row.w > 0) return shift_apart(row.x + column, Apart(1, repeat, 0));
      continue;
    }
    const Vec w = of.weights.vector(row.w, column, Some{n});
    const double total = sum(w);
    const Vec x = choose(positive(w), load(row.x + column, Some{n}), splat(0));
    if (total > 0) return as_shift<T>(sum(w * x) / total);
  }
  return 0;
}

// The shifts of all channels: where each is a column, the weighted means of a few of its values.
template <class T>
void find_shifts(const WeightedMomentsTile& tile) {
  const MomentsTile& t = tile.tile;
  const std::ptrdiff_t channels = t.cols / t.repeat;
  const WeightedValues<T> of(tile, 0, channels);
  if (t.repeat > 1) {
    for (std::ptrdiff_t c = 0; c < channels; ++c) {
      t.sums.shift[c] = shift_of_run(tile, of, c * t.repeat);
    }
    return;
  }
  const std::ptrdiff_t n = t.rows < kShiftRows ? t.rows : kShiftRows;
  for_each_vector(t.cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
    Vec sum = splat(0), total = splat(0);
    for (std::ptrdiff_t k = 0; k < n; ++k) {
      const auto row = of.row(t.rows * k / n);
      const Vec w = of.weights.vector(row.w, j, lanes);
      sum = sum + w * choose(positive(w), load(row.x + j, lanes), splat(0));
      total = total + w;
    }
    store(t.sums.shift + j, as_shift<T>(sum / total), lanes);  // 0 / 0 gives 0
  });
}

// The first x that has a weight.
template <class T>
inline double first_weighted(const T* x, const Weight<T>* w, std::ptrdiff_t cols) {
  for (std::ptrdiff_t j = 0; j < cols; ++j) {
    if (w[j] > 0) return as_shift<T>(to_double(x[j]));
  }
  return 0;
}

}  // namespace

template <class T, Layout layout>
void weighted_moments(const WeightedMomentsTile& given) {
  WeightedMomentsTile tile = given;
  tile.tile = as_columns<layout>(tile.tile);
  const MomentsTile& t = tile.tile;
  const std::ptrdiff_t channels = t.cols / t.repeat;
  const auto sum = [&](std::ptrdiff_t c, std::ptrdiff_t n) {
    sum_tile(WeightedValues<T>(tile, c, n), false, pairs_of(t.sums, c));
  };
  find_shifts<T>(tile);
  sum(0, channels);
  again_about_means<T>(
      t.sums, channels, kLanes / t.repeat,
      [&](std::ptrdiff_t c) { return tile.count[c * tile.count_step]; }, sum);
}

// Twice, the second time about the mean: the first value may be an outlier.
template <class T>
void row_weighted_moments(const RowWeightedMomentsTile& t) {
  const BlockSums& sums = t.sums;
  const WeightsTile weights = {t.weights, t.weights_stride, false};
  const MomentsTile values = {t.x, t.x_stride, t.rows, t.cols, t.cols, sums, false, false};
  const WeightedValues<T> of({values, weights, t.weight, 1, nullptr}, 0, 1);
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    const auto row = of.row(i);
    double squares;
    weight_sums<T, Layout::rows>({{row.w, 0, false}, 1, t.cols, t.cols, t.weight + i, &squares});
    sums.shift[i] = first_weighted(row.x, row.w, t.cols);
  }
  sum_rows(of, pairs_of(sums, 0));
  for (std::ptrdiff_t i = 0; i < t.rows; ++i) {
    if (t.weight[i] > 0) sums.shift[i] = as_shift<T>(sums.shift[i] + sums.s1[i] / t.weight[i]);
  }
  sum_rows(of, pairs_of(sums, 0));
}

#define BNPP_UNIT(name, type)                                                     \
  template void weighted_moments<type, Layout::rows>(const WeightedMomentsTile&); \
  template void weighted_moments<type, Layout::cols>(const WeightedMomentsTile&); \
  template void row_weighted_moments<type>(const RowWeightedMomentsTile&);
BNPP_DTYPES(BNPP_UNIT)

}  // namespace bnpp::BNPP_ISA
