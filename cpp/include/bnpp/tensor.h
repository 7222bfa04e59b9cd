// A non-owning view of an n-dimensional array: data, dtype, shape, strides in bytes (NumPy's
// convention). Any strides are allowed: gaps, negative, zero; data need not be aligned.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "bnpp/dtype.h"
#include "bnpp/error.h"

namespace bnpp {

inline constexpr int kMaxDims = 8;

template <class Void>
struct BasicTensor {
  Void* data = nullptr;
  DType dtype = DType::float32;
  int ndim = 0;  // 0 means "not given"
  std::int64_t shape[kMaxDims] = {};
  std::int64_t strides[kMaxDims] = {};

  bool given() const { return ndim > 0; }

  std::int64_t size() const {
    std::int64_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= shape[d];
    return n;
  }

  operator BasicTensor<const void>() const {
    BasicTensor<const void> view;
    view.data = data;
    view.dtype = dtype;
    view.ndim = ndim;
    for (int d = 0; d < ndim; ++d) {
      view.shape[d] = shape[d];
      view.strides[d] = strides[d];
    }
    return view;
  }
};

using Tensor = BasicTensor<void>;
using ConstTensor = BasicTensor<const void>;

/// A view of row-major (C-order) data with at most kMaxDims dimensions:
/// `dense(x.data(), {32, 64, 56, 56})`.
template <class T>
auto dense(T* data, std::initializer_list<std::int64_t> shape) {
  BasicTensor<std::conditional_t<std::is_const_v<T>, const void, void>> view;
  view.data = data;
  view.dtype = dtype_of<std::remove_const_t<T>>;
  if (shape.size() > kMaxDims) throw ValueError("dense: shape has more than 8 dimensions");
  for (std::int64_t n : shape) view.shape[view.ndim++] = n;
  std::int64_t stride = sizeof(T);
  for (int d = view.ndim - 1; d >= 0; --d) {
    view.strides[d] = stride;
    stride *= view.shape[d];
  }
  return view;
}

}  // namespace bnpp
