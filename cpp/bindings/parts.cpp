// What a norm needs that is computed part by part, over views of one tensor.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "bnpp/batch_norm.h"
#include "norms/check.h"
#include "saved.h"

namespace bnpp::python {
namespace {

// The backward of a part of a tensor whose other parts have statistics of their own: dx and
// dresidual go where they are told to, and the vectors stay float64, to be added up over the parts
// and rounded once.
nb::tuple part_backward(nb::handle dy_object, nb::handle saved_object, nb::handle dx_object,
                        nb::handle dresidual_object) {
  const Saved& saved = to_saved("batch_norm_backward", saved_object);
  const char* function =
      saved.core.frozen ? "batch_norm_inference_backward" : "batch_norm_backward";
  const Array dy = Array::required(function, "dy", dy_object), x = saved.array(function),
              dx = Array::output(function, "dx", dx_object),
              dresidual = Array::output(function, "dresidual", dresidual_object);
  const auto vector = [&] { return Array::vector(saved.channels(), DType::float64); };
  const Array dgamma = vector(), dbeta = vector(), dmean = vector(), dvar = vector();
  BatchNormGrads grads;
  grads.dy = dy.tensor();
  grads.dx = dx.tensor();
  grads.dresidual = dresidual.tensor();
  grads.dgamma = dgamma.tensor();
  grads.dbeta = dbeta.tensor();
  if (!saved.core.frozen) {
    nb::gil_scoped_release release;
    batch_norm_backward(saved.core, grads);
  } else {
    grads.dmean = dmean.tensor();
    grads.dvar = dvar.tensor();
    nb::gil_scoped_release release;
    batch_norm_inference_backward(saved.core, grads);
  }
  if (!saved.core.frozen) return nb::make_tuple(dgamma.object(), dbeta.object());
  return nb::make_tuple(dgamma.object(), dbeta.object(), dmean.object(), dvar.object());
}

// The output of a norm that is computed part by part, checked as a whole: the caller's `out`, or a
// new array like `like`. `inputs` are (name, array, whether it is like the output and may be it).
nb::object whole_output(const std::string& function, nb::handle out, nb::handle like,
                        const nb::list& inputs) {
  const Check check(function.c_str());
  const Array model = Array::required(function.c_str(), "x", like);
  std::vector<std::pair<std::string, Array>> arrays;
  std::vector<bool> alike;
  for (const nb::handle input : inputs) {
    const auto name = nb::cast<std::string>(input[0]);
    arrays.emplace_back(name, Array::input(function.c_str(), name.c_str(), input[1]));
    alike.push_back(nb::cast<bool>(input[2]));
    const Array& array = arrays.back().second;
    if (alike.back() && array.given()) check.like(model.tensor(), array.tensor(), name.c_str());
  }
  if (out.is_none()) return Array::like(model).object();
  const Array array = Array::output(function.c_str(), "out", out);
  check.like(model.tensor(), array.tensor(), "out");
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    check_overlap(function.c_str(), array, {{arrays[i].first.c_str(), arrays[i].second, alike[i]}});
  }
  return array.object();
}

}  // namespace

void bind_parts(nb::module_& m) {
  m.def("part_backward", &part_backward, nb::arg("dy").none(), nb::arg("saved").none(),
        nb::arg("dx").none(), nb::arg("dresidual").none());
  m.def("whole_output", &whole_output, nb::arg("function"), nb::arg("out").none(),
        nb::arg("like").none(), nb::arg("inputs"));
}

}  // namespace bnpp::python
