// The element types of tensors. A new type is one line here, one widen/narrow pair in
// src/kernels/parts.h, and its conversions where C++ has none (half.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "bnpp/half.h"

// X(name, C++ type), in the order of DType's values. The kernel tables are indexed by it.
#define BNPP_DTYPES(X) \
  X(float32, float)    \
  X(float64, double)   \
  X(float16, float16)  \
  X(bfloat16, bfloat16)

namespace bnpp {

enum class DType : std::uint8_t {
#define BNPP_ENUM(name, type) name,
  BNPP_DTYPES(BNPP_ENUM)
#undef BNPP_ENUM
};

/// Bytes of one element.
constexpr std::int64_t size_of(DType dtype) {
  constexpr std::int64_t sizes[] = {
#define BNPP_SIZE(name, type) sizeof(type),
      BNPP_DTYPES(BNPP_SIZE)
#undef BNPP_SIZE
  };
  return sizes[static_cast<std::size_t>(dtype)];
}

constexpr const char* name_of(DType dtype) {
  constexpr const char* names[] = {
#define BNPP_NAME(name, type) #name,
      BNPP_DTYPES(BNPP_NAME)
#undef BNPP_NAME
  };
  return names[static_cast<std::size_t>(dtype)];
}

/// The DType of a C++ type: `dtype_of<float>`.
template <class T>
inline constexpr DType dtype_of = [] {
  static_assert(sizeof(T) == 0, "bnpp has no such element type");
  return DType::float32;
}();
#define BNPP_TRAIT(name, type) \
  template <>                  \
  inline constexpr DType dtype_of<type> = DType::name;
BNPP_DTYPES(BNPP_TRAIT)
#undef BNPP_TRAIT

}  // namespace bnpp
