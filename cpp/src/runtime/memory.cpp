#include "runtime/memory.h"

#include <atomic>
#include <string>

#include "bnpp/error.h"
#include "bnpp/runtime.h"

namespace bnpp {
namespace {

// Where an output and its input no longer fit a usual last-level cache (docs/performance.md).
constexpr std::int64_t kStreamAbove = 16 << 20;

std::atomic<std::int64_t> stream_bytes{kStreamAbove};

}  // namespace

std::int64_t stream_above() { return stream_bytes; }

std::int64_t set_stream_above(std::int64_t bytes) {
  if (bytes < 0) {
    throw ValueError("set_stream_above: bytes is " + std::to_string(bytes) +
                     ", but at least 0 is needed");
  }
  return stream_bytes.exchange(bytes);
}

}  // namespace bnpp
