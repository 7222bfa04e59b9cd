// The backward of layer and root mean square normalization:
//   grad_sums -> <h>, <h xh> -> grad_input, with dgamma and dbeta on the way
#include <algorithm>
#include <cmath>

#include "bnpp/layer_norm.h"
#include "norms/check.h"
#include "norms/moments.h"
#include "norms/operand.h"
#include "norms/row_parameters.h"
#include "norms/row_plan.h"
#include "norms/row_scalars.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

/// dgamma and dbeta of every block of rows, which are added up in a fixed tree.
class ParameterGrads {
 public:
  ParameterGrads(const RowPlan& plan, DType dtype)
      : plan_(plan),
        arrays_(dtype == DType::float64 ? 4 : 2),
        values_(arrays_ * plan.row_blocks, plan.inner) {}

  /// Array 0 is dgamma, 1 dbeta; of float64, 2 and 3 are what these are short of.
  double* of_block(int array, std::int64_t block) const {
    return array < arrays_ ? values_.array(array * plan_.row_blocks + block) : nullptr;
  }

  /// Zeros for the columns of a tile.
  void clear(const Tile& tile, std::int64_t block) {
    for (int array = 0; array < arrays_; ++array) {
      std::fill(of_block(array, block) + tile.i0, of_block(array, block) + tile.i1, 0.0);
    }
  }

  /// All blocks' sums become those of block 0.
  void add_up(int threads) {
    constexpr std::int64_t columns = 512;
    auto task = [&](std::int64_t index, int) {
      const std::int64_t begin = index * columns, end = std::min(begin + columns, plan_.inner);
      for (int array = 0; array < 2; ++array) add_up(array, begin, end);
    };
    parallel_for(ceil_div(plan_.inner, columns), threads, task);
  }

 private:
  void add_up(int array, std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = 0; arrays_ > 2 && block < plan_.row_blocks; ++block) {
      double *sum = of_block(array, block), *low = of_block(array + 2, block);
      // The low of an Inf is NaN.
      for (std::int64_t j = begin; j < end; ++j) sum[j] += std::isfinite(low[j]) ? low[j] : 0;
    }
    for_each_pair_of_blocks(plan_.row_blocks, [&](std::int64_t a, std::int64_t b) {
      double *to = of_block(array, a), *from = of_block(array, b);
      for (std::int64_t j = begin; j < end; ++j) to[j] += from[j];
    });
  }

  const RowPlan& plan_;
  int arrays_;
  ColumnArray values_;
};

/// The sums of the gradient over each row, and what they become:
/// dx = h * inv_std + w * (b * xh + c).
class RowGradients {
 public:
  RowGradients(const LayerNormSaved& saved, const RowPlan& plan, int threads)
      : saved_(saved), plan_(plan), values_(plan, 2, threads) {}

  double* sum_h(const Tile& t, std::int64_t piece, int worker) const {
    return values_.at(0, piece, t, worker);
  }
  double* sum_hx(const Tile& t, std::int64_t piece, int worker) const {
    return values_.at(1, piece, t, worker);
  }
  // In the place of the sums, once all pieces are there.
  const double* c(const Tile& t, int worker) const { return sum_h(t, 0, worker); }
  const double* b(const Tile& t, int worker) const { return sum_hx(t, 0, worker); }

  void finish(const Tile& tile, int worker) {
    const std::int64_t rows = plan_.rows(tile);
    for_each_pair_of_blocks(plan_.pieces, [&](std::int64_t to, std::int64_t from) {
      for (std::int64_t i = 0; i < rows; ++i) {
        sum_h(tile, to, worker)[i] += sum_h(tile, from, worker)[i];
        sum_hx(tile, to, worker)[i] += sum_hx(tile, from, worker)[i];
      }
    });
    const RowScalars row(saved_, tile);
    double *h = sum_h(tile, 0, worker), *hx = sum_hx(tile, 0, worker);
    for (std::int64_t i = 0; i < rows; ++i) {
      const double inv_std = row.scale[i], sum_hxh = (hx[i] - row.low[i] * h[i]) * inv_std;
      const double m = count_of(tile.o0 + i);
      hx[i] = m > 0 ? -inv_std * sum_hxh / m : 0;
      h[i] = m > 0 && !saved_.rms ? -inv_std * h[i] / m : 0;
    }
  }

 private:
  double count_of(std::int64_t row) const {
    if (saved_.weight.empty()) return static_cast<double>(saved_.count);
    return saved_.weight[static_cast<std::size_t>(row)];
  }

  const LayerNormSaved& saved_;
  const RowPlan& plan_;
  PieceValues values_;
};

void zeros(const Tensor& v, const RowPlan& plan, const std::vector<int>& axes) {
  const std::vector<double> values(static_cast<std::size_t>(plan.inner), 0);
  write_parameter(v, plan, axes, values.data());
}

void backward(const Check& check, const LayerNormSaved& saved, const LayerNormGrads& grads,
              bool rms) {
  const ConstTensor& x = saved.x;
  if (!x.given()) check.refuse("saved is empty, but it needs to come from a forward call");
  if (saved.rms != rms) {
    const char* from = saved.rms ? "rms_norm" : "layer_norm";
    check.refuse("saved comes from ", from, ", whose backward is ", from, "_backward");
  }
  check.like(x, grads.dy, "dy");
  check.like(x, grads.dx, "dx");
  if (grads.dgamma.given()) check_shape(check, grads.dgamma, x, saved.axes, "dgamma");
  if (grads.dbeta.given()) check_shape(check, grads.dbeta, x, saved.axes, "dbeta");
  const RowPlan plan(x, saved.axes);
  if (plan.count == 0) {
    zeros(grads.dgamma, plan, saved.axes);
    zeros(grads.dbeta, plan, saved.axes);
    return;
  }

  const int threads = threads_for(3 * x.size() * size_of(x.dtype));
  const RowVerbs& kernel = row_verbs(x.dtype);
  const Operand dy(grads.dy, plan, threads), input(x, plan, threads),
      weights(saved.weights, plan, threads), dx(grads.dx, plan, threads);
  const ColumnArray gamma(saved.gamma);
  RowGradients rows(saved, plan, threads);
  ParameterGrads parameters(plan, x.dtype);
  // What both passes read.
  const auto inputs = [&](auto t, const Tile& tile, int worker) {
    const Operand::View g = dy.read(tile, worker), in = input.read(tile, worker),
                        w = weights.read(tile, worker);
    t.dy = g.data;
    t.dy_stride = g.stride;
    t.x = in.data;
    t.x_stride = in.stride;
    t.weights = w.data;
    t.weights_stride = w.stride;
    t.rows = plan.rows(tile);
    t.cols = plan.cols(tile);
    t.gamma = gamma.array(0) + tile.i0;
    return t;
  };
  reduce_finish_map_rows(
      plan, threads, 2 * size_of(x.dtype),
      [&](const Tile& tile, std::int64_t piece, int worker) {
        const RowScalars row(saved, tile);
        auto t = inputs(RowGradSumsTile{}, tile, worker);
        t.center = row.center;
        t.sum_h = rows.sum_h(tile, piece, worker);
        t.sum_hx = rows.sum_hx(tile, piece, worker);
        kernel.grad_sums(t);
      },
      [&](const Tile& tile, int worker) { rows.finish(tile, worker); },
      [&](const Tile& tile, std::int64_t block, int worker) {
        if (plan.is_first_of_block(tile, block)) parameters.clear(tile, block);
        const RowScalars row(saved, tile);
        const Operand::View out = dx.write(tile, worker);
        auto t = inputs(RowGradInputTile{}, tile, worker);
        t.dx = out.data;
        t.dx_stride = out.stride;
        t.center = row.center;
        t.scale = row.scale;
        t.shift = row.shift;
        t.b = rows.b(tile, worker);
        t.c = rows.c(tile, worker);
        const auto columns = [&](int array) {
          double* sums = parameters.of_block(array, block);
          return sums == nullptr ? nullptr : sums + tile.i0;
        };
        t.dgamma = columns(0);
        t.dbeta = columns(1);
        t.dgamma_low = columns(2);
        t.dbeta_low = columns(3);
        t.stream = dx.stream(3);
        kernel.grad_input(t);
        dx.written(tile, worker);
      });
  parameters.add_up(threads);
  write_parameter(grads.dgamma, plan, saved.axes, parameters.of_block(0, 0));
  write_parameter(grads.dbeta, plan, saved.axes, parameters.of_block(1, 0));
}

}  // namespace

void layer_norm_backward(const LayerNormSaved& saved, const LayerNormGrads& grads) {
  backward(Check("layer_norm_backward"), saved, grads, false);
}

void rms_norm_backward(const LayerNormSaved& saved, const LayerNormGrads& grads) {
  const Check check("rms_norm_backward");
  if (grads.dbeta.given()) check.refuse("dbeta is given, but rms_norm has no beta");
  backward(check, saved, grads, true);
}

}  // namespace bnpp
