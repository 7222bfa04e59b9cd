// Narrow rows, those of channels-last tensors of few channels, fill vectors badly: several are
// taken as one row, whose columns have their channel's parameters. Sums of such columns are folded
// in halves to those of the channels. Rows that do not follow upon each other are added up one by
// one to the same columns, so that no bit depends on where they lie; so are those whose mask bits
// fill no whole bytes.
#pragma once

namespace bnpp::BNPP_ISA {
namespace {

// Columns of joined rows at most, and joined rows of a tile at least.
constexpr std::ptrdiff_t kJoinedColumns = 128, kJoinedRows = 4;

// How many of `rows` rows are taken as one: a power of two.
inline std::ptrdiff_t rows_joined(std::ptrdiff_t rows, std::ptrdiff_t cols) {
  std::ptrdiff_t k = 1;
  while (2 * k * cols <= kJoinedColumns && 2 * k * kJoinedRows <= rows) k *= 2;
  return k;
}
// One number for each column of joined rows.
struct alignas(64) JoinedColumns {
  double at[kJoinedColumns + kLanes];
};

// The numbers of `cols` columns over and over, for `times` rows of them; `to` may begin with them.
inline void repeat_columns(const double* from, std::ptrdiff_t cols, std::ptrdiff_t times,
                           double* to) {
  for (std::ptrdiff_t j = 0; j < cols; ++j) to[j] = from[j];
  for (std::ptrdiff_t j = cols; j < times * cols; ++j) to[j] = to[j - cols];
}

// Adds pairs of sums to others.
inline void add_pairs(double* hi, double* lo, const double* more, const double* more_low,
                      std::ptrdiff_t cols) {
  for_each_vector(cols, [&](std::ptrdiff_t j, auto lanes) BNPP_INLINE_LAMBDA {
    Vec error;
    store(hi + j, two_sum(load(hi + j, lanes), load(more + j, lanes), error), lanes);
    store(lo + j, load(lo + j, lanes) + (load(more_low + j, lanes) + error), lanes);
  });
}

// The sums of a row's `cols` columns from those of `joined` rows taken as one.
inline void fold_pairs(double* hi, double* lo, std::ptrdiff_t cols, std::ptrdiff_t joined) {
  for (std::ptrdiff_t half = joined / 2 * cols; half >= cols; half /= 2) {
    add_pairs(hi, lo, hi + half, lo + half, half);
  }
}

}  // namespace
}  // namespace bnpp::BNPP_ISA
