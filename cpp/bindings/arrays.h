// Python objects <-> tensor views: what the bindings accept, refuse and allocate. Needs the GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "bnpp/moments.h"
#include "bnpp/tensor.h"

namespace bnpp::python {

namespace nb = nanobind;

/// A NumPy array with a view of its memory, which the buffer protocol keeps in place meanwhile.
class Array {
 public:
  Array() = default;  // not given
  Array(Array&& other) noexcept;
  Array& operator=(Array&&) = delete;
  ~Array();

  /// An argument to read: a NumPy array as it is, anything else through bnpp._arrays.as_array. None
  /// is "not given".
  static Array input(const char* function, const char* name, nb::handle object);
  /// The same, but None is refused.
  static Array required(const char* function, const char* name, nb::handle object);
  /// Weights of an array: bools, integers or floats, or one number, converted to what x needs. None
  /// is "not given".
  static Array weights(const char* function, nb::handle object, const Array& x);
  /// An array to write, given by the caller: writeable, apart from itself.
  static Array output(const char* function, const char* name, nb::handle object);
  /// New, uninitialised, with the shape, dtype and memory order of `other`.
  static Array like(const Array& other);
  /// New, uninitialised, one-dimensional.
  static Array vector(std::int64_t size, DType dtype);

  bool given() const { return tensor_.given(); }
  const Tensor& tensor() const { return tensor_; }
  const nb::object& object() const { return object_; }

 private:
  bool view();
  static nb::object like_in_pool(const Array& other);
  void check_dimensions(const char* function, const char* name) const;

  nb::object object_;
  Py_buffer buffer_{};
  Tensor tensor_;
};

/// Refuses an `out` that shares memory with an input, except by being that very array.
struct Neighbour {
  const char* name;
  const Array& array;
  bool may_be_out;
};
void check_overlap(const char* function, const Array& out, std::initializer_list<Neighbour> inputs);

/// The same memory, shape and strides.
bool same_view(const ConstTensor& a, const ConstTensor& b);

/// The name of an object's type.
std::string type_of(nb::handle object);

/// The dtype of the statistics of a tensor.
DType statistics_dtype(DType dtype);

int to_int(const char* function, const char* name, nb::handle object);
double to_double(const char* function, const char* name, nb::handle object);
/// The position of a string in `choices`; None is the choice "".
int to_choice(const char* function, const char* name, nb::handle object,
              std::initializer_list<const char*> choices);

/// The moments of channels as six float64 arrays: count, mean, mean_low, m2, m2_low,
/// squared_weights.
nb::tuple to_tuple(const std::vector<ChannelMoments>& channels);

/// A new float32 or float64 array with these values, which cannot be written.
nb::object constant_vector(const double* values, std::int64_t size, DType dtype);

}  // namespace bnpp::python
