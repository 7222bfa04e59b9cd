// What a forward call leaves for its backward, as Python sees it.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>
#include <vector>

#include "arrays.h"
#include "bnpp/batch_norm.h"

namespace bnpp::python {

/// The core's saved state with the array it looks at.
struct Saved {
  BatchNormSaved core;
  nb::object kept;  // x, or y where that was kept; None if x is gone
  std::string reason;
  nb::object weights = nb::none();

  bool keeps_output() const { return core.y.given(); }
  const char* kept_name() const { return keeps_output() ? "saved's y" : "saved's x"; }
  std::int64_t channels() const { return static_cast<std::int64_t>(core.mean.size()); }
  std::int64_t mask_bytes() const { return static_cast<std::int64_t>(core.mask.size()); }
  DType statistics() const { return statistics_dtype(core.x.dtype); }
  /// The array that the backward reads for x; refused if it was resized or moved.
  Array array(const char* function) const;
};

/// A Python object as Saved; refused if it is none, or cannot serve.
const Saved& to_saved(const char* function, nb::handle object);

}  // namespace bnpp::python
