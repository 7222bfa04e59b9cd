#include "fold/values.h"

namespace bnpp {

std::vector<double> read_vector(const Check& check, const ConstTensor& v, const char* name,
                                std::int64_t length, const std::string& owner) {
  if (v.ndim != 1) {
    check.refuse(name, " has shape ", shape_text(v), ", but it needs one dimension");
  }
  if (length >= 0 && v.shape[0] != length) {
    check.refuse(name, " has ", v.shape[0], v.shape[0] == 1 ? " value" : " values", ", but ",
                 owner);
  }
  std::vector<double> values(static_cast<std::size_t>(v.shape[0]));
  with_type(v.dtype, [&](auto tag) {
    const char* from = static_cast<const char*>(v.data);
    for (std::size_t c = 0; c < values.size(); ++c) {
      values[c] = load_value<decltype(tag)>(from + static_cast<std::int64_t>(c) * v.strides[0]);
    }
  });
  return values;
}

}  // namespace bnpp
