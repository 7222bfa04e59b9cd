// Layer and root mean square normalization: the sentence of batch norm for rows.
//   moments -> var = M2 / m, inv_std -> affine
// Of rms norm the mean is 0 and var the mean square, M2 / m + mean^2: terms of one sign, so that
// nothing cancels.
#include "bnpp/layer_norm.h"

#include <utility>

#include "norms/check.h"
#include "norms/operand.h"
#include "norms/row_moments.h"
#include "norms/row_parameters.h"
#include "norms/row_plan.h"
#include "norms/row_scalars.h"
#include "norms/saved.h"
#include "runtime/dispatch.h"

namespace bnpp {
namespace {

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

/// gamma and beta as the kernel takes them: for all but float64 in float32, too.
struct ColumnParameters {
  ColumnArray gamma, beta;
  std::vector<float> gamma_single, beta_single;
  bool moderate = true;  // float32 has room for them

  ColumnParameters(const std::vector<double>& of_gamma, const std::vector<double>& of_beta,
                   DType dtype)
      : gamma(of_gamma), beta(of_beta) {
    if (dtype == DType::float64) return;
    gamma_single.assign(of_gamma.begin(), of_gamma.end());
    beta_single.assign(of_beta.begin(), of_beta.end());
    for (const double v : of_gamma) moderate = moderate && is_in_range(v);
    for (const double v : of_beta) moderate = moderate && is_moderate(v);
  }
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
  const std::vector<double> beta = read_parameter(args.beta, plan, axes, 0);
  LayerNormSaved saved = new_saved(x, plan, std::move(axes), args.eps, rms);
  saved.gamma = std::move(gamma);
  saved.weights = args.weights;
  if (args.weights.given()) saved.weight.assign(saved.mean.size(), 0);
  if (plan.count == 0) return saved;

  const ColumnParameters parameters(saved.gamma, beta, x.dtype);
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
        t.gamma = parameters.gamma.array(0) + tile.i0;
        t.beta = parameters.beta.array(0) + tile.i0;
        if (x.dtype != DType::float64) {
          t.gamma_single = &parameters.gamma_single[static_cast<std::size_t>(tile.i0)];
          t.beta_single = &parameters.beta_single[static_cast<std::size_t>(tile.i0)];
        }
        t.moderate = parameters.moderate;
        t.stream = output.stream(2);
        kernel.affine(t);
        output.written(tile, worker);
      });
  return saved;
}

}  // namespace

void LayerNormSaved::write_statistics(const std::vector<double>& values, const Tensor& to) const {
  write_kept(to, RowPlan(x, axes), axes, values);
}

LayerNormSaved layer_norm(const LayerNormArgs& args) {
  return forward(Check("layer_norm"), args, false);
}

LayerNormSaved rms_norm(const LayerNormArgs& args) {
  const Check check("rms_norm");
  if (args.beta.given()) check.refuse("beta is given, but rms_norm takes none");
  return forward(check, args, true);
}

}  // namespace bnpp
