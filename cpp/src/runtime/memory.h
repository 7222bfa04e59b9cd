// What the caches hold, and when outputs are written past them.
#pragma once

#include <cstdint>

namespace bnpp {

/// Bytes of the last-level cache, as the system tells.
std::int64_t last_level_cache();

/// Outputs of calls on more bytes than this, inputs and outputs, are streamed.
std::int64_t stream_above();

/// Forwards on more bytes than this, up to those that are streamed, map in memory order.
std::int64_t apart_above();

/// Calls on more bytes than this ask for rows before they need them.
std::int64_t ahead_above();

}  // namespace bnpp
