// What the maps of rows need of their statistics.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bnpp/layer_norm.h"
#include "norms/row_plan.h"
#include "norms/saved.h"

namespace bnpp {

/// xh = (x - center) * scale + shift of a tile's rows.
struct RowScalars {
  double center[kTileRowsMax], low[kTileRowsMax], shift[kTileRowsMax];
  const double* scale;

  RowScalars(const LayerNormSaved& saved, const Tile& tile)
      : scale(&saved.inv_std[static_cast<std::size_t>(tile.o0)]) {
    for (std::int64_t i = 0; i < tile.o1 - tile.o0; ++i) {
      const auto row = static_cast<std::size_t>(tile.o0 + i);
      const Center mean = center_of(saved.x.dtype, saved.mean[row], saved.mean_low[row]);
      center[i] = mean.center;
      low[i] = mean.low;
      shift[i] = -mean.low * scale[i];
    }
  }
};

}  // namespace bnpp
