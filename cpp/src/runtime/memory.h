// When outputs are written past the caches.
#pragma once

#include <cstdint>

namespace bnpp {

/// Outputs of more bytes than this are streamed.
std::int64_t stream_above();

}  // namespace bnpp
