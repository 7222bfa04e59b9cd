// The module bnpp._core. Its functions take positional arguments; names, defaults and documentation
// are those of the Python functions above it.
#include <nanobind/nanobind.h>

#include <exception>

#include "bnpp/error.h"
#include "pool.h"

namespace nb = nanobind;

namespace bnpp::python {
void bind_batch_norm(nb::module_& m);
void bind_derivatives(nb::module_& m);
void bind_fold(nb::module_& m);
void bind_group_norm(nb::module_& m);
void bind_layer_norm(nb::module_& m);
void bind_moments(nb::module_& m);
void bind_runtime(nb::module_& m);
}  // namespace bnpp::python

NB_MODULE(_core, m) {
  m.doc() = "The compiled part of bnpp; use the package's own functions.";
  // bnpp::ValueError is a std::invalid_argument, which nanobind already maps to ValueError.
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const bnpp::TypeError& error) {
      PyErr_SetString(PyExc_TypeError, error.what());
    }
  });
  bnpp::python::bind_batch_norm(m);
  bnpp::python::bind_derivatives(m);
  bnpp::python::bind_fold(m);
  bnpp::python::bind_group_norm(m);
  bnpp::python::bind_layer_norm(m);
  bnpp::python::bind_moments(m);
  bnpp::python::bind_pool(m);
  bnpp::python::bind_runtime(m);
}
