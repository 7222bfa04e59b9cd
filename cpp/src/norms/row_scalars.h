// What the maps of rows need of their statistics.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bnpp/layer_norm.h"
#include "norms/row_plan.h"
#include "norms/saved.h"

namespace bnpp {

/// xh = (x - center) * scale + shift of a tile's rows. Beside values of float32 and less a float64
/// mean is exact enough for a centre, and shift is 0: at a million standard deviations it is off by
/// 1e-10 of one.
struct RowScalars {
  double center[kTileRowsMax], low[kTileRowsMax], shift[kTileRowsMax];
  const double* scale;

  RowScalars(const LayerNormSaved& saved, const Tile& tile)
      : scale(&saved.inv_std[static_cast<std::size_t>(tile.o0)]) {
    for (std::int64_t i = 0; i < tile.o1 - tile.o0; ++i) {
      const auto row = static_cast<std::size_t>(tile.o0 + i);
      center[i] = saved.mean[row];
      low[i] = saved.x.dtype == DType::float64 ? saved.mean_low[row] : 0;
      shift[i] = -low[i] * scale[i];
    }
  }
};

}  // namespace bnpp
