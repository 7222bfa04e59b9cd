// Parameters and statistics of rows: tensors over some of x's axes.
#pragma once

#include <cstdint>
#include <vector>

#include "bnpp/tensor.h"
#include "norms/check.h"
#include "norms/operand.h"
#include "norms/row_plan.h"

namespace bnpp {

/// The axes from 0 on, ascending; refused if there are none, or one comes twice or is not x's.
std::vector<int> axes_of(const Check& check, const ConstTensor& x, const std::vector<int>& axes);

/// The shape of x along `axes`.
void check_shape(const Check& check, const ConstTensor& v, const ConstTensor& x,
                 const std::vector<int>& axes, const char* name);

/// Weights are like x, in the dtype that the kernels read, and none is negative or not finite.
void check_weights(const Check& check, const ConstTensor& w, const ConstTensor& x);

/// A parameter of the features, in float64 and in the order of x's memory.
std::vector<double> read_parameter(const ConstTensor& v, const RowPlan& plan,
                                   const std::vector<int>& axes, double fallback);
void write_parameter(const Tensor& v, const RowPlan& plan, const std::vector<int>& axes,
                     const double* values);
/// The same for values of the kept axes, in the order of the rows.
void write_kept(const Tensor& v, const RowPlan& plan, const std::vector<int>& axes,
                const std::vector<double>& values);

}  // namespace bnpp
