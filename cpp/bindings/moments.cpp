// moments and merge_moments, as tuples (count, mean, mean_low, m2, m2_low,
// squared_weights) of float64.
#include "bnpp/moments.h"

#include <nanobind/nanobind.h>

#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "arrays.h"
#include "bnpp/error.h"

namespace bnpp::python {
namespace {

constexpr double ChannelMoments::* kFields[] = {
    &ChannelMoments::count, &ChannelMoments::mean,   &ChannelMoments::mean_low,
    &ChannelMoments::m2,    &ChannelMoments::m2_low, &ChannelMoments::squared_weights};

std::vector<ChannelMoments> from_tuple(const char* name, nb::tuple fields) {
  if (fields.size() != std::size(kFields)) {
    throw ValueError(std::string("merge_moments: ") + name + " has " +
                     std::to_string(fields.size()) + " vectors, but it needs six");
  }
  std::vector<ChannelMoments> channels;
  for (std::size_t f = 0; f < std::size(kFields); ++f) {
    const Array values = Array::required("merge_moments", name, fields[f]);
    const Tensor& t = values.tensor();
    if (f == 0 && t.ndim == 1) channels.resize(static_cast<std::size_t>(t.shape[0]));
    if (t.ndim != 1 || t.dtype != DType::float64 ||
        t.shape[0] != static_cast<std::int64_t>(channels.size())) {
      throw ValueError(std::string("merge_moments: ") + name +
                       " needs six float64 vectors of one length");
    }
    for (std::size_t c = 0; c < channels.size(); ++c) {
      std::memcpy(&(channels[c].*kFields[f]),
                  static_cast<const char*>(t.data) + static_cast<std::int64_t>(c) * t.strides[0],
                  sizeof(double));
    }
  }
  return channels;
}

nb::tuple moments_of(nb::handle x_object, nb::handle axis_object, nb::handle weights_object) {
  const int axis = to_int("moments", "axis", axis_object);
  const Array x = Array::required("moments", "x", x_object),
              weights = Array::weights("moments", weights_object, x);
  std::vector<ChannelMoments> channels;
  {
    nb::gil_scoped_release release;
    channels = moments(x.tensor(), axis, weights.tensor());
  }
  return to_tuple(channels);
}

nb::tuple merged(nb::tuple a, nb::tuple b) {
  std::vector<ChannelMoments> left = from_tuple("a", a);
  const std::vector<ChannelMoments> right = from_tuple("b", b);
  if (left.size() != right.size()) {
    throw ValueError("merge_moments: b has " + std::to_string(right.size()) +
                     " channels, but a has " + std::to_string(left.size()));
  }
  for (std::size_t c = 0; c < left.size(); ++c) left[c] = merge(left[c], right[c]);
  return to_tuple(left);
}

}  // namespace

nb::tuple to_tuple(const std::vector<ChannelMoments>& channels) {
  nb::list fields;
  for (const auto field : kFields) {
    const Array values = Array::vector(static_cast<std::int64_t>(channels.size()), DType::float64);
    auto* to = static_cast<double*>(values.tensor().data);
    for (std::size_t c = 0; c < channels.size(); ++c) to[c] = channels[c].*field;
    fields.append(values.object());
  }
  return nb::tuple(fields);
}

void bind_moments(nb::module_& m) {
  m.def("moments", &moments_of, nb::arg("x").none(), nb::arg("axis").none(),
        nb::arg("weights").none());
  m.def("merge_moments", &merged, nb::arg("a"), nb::arg("b"));
}

}  // namespace bnpp::python
