#include "norms/row_parameters.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>

#include "fold/values.h"

namespace bnpp {
namespace {

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

}  // namespace

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

void check_shape(const Check& check, const ConstTensor& v, const ConstTensor& x,
                 const std::vector<int>& axes, const char* name) {
  const ConstTensor needed = shape_along(x, axes);
  if (v.ndim == needed.ndim && std::equal(v.shape, v.shape + v.ndim, needed.shape)) return;
  check.refuse(name, " has shape ", shape_text(v), ", but it needs x's ", shape_text(needed),
               " along axis ", axes_text(axes));
}

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

void write_kept(const Tensor& v, const RowPlan& plan, const std::vector<int>& axes,
                const std::vector<double>& values) {
  const int ndim = v.ndim + static_cast<int>(axes.size());
  std::vector<int> kept;
  for (int d = 0; d < ndim; ++d) {
    if (std::find(axes.begin(), axes.end(), d) == axes.end()) kept.push_back(d);
  }
  const auto count = static_cast<std::int64_t>(values.size());
  write_values(v, dims_in_order(v, kept, plan.outer_axes), values.data(), count);
}

}  // namespace bnpp
