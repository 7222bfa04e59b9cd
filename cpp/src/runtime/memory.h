// What the caches hold, and when outputs are written past them.
#pragma once

#include <cstdint>

namespace bnpp {

/// Bytes of the last-level cache, as the system tells.
std::int64_t last_level_cache();

/// Outputs of more bytes than this are streamed.
std::int64_t stream_above();

}  // namespace bnpp
