// Tensors of any dtype as float64 values: the one place where folding meets the list of dtypes.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "bnpp/tensor.h"
#include "norms/check.h"

namespace bnpp {

/// call(T{}) with the C++ type of a dtype.
template <class Call>
void with_type(DType dtype, Call call) {
  switch (dtype) {
#define BNPP_CALL(name, type) \
  case DType::name:           \
    call(type{});             \
    break;
    BNPP_DTYPES(BNPP_CALL)
#undef BNPP_CALL
  }
}

// memcpy, because a tensor's elements need not be aligned.
template <class T>
double load_value(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return to_double(value);
}

template <class T>
void store_value(void* to, double value) {
  const T rounded = from_double<T>(value);
  std::memcpy(to, &rounded, sizeof(T));
}

/// `value` as the dtype holds it.
template <class T>
double rounded_to(double value) {
  return to_double(from_double<T>(value));
}

/// The values of a vector. Throws unless it has one dimension and, where `length` is not negative,
/// that many values, as `owner` has ("weight has 4 output channels").
std::vector<double> read_vector(const Check& check, const ConstTensor& v, const char* name,
                                std::int64_t length, const std::string& owner);

}  // namespace bnpp
