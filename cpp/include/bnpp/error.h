// The exceptions bnpp throws, always before anything is computed or changed. Each message is one
// sentence that names the function, the argument, what it got and what it needs.
#pragma once

#include <stdexcept>

namespace bnpp {

/// A value, shape or length that does not fit (Python: ValueError).
struct ValueError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// An element type that does not fit (Python: TypeError).
struct TypeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

}  // namespace bnpp
