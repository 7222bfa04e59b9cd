#include "norms/check.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace bnpp {
namespace {

// each(c, byte offset), with a stride the compiler knows where the elements follow upon each other.
template <class T, class Each>
void for_each_element(const ConstTensor& v, Each each) {
  constexpr std::int64_t item = sizeof(T);
  if (v.strides[0] == item) {
    for (std::int64_t c = 0; c < v.shape[0]; ++c) each(c, c * item);
  } else {
    for (std::int64_t c = 0; c < v.shape[0]; ++c) each(c, c * v.strides[0]);
  }
}

template <class T>
void read_values(const ConstTensor& v, double* values) {
  const char* from = static_cast<const char*>(v.data);
  for_each_element<T>(v, [=](std::int64_t c, std::int64_t at) {
    T value;
    std::memcpy(&value, from + at, sizeof(T));
    values[c] = to_double(value);
  });
}

template <class T>
void write_values(const Tensor& v, const double* values) {
  char* to = static_cast<char*>(v.data);
  for_each_element<T>(v, [=](std::int64_t c, std::int64_t at) {
    const T value = from_double<T>(values[c]);
    std::memcpy(to + at, &value, sizeof(T));
  });
}

}  // namespace

int Check::axis_of(const ConstTensor& x, int axis) const {
  if (x.ndim < 2 || x.ndim > kMaxDims) {
    refuse("x has ", x.ndim, " dimension", x.ndim == 1 ? "" : "s", ", but it needs 2 to ",
           kMaxDims);
  }
  if (axis < -x.ndim || axis >= x.ndim) {
    refuse("axis is ", axis, ", but x has ", x.ndim, " dimensions: it needs to be from ", -x.ndim,
           " to ", x.ndim - 1);
  }
  return axis < 0 ? axis + x.ndim : axis;
}

void Check::eps(double eps) const {
  if (!(eps >= 0) || std::isinf(eps))
    refuse("eps is ", eps, ", but it needs to be finite and >= 0");
}

void Check::like(const ConstTensor& x, const ConstTensor& t, const char* name) const {
  bool same = t.ndim == x.ndim;
  for (int d = 0; same && d < x.ndim; ++d) same = t.shape[d] == x.shape[d];
  if (!same) {
    refuse(name, " has shape ", shape_text(t), ", but it needs x's ", shape_text(x));
  }
  if (t.dtype != x.dtype) {
    refuse<TypeError>(name, " has dtype ", name_of(t.dtype), ", but it needs x's ",
                      name_of(x.dtype));
  }
}

void Check::length(const ConstTensor& v, const ConstTensor& x, int axis, const char* name) const {
  if (v.ndim != 1) {
    refuse(name, " has shape ", shape_text(v), ", but it needs one dimension, of x's ",
           x.shape[axis], " channels along axis ", axis);
  }
  if (v.shape[0] != x.shape[axis]) {
    refuse(name, " has ", v.shape[0], v.shape[0] == 1 ? " value" : " values", ", but x has ",
           x.shape[axis], x.shape[axis] == 1 ? " channel" : " channels", " along axis ", axis);
  }
}

ChannelVector Check::vector(const ConstTensor& v, const ConstTensor& x, int axis, const char* name,
                            double fallback) const {
  const auto channels = static_cast<std::size_t>(x.shape[axis]);
  if (!v.given()) return ChannelVector(channels, fallback);
  length(v, x, axis, name);
  ChannelVector values(channels);
  switch (v.dtype) {
#define BNPP_READ(dtype, type)           \
  case DType::dtype:                     \
    read_values<type>(v, values.data()); \
    break;
    BNPP_DTYPES(BNPP_READ)
#undef BNPP_READ
  }
  return values;
}

void Check::variances(const ChannelVector& var) const {
  std::size_t negative = 0;  // counted, as a loop that may end early is not vectorised
  for (const double v : var) negative += v < 0;
  if (negative == 0) return;
  const auto first = std::find_if(var.begin(), var.end(), [](double v) { return v < 0; });
  refuse("var[", first - var.begin(), "] is ", *first, ", but variances need to be >= 0");
}

void Check::out_vector(const ConstTensor& v, const ConstTensor& x, int axis,
                       const char* name) const {
  if (v.given()) length(v, x, axis, name);
}

std::string shape_text(const ConstTensor& t) {
  std::ostringstream text;
  text << '(';
  for (int d = 0; d < t.ndim; ++d) text << (d ? ", " : "") << t.shape[d];
  text << (t.ndim == 1 ? ",)" : ")");
  return text.str();
}

void write_vector(const Tensor& v, const double* values) {
  if (!v.given()) return;
  switch (v.dtype) {
#define BNPP_WRITE(dtype, type)    \
  case DType::dtype:               \
    write_values<type>(v, values); \
    break;
    BNPP_DTYPES(BNPP_WRITE)
#undef BNPP_WRITE
  }
}

}  // namespace bnpp
