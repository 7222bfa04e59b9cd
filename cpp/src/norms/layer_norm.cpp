// Layer and root mean square normalization: the sentence of batch norm for rows.
//   moments -> var = M2 / m, inv_std -> affine
//   grad_sums -> <h>, <h xh> -> grad_input, with dgamma and dbeta on the way
// Of rms norm the mean is 0 and var the mean square, M2 / m + mean^2: terms of one sign, so that
// nothing cancels.
#include "bnpp/layer_norm.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>

#include "fold/values.h"
#include "norms/check.h"
#include "norms/moments.h"
#include "norms/operand.h"
#include "norms/row_plan.h"
#include "norms/saved.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

// ---- Parameters and statistics: tensors over some of x's axes.

std::vector<int> axes_of(const Check& check, const ConstTensor& x, const std::vector<int>& axes) {
  if (x.ndim < 1 || x.ndim > kMaxDims) {
    check.refuse("x has ", x.ndim, " dimensions, but it needs 1 to ", kMaxDims);
  }
  if (axes.empty()) check.refuse("axis is (), but it needs to name one axis or more");
  std::vector<int> sorted;
  for (const int axis : axes) {
    if (axis < -x.ndim || axis >= x.ndim) {
      check.refuse("axis is ", axis, ", but x has ", x.ndim,
                   x.ndim == 1 ? " dimension" : " dimensions", ": it needs to be from ", -x.ndim,
                   " to ", x.ndim - 1);
    }
    sorted.push_back(axis < 0 ? axis + x.ndim : axis);
  }
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) {
    check.refuse("axis names axis ", *twice, " twice, but each may come once");
  }
  return sorted;
}

/// The shape of x along some axes, without data.
ConstTensor shape_along(const ConstTensor& x, const std::vector<int>& axes) {
  ConstTensor shape;
  for (const int axis : axes) shape.shape[shape.ndim++] = x.shape[axis];
  return shape;
}

/// (1, 2), or 1 where it is one axis.
std::string axes_text(const std::vector<int>& axes) {
  std::ostringstream text;
  if (axes.size() > 1) text << '(';
  for (std::size_t k = 0; k < axes.size(); ++k) text << (k ? ", " : "") << axes[k];
  if (axes.size() > 1) text << ')';
  return text.str();
}

void check_shape(const Check& check, const ConstTensor& v, const ConstTensor& x,
                 const std::vector<int>& axes, const char* name) {
  const ConstTensor needed = shape_along(x, axes);
  if (v.ndim == needed.ndim && std::equal(v.shape, v.shape + v.ndim, needed.shape)) return;
  check.refuse(name, " has shape ", shape_text(v), ", but it needs x's ", shape_text(needed),
               " along axis ", axes_text(axes));
}

/// Where each value of a tensor over the ascending `axes` of x lies, in the order of `order`.
Dims dims_in_order(const ConstTensor& t, const std::vector<int>& axes, const Axes& order) {
  Dims dims;
  for (int k = 0; k < order.n; ++k) {
    const auto at = std::find(axes.begin(), axes.end(), order.axis[k]) - axes.begin();
    dims.append({t.shape[at], t.strides[at]});
  }
  return dims;
}

/// visit(i, offset) for `count` values in order.
template <class Visit>
void for_each_value(Dims dims, std::int64_t count, Visit visit) {
  const Dim last = dims.n > 0 ? dims.dim[--dims.n] : Dim{1, 0};
  for (std::int64_t i = 0; i < count; i += last.size) {
    const std::int64_t run = dims.offset(i / last.size);
    for (std::int64_t k = 0; k < last.size; ++k) visit(i + k, run + k * last.stride);
  }
}

void read_values(const ConstTensor& t, const Dims& dims, std::vector<double>& values) {
  with_type(t.dtype, [&](auto tag) {
    const char* from = static_cast<const char*>(t.data);
    const auto count = static_cast<std::int64_t>(values.size());
    for_each_value(dims, count, [&](std::int64_t i, std::int64_t offset) {
      values[static_cast<std::size_t>(i)] = load_value<decltype(tag)>(from + offset);
    });
  });
}

void write_values(const Tensor& t, const Dims& dims, const double* values, std::int64_t count) {
  with_type(t.dtype, [&](auto tag) {
    char* to = static_cast<char*>(t.data);
    for_each_value(dims, count, [&](std::int64_t i, std::int64_t offset) {
      store_value<decltype(tag)>(to + offset, values[i]);
    });
  });
}

/// Weights are like x, in the dtype that the kernels read, and none is negative or not finite.
void check_weights(const Check& check, const ConstTensor& w, const ConstTensor& x) {
  if (w.ndim != x.ndim || !std::equal(x.shape, x.shape + x.ndim, w.shape)) {
    check.refuse("weights has shape ", shape_text(w), ", but it needs x's ", shape_text(x));
  }
  const DType needed = x.dtype == DType::float64 ? DType::float64 : DType::float32;
  if (w.dtype != needed) {
    check.refuse<TypeError>("weights has dtype ", name_of(w.dtype), ", but for x of ",
                            name_of(x.dtype), " it needs ", name_of(needed));
  }
  Dims dims;  // without the axes along which it is broadcast
  std::int64_t count = x.size() == 0 ? 0 : 1;
  for (int d = 0; d < w.ndim; ++d) {
    if (w.strides[d] == 0) continue;
    dims.append({w.shape[d], w.strides[d]});
    count *= w.shape[d];
  }
  with_type(w.dtype, [&](auto tag) {
    const char* from = static_cast<const char*>(w.data);
    for_each_value(dims, count, [&](std::int64_t, std::int64_t offset) {
      const double value = load_value<decltype(tag)>(from + offset);
      if (value >= 0 && std::isfinite(value)) return;
      check.refuse("weights holds ", value, ", but each needs to be finite and >= 0");
    });
  });
}

/// A parameter of the features, in float64 and in the order of x's memory.
std::vector<double> read_parameter(const ConstTensor& v, const RowPlan& plan,
                                   const std::vector<int>& axes, double fallback) {
  std::vector<double> values(static_cast<std::size_t>(plan.inner), fallback);
  if (v.given()) read_values(v, dims_in_order(v, axes, plan.inner_axes), values);
  return values;
}

void write_parameter(const Tensor& v, const RowPlan& plan, const std::vector<int>& axes,
                     const double* values) {
  if (v.given()) write_values(v, dims_in_order(v, axes, plan.inner_axes), values, plan.inner);
}

// ---- The forward.

LayerNormSaved new_saved(const ConstTensor& x, const RowPlan& plan, std::vector<int> axes,
                         double eps, bool rms) {
  const auto rows = static_cast<std::size_t>(plan.outer);
  LayerNormSaved saved;
  saved.x = x;
  saved.axes = std::move(axes);
  saved.rms = rms;
  saved.eps = eps;
  saved.count = plan.inner;
  saved.mean.assign(rows, 0);
  saved.mean_low.assign(rows, 0);
  saved.var.assign(rows, 0);
  saved.inv_std.assign(rows, inv_std_of(0, eps));
  return saved;
}

/// The moments of rows, piece by piece.
class RowMoments {
 public:
  RowMoments(const RowPlan& plan, const Operand& x, const Operand& weights, DType dtype,
             bool weighted, int threads)
      : plan_(plan),
        x_(x),
        weights_(weights),
        dtype_(dtype),
        weighted_(weighted),
        values_(plan, weighted ? 6 : 5, threads) {}

  void reduce(const Tile& tile, std::int64_t piece, int worker) {
    const Operand::View x = x_.read(tile, worker), w = weights_.read(tile, worker);
    const std::int64_t rows = plan_.rows(tile), cols = plan_.cols(tile);
    const BlockSums to = sums(tile, piece, worker);
    if (weighted_) {
      row_verbs(dtype_).weighted_moments(
          {x.data, w.data, x.stride, w.stride, rows, cols, to, weight(tile, piece, worker)});
      return;
    }
    row_verbs(dtype_).moments({x.data, x.stride, rows, cols, 1, to});
  }

  /// Merges the pieces of a tile's rows in a fixed tree.
  MomentsView merge(const Tile& tile, int worker) {
    if (weighted_) return merge_weighted(tile, worker);
    const KernelTable& kernel = kernels();
    const std::int64_t rows = plan_.rows(tile);
    for (std::int64_t p = 0; p < plan_.pieces; ++p) {
      kernel.moments_of_sums(sums(tile, p, worker), plan_.piece_count(p, p + 1), rows,
                             moments_at(sums(tile, p, worker)));
    }
    for_each_pair_of_blocks(plan_.pieces, [&](std::int64_t a, std::int64_t b) {
      const std::int64_t end = std::min(2 * b - a, plan_.pieces);
      kernel.merge_moments(moments_at(sums(tile, a, worker)), plan_.piece_count(a, b),
                           moments_at(sums(tile, b, worker)), plan_.piece_count(b, end), rows);
    });
    return moments_at(sums(tile, 0, worker));
  }

  /// The weights' sums, once merged.
  const double* weight(const Tile& tile, int worker) const {
    return weighted_ ? weight(tile, 0, worker) : nullptr;
  }

 private:
  // The same where each row has counts of its own: row by row.
  MomentsView merge_weighted(const Tile& tile, int worker) {
    const KernelTable& kernel = kernels();
    for (std::int64_t i = 0; i < plan_.rows(tile); ++i) {
      const auto moments = [&](std::int64_t p) {
        return moments_at(row_of(sums(tile, p, worker), i));
      };
      const auto count = [&](std::int64_t p) -> double& { return weight(tile, p, worker)[i]; };
      for (std::int64_t p = 0; p < plan_.pieces; ++p) {
        const MomentsView to = moments(p);
        if (count(p) > 0) {
          kernel.moments_of_sums(row_of(sums(tile, p, worker), i), count(p), 1, to);
        } else {
          *to.mean = *to.mean_low = *to.m2 = *to.m2_low = 0;
        }
      }
      for_each_pair_of_blocks(plan_.pieces, [&](std::int64_t a, std::int64_t b) {
        const MomentsView to = moments(a), from = moments(b);
        if (!(count(b) > 0)) return;
        if (count(a) > 0) {
          kernel.merge_moments(to, count(a), from, count(b), 1);
        } else {
          *to.mean = *from.mean;
          *to.mean_low = *from.mean_low;
          *to.m2 = *from.m2;
          *to.m2_low = *from.m2_low;
        }
        count(a) += count(b);
      });
    }
    return moments_at(sums(tile, 0, worker));
  }

  BlockSums sums(const Tile& t, std::int64_t piece, int worker) const {
    const auto field = [&](int k) { return values_.at(k, piece, t, worker); };
    return {field(0), field(1), field(2), field(3), field(4)};
  }
  double* weight(const Tile& t, std::int64_t piece, int worker) const {
    return values_.at(5, piece, t, worker);
  }
  static BlockSums row_of(const BlockSums& s, std::int64_t i) {
    return {s.shift + i, s.s1 + i, s.s1_low + i, s.s2 + i, s.s2_low + i};
  }
  // In the place of the first four of the five sums.
  static MomentsView moments_at(const BlockSums& s) { return {s.shift, s.s1, s.s1_low, s.s2}; }

  const RowPlan& plan_;
  const Operand &x_, &weights_;
  DType dtype_;
  bool weighted_;
  PieceValues values_;
};

/// The statistics of a tile's rows, from their moments and the sums of their weights, if any.
void set_statistics(LayerNormSaved& saved, const Tile& tile, const MomentsView& moments,
                    const double* weight) {
  for (std::int64_t i = 0; i < tile.o1 - tile.o0; ++i) {
    const auto row = static_cast<std::size_t>(tile.o0 + i);
    const double m = weight != nullptr ? weight[i] : static_cast<double>(saved.count);
    if (weight != nullptr) saved.weight[row] = m;
    if (m == 0) {
      saved.inv_std[row] = 0;
      continue;
    }
    const double var = moments.m2[i] / m, mean = moments.mean[i];
    saved.var[row] = saved.rms ? var + mean * mean : var;
    saved.mean[row] = saved.rms ? 0 : mean;
    saved.mean_low[row] = saved.rms ? 0 : moments.mean_low[i];
    saved.inv_std[row] = inv_std_of(saved.var[row], saved.eps);
  }
}

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

LayerNormSaved forward(const Check& check, const LayerNormArgs& args, bool rms) {
  const ConstTensor& x = args.x;
  std::vector<int> axes = axes_of(check, x, args.axes);
  check.eps(args.eps);
  check.like(x, args.y, "y");
  if (args.gamma.given()) check_shape(check, args.gamma, x, axes, "gamma");
  if (args.beta.given()) check_shape(check, args.beta, x, axes, "beta");
  if (args.weights.given()) check_weights(check, args.weights, x);
  const RowPlan plan(x, axes);
  std::vector<double> gamma = read_parameter(args.gamma, plan, axes, 1);
  const ColumnArray beta(read_parameter(args.beta, plan, axes, 0));
  LayerNormSaved saved = new_saved(x, plan, std::move(axes), args.eps, rms);
  saved.gamma = std::move(gamma);
  saved.weights = args.weights;
  if (args.weights.given()) saved.weight.assign(saved.mean.size(), 0);
  if (plan.count == 0) return saved;

  const ColumnArray scale(saved.gamma);
  const int threads = threads_for(2 * x.size() * size_of(x.dtype));
  const RowVerbs& kernel = row_verbs(x.dtype);
  const Operand input(x, plan, threads), weights(args.weights, plan, threads),
      output(args.y, plan, threads);
  RowMoments moments(plan, input, weights, x.dtype, args.weights.given(), threads);
  reduce_finish_map_rows(
      plan, threads, size_of(x.dtype),
      [&](const Tile& tile, std::int64_t piece, int worker) {
        moments.reduce(tile, piece, worker);
      },
      [&](const Tile& tile, int worker) {
        const MomentsView merged = moments.merge(tile, worker);
        set_statistics(saved, tile, merged, moments.weight(tile, worker));
      },
      [&](const Tile& tile, std::int64_t, int worker) {
        const RowScalars row(saved, tile);
        const Operand::View in = input.read(tile, worker), out = output.write(tile, worker);
        RowAffineTile t{};
        t.x = in.data;
        t.x_stride = in.stride;
        t.y = out.data;
        t.y_stride = out.stride;
        t.rows = plan.rows(tile);
        t.cols = plan.cols(tile);
        t.center = row.center;
        t.scale = row.scale;
        t.shift = row.shift;
        t.gamma = scale.array(0) + tile.i0;
        t.beta = beta.array(0) + tile.i0;
        t.stream = output.stream();
        kernel.affine(t);
        output.written(tile, worker);
      });
  return saved;
}

// ---- The backward.

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
  reduce_finish_map_rows(
      plan, threads, 2 * size_of(x.dtype),
      [&](const Tile& tile, std::int64_t piece, int worker) {
        const RowScalars row(saved, tile);
        const Operand::View g = dy.read(tile, worker), in = input.read(tile, worker),
                            w = weights.read(tile, worker);
        RowGradSumsTile t{};
        t.dy = g.data;
        t.dy_stride = g.stride;
        t.x = in.data;
        t.x_stride = in.stride;
        t.weights = w.data;
        t.weights_stride = w.stride;
        t.rows = plan.rows(tile);
        t.cols = plan.cols(tile);
        t.center = row.center;
        t.gamma = gamma.array(0) + tile.i0;
        t.sum_h = rows.sum_h(tile, piece, worker);
        t.sum_hx = rows.sum_hx(tile, piece, worker);
        kernel.grad_sums(t);
      },
      [&](const Tile& tile, int worker) { rows.finish(tile, worker); },
      [&](const Tile& tile, std::int64_t block, int worker) {
        if (plan.is_first_of_block(tile, block)) parameters.clear(tile, block);
        const RowScalars row(saved, tile);
        const Operand::View g = dy.read(tile, worker), in = input.read(tile, worker),
                            w = weights.read(tile, worker), out = dx.write(tile, worker);
        RowGradInputTile t{};
        t.dy = g.data;
        t.dy_stride = g.stride;
        t.x = in.data;
        t.x_stride = in.stride;
        t.weights = w.data;
        t.weights_stride = w.stride;
        t.dx = out.data;
        t.dx_stride = out.stride;
        t.rows = plan.rows(tile);
        t.cols = plan.cols(tile);
        t.center = row.center;
        t.scale = row.scale;
        t.shift = row.shift;
        t.b = rows.b(tile, worker);
        t.c = rows.c(tile, worker);
        t.gamma = gamma.array(0) + tile.i0;
        const auto columns = [&](int array) {
          double* sums = parameters.of_block(array, block);
          return sums == nullptr ? nullptr : sums + tile.i0;
        };
        t.dgamma = columns(0);
        t.dbeta = columns(1);
        t.dgamma_low = columns(2);
        t.dbeta_low = columns(3);
        t.stream = dx.stream();
        kernel.grad_input(t);
        dx.written(tile, worker);
      });
  parameters.add_up(threads);
  write_parameter(grads.dgamma, plan, saved.axes, parameters.of_block(0, 0));
  write_parameter(grads.dbeta, plan, saved.axes, parameters.of_block(1, 0));
}

}  // namespace

void LayerNormSaved::write_statistics(const std::vector<double>& values, const Tensor& to) const {
  const RowPlan plan(x, axes);
  std::vector<int> kept;
  for (int d = 0; d < x.ndim; ++d) {
    if (std::find(axes.begin(), axes.end(), d) == axes.end()) kept.push_back(d);
  }
  const Dims dims = dims_in_order(to, kept, plan.outer_axes);
  write_values(to, dims, values.data(), static_cast<std::int64_t>(values.size()));
}

LayerNormSaved layer_norm(const LayerNormArgs& args) {
  return forward(Check("layer_norm"), args, false);
}

void layer_norm_backward(const LayerNormSaved& saved, const LayerNormGrads& grads) {
  backward(Check("layer_norm_backward"), saved, grads, false);
}

LayerNormSaved rms_norm(const LayerNormArgs& args) {
  const Check check("rms_norm");
  if (args.beta.given()) check.refuse("beta is given, but rms_norm takes none");
  return forward(check, args, true);
}

void rms_norm_backward(const LayerNormSaved& saved, const LayerNormGrads& grads) {
  const Check check("rms_norm_backward");
  if (grads.dbeta.given()) check.refuse("dbeta is given, but rms_norm has no beta");
  backward(check, saved, grads, true);
}

}  // namespace bnpp
