#include "arrays.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <utility>

#include "bnpp/error.h"
#include "norms/check.h"
#include "pool.h"

namespace bnpp::python {
namespace {

// Looked up once; the references are never given back, as the interpreter outlives every call.
struct NumPy {
  nb::handle ndarray, empty, empty_like, float32, float64, shares_memory, too_hard;
};

const NumPy& numpy() {
  static const NumPy names = [] {
    const nb::module_ np = nb::module_::import_("numpy");
    const nb::object exceptions = np.attr("exceptions");
    const auto keep = [](const nb::object& from, const char* name) {
      return nb::object(from.attr(name)).release();
    };
    return NumPy{keep(np, "ndarray"),
                 keep(np, "empty"),
                 keep(np, "empty_like"),
                 keep(np, "float32"),
                 keep(np, "float64"),
                 keep(np, "shares_memory"),
                 keep(exceptions, "TooHardError")};
  }();
  return names;
}

nb::object helper(const char* name) { return nb::module_::import_("bnpp._arrays").attr(name); }

std::string text_of(nb::handle object) { return nb::repr(object).c_str(); }

// The letter of a C++ type in the buffer protocol; bfloat16 has none.
template <class T>
constexpr char kFormat = '\0';
template <>
constexpr char kFormat<float> = 'f';
template <>
constexpr char kFormat<double> = 'd';
template <>
constexpr char kFormat<float16> = 'e';

// The dtype of a native-endian buffer format; false if bnpp has none for it.
bool parse_format(const char* format, DType& dtype) {
  if (format == nullptr) return false;
  if (std::strchr("@=<^", *format) != nullptr && *format != '\0') ++format;
  if (*format == '\0' || format[1] != '\0') return false;
#define BNPP_FORMAT(name, type)   \
  if (*format == kFormat<type>) { \
    dtype = DType::name;          \
    return true;                  \
  }
  BNPP_DTYPES(BNPP_FORMAT)
#undef BNPP_FORMAT
  return false;
}

// The first and one past the last byte of a tensor that is not empty.
std::pair<const char*, const char*> extent(const ConstTensor& t) {
  const char *low = static_cast<const char*>(t.data), *high = low + size_of(t.dtype);
  for (int d = 0; d < t.ndim; ++d) {
    const std::int64_t reach = (t.shape[d] - 1) * t.strides[d];
    (reach < 0 ? low : high) += reach;
  }
  return {low, high};
}

// Whether some elements may lie upon others: sorted by stride, each dimension must step over all of
// the smaller ones.
bool overlaps_itself(const ConstTensor& t) {
  if (t.size() == 0) return false;
  std::vector<std::pair<std::int64_t, std::int64_t>> dims;
  for (int d = 0; d < t.ndim; ++d) {
    if (t.shape[d] > 1) dims.emplace_back(std::abs(t.strides[d]), t.shape[d]);
  }
  std::sort(dims.begin(), dims.end());
  std::int64_t reach = size_of(t.dtype);
  for (const auto& [stride, size] : dims) {
    if (stride < reach) return true;
    reach += stride * (size - 1);
  }
  return false;
}

// Whether the elements follow upon each other with the axes in this order, innermost first.
bool is_contiguous(const ConstTensor& t, const std::vector<int>& axes) {
  std::int64_t stride = size_of(t.dtype);
  for (const int axis : axes) {
    if (t.shape[axis] > 1 && t.strides[axis] != stride) return false;
    stride *= t.shape[axis];
  }
  return true;
}

bool share_memory(const Array& a, const Array& b) {
  if (a.tensor().size() == 0 || b.tensor().size() == 0) return false;
  const auto [a_low, a_high] = extent(a.tensor());
  const auto [b_low, b_high] = extent(b.tensor());
  if (a_high <= b_low || b_high <= a_low) return false;
  try {
    constexpr int kMaxWork =
        100000;  // what it may cost to tell interleaved views from overlapping ones
    return nb::cast<bool>(numpy().shares_memory(a.object(), b.object(), kMaxWork));
  } catch (nb::python_error& error) {
    if (error.matches(numpy().too_hard)) return true;
    throw;
  }
}

}  // namespace

Array::Array(Array&& other) noexcept
    : object_(std::move(other.object_)),
      buffer_(std::exchange(other.buffer_, Py_buffer{})),
      tensor_(std::exchange(other.tensor_, Tensor{})) {}

Array::~Array() {
  if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
}

bool Array::view() {
  constexpr int flags = PyBUF_STRIDES | PyBUF_FORMAT;
  if (PyObject_GetBuffer(object_.ptr(), &buffer_, flags) == 0) {
    if (!parse_format(buffer_.format, tensor_.dtype)) return false;
  } else {
    // NumPy hands out no buffer of bfloat16, but one of the bits.
    PyErr_Clear();
    const nb::object bits = helper("bits_of_bfloat16")(object_);
    if (bits.is_none() || PyObject_GetBuffer(bits.ptr(), &buffer_, flags) != 0) {
      PyErr_Clear();
      return false;
    }
    tensor_.dtype = DType::bfloat16;
  }
  tensor_.data = buffer_.buf;
  tensor_.ndim = buffer_.ndim;
  for (int d = 0; d < std::min(buffer_.ndim, kMaxDims); ++d) {
    tensor_.shape[d] = buffer_.shape[d];
    tensor_.strides[d] = buffer_.strides[d];
  }
  return true;
}

void Array::check_dimensions(const char* function, const char* name) const {
  if (tensor_.ndim == 0) {
    Check(function).refuse(name, " is a single number, but it needs to be an array");
  }
  if (tensor_.ndim > kMaxDims) {
    Check(function).refuse(name, " has ", tensor_.ndim, " dimensions, but it needs 2 to ",
                           kMaxDims);
  }
}

Array Array::input(const char* function, const char* name, nb::handle object) {
  Array array;
  if (object.is_none()) return array;
  if (object.type().is(numpy().ndarray)) {
    array.object_ = nb::borrow(object);
  } else {
    array.object_ = helper("as_array")(object, name, function);
  }
  if (!array.view()) {
    helper("refuse_dtype")(array.object_, name, function);
    Check(function).refuse<TypeError>(name, " is not an array bnpp can read");
  }
  array.check_dimensions(function, name);
  return array;
}

Array Array::required(const char* function, const char* name, nb::handle object) {
  if (object.is_none()) {
    Check(function).refuse<TypeError>(name, " is None, but it needs to be an array");
  }
  return input(function, name, object);
}

Array Array::weights(const char* function, nb::handle object, const Array& x) {
  if (object.is_none()) return Array();
  const bool wide = x.tensor().dtype == DType::float64;
  return input(function, "weights", helper("as_weights")(object, wide, function));
}

Array Array::output(const char* function, const char* name, nb::handle object) {
  Array array;
  if (object.is_none()) return array;
  if (!nb::isinstance(object, numpy().ndarray)) {
    Check(function).refuse<TypeError>(name, " is of type ", type_of(object),
                                      ", but it needs to be a NumPy array");
  }
  array.object_ = nb::borrow(object);
  if (!array.view()) {
    helper("refuse_dtype")(array.object_, name, function);
    Check(function).refuse<TypeError>(name, " is not an array bnpp can write");
  }
  if (array.buffer_.readonly) {
    Check(function).refuse(name, " is read-only, but it needs to be writeable");
  }
  array.check_dimensions(function, name);
  if (overlaps_itself(array.tensor_)) {
    Check(function).refuse(
        name, " has elements that share memory with each other, but each needs its own");
  }
  return array;
}

Array Array::like(const Array& other) {
  Array array;
  array.object_ = like_in_pool(other);
  if (!array.object_.is_valid()) array.object_ = numpy().empty_like(other.object_);
  array.view();
  return array;
}

// A large array like `other` on recycled memory; none if it is small or there is no memory.
nb::object Array::like_in_pool(const Array& other) {
  const ConstTensor like = other.tensor_;
  const auto bytes = static_cast<std::size_t>(like.size() * size_of(like.dtype));
  if (bytes < kPooledFrom) return {};
  nb::object block;
  try {
    block = nb::cast(Block(bytes));
  } catch (const std::bad_alloc&) {
    return {};  // NumPy shall say so
  }
  // Dense, with the axes (innermost first) in the order that numpy.empty_like gives them: C or
  // Fortran order where x is contiguous, whatever the strides of its axes of one element, else the
  // order of x's strides, where of equal ones (broadcast, say) the last axis is the innermost.
  std::vector<int> axes(static_cast<std::size_t>(like.ndim));
  std::iota(axes.rbegin(), axes.rend(), 0);
  if (!is_contiguous(like, axes)) {
    std::reverse(axes.begin(), axes.end());
    if (!is_contiguous(like, axes)) {
      std::reverse(axes.begin(), axes.end());
      std::stable_sort(axes.begin(), axes.end(), [&](int a, int b) {
        return std::abs(like.strides[a]) < std::abs(like.strides[b]);
      });
    }
  }
  std::int64_t strides[kMaxDims], stride = size_of(like.dtype);
  for (const int axis : axes) {
    strides[axis] = stride;
    stride *= like.shape[axis];
  }
  nb::list shape, steps;
  for (int d = 0; d < like.ndim; ++d) {
    shape.append(like.shape[d]);
    steps.append(strides[d]);
  }
  return numpy().ndarray(nb::tuple(shape), other.object_.attr("dtype"), block, 0, nb::tuple(steps));
}

Array Array::vector(std::int64_t size, DType dtype) {
  Array array;
  array.object_ = numpy().empty(size, dtype == DType::float64 ? numpy().float64 : numpy().float32);
  array.view();
  return array;
}

void check_overlap(const char* function, const Array& out,
                   std::initializer_list<Neighbour> inputs) {
  for (const Neighbour& input : inputs) {
    if (!input.array.given()) continue;
    if (input.may_be_out && same_view(out.tensor(), input.array.tensor())) continue;
    if (share_memory(out, input.array)) {
      Check(function).refuse(
          "out shares memory with ", input.name, ", but it needs ",
          input.may_be_out ? "to be that very array or memory of its own" : "memory of its own");
    }
  }
}

std::string type_of(nb::handle object) { return nb::str(object.type().attr("__name__")).c_str(); }

bool same_view(const ConstTensor& a, const ConstTensor& b) {
  bool same = a.data == b.data && a.dtype == b.dtype && a.ndim == b.ndim;
  for (int d = 0; same && d < a.ndim; ++d) {
    same = a.shape[d] == b.shape[d] && (a.strides[d] == b.strides[d] || a.shape[d] == 1);
  }
  return same;
}

DType statistics_dtype(DType dtype) {
  return dtype == DType::float64 ? DType::float64 : DType::float32;
}

int to_int(const char* function, const char* name, nb::handle object) {
  const long value = PyLong_Check(object.ptr()) ? PyLong_AsLong(object.ptr()) : [&] {
    const nb::object index = nb::steal(PyNumber_Index(object.ptr()));
    return index.is_valid() ? PyLong_AsLong(index.ptr()) : -1;
  }();
  if (PyErr_Occurred()) {
    const bool too_large = PyErr_ExceptionMatches(PyExc_OverflowError);
    PyErr_Clear();
    if (!too_large) {
      Check(function).refuse<TypeError>(name, " is ", text_of(object),
                                        ", but it needs to be an integer");
    }
    Check(function).refuse(name, " is ", text_of(object), ", which is far out of range");
  }
  if (value != static_cast<int>(value)) {
    Check(function).refuse(name, " is ", value, ", which is far out of range");
  }
  return static_cast<int>(value);
}

double to_double(const char* function, const char* name, nb::handle object) {
  const double value = PyFloat_AsDouble(object.ptr());
  if (PyErr_Occurred()) {
    PyErr_Clear();
    Check(function).refuse<TypeError>(name, " is ", text_of(object),
                                      ", but it needs to be a number");
  }
  return value;
}

int to_choice(const char* function, const char* name, nb::handle object,
              std::initializer_list<const char*> choices) {
  int position = 0;
  std::string wanted;
  for (const char* choice : choices) {
    const bool none = *choice == '\0';
    if (none ? object.is_none()
             : PyUnicode_Check(object.ptr()) &&
                   PyUnicode_CompareWithASCIIString(object.ptr(), choice) == 0) {
      return position;
    }
    wanted += (position++ ? " or " : "") + (none ? "None" : "'" + std::string(choice) + "'");
  }
  Check(function).refuse(name, " is ", text_of(object), ", but it needs to be ", wanted);
}

nb::object constant_vector(const double* values, std::int64_t size, DType dtype) {
  const Array array = Array::vector(size, dtype);
  write_vector(array.tensor(), values);
  array.object().attr("setflags")(false);
  return array.object();
}

}  // namespace bnpp::python
