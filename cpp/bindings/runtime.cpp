// Instruction sets, threads, and how this module was built.
#include "bnpp/runtime.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;

namespace bnpp::python {

void bind_runtime(nb::module_& m) {
  m.def("usable_isas", &usable_isas);
  m.def("get_isa", &get_isa);
  m.def("set_isa", [](const std::string& name) { return set_isa(name); }, nb::arg("name"));
  m.def("get_threads", &get_threads);
  m.def("set_thread_limit", &set_thread_limit, nb::arg("n"));
  m.def("set_min_work", &set_min_work, nb::arg("bytes"));
  m.def("set_stream_above", &set_stream_above, nb::arg("bytes"));
  m.def("build_info", [] {
    nb::dict info;
    info["version"] = BNPP_VERSION;
    info["build_type"] = BNPP_BUILD_TYPE;
#if defined(__clang__)
    info["compiler"] = "clang " __clang_version__;
#elif defined(__GNUC__)
    info["compiler"] = "g++ " __VERSION__;
#else
    info["compiler"] = "unknown";
#endif
    info["parallel"] = parallel_backend();
    return info;
  });
}

}  // namespace bnpp::python
