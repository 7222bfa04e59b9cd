#include "runtime/memory.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>

#include "bnpp/error.h"
#include "bnpp/runtime.h"

namespace bnpp {
namespace {

// What is taken for the last-level cache where the system does not tell.
constexpr std::int64_t kUsualCache = 32 << 20;
// Of this part of the cache on, in sixteenths, a call's tensors push each other out, and from that
// part on processors do not foresee enough (docs/performance.md).
constexpr std::int64_t kStreamSixteenths = 13, kAheadSixteenths = 8;
// Beyond this part of the bytes from which on outputs are streamed, going through memory as it lies
// gains more than finding a channel in the second-level cache.
constexpr std::int64_t kApartPart = 2;

// The largest cache of the first core. Linux's own files know what a core can reach; sysconf tells
// the sum of all on processors of several dies.
std::int64_t read_cache_size() {
  std::int64_t largest = 0;
  for (int index = 0; index < 8; ++index) {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) +
                       "/size");
    std::int64_t size = 0;
    char unit = ' ';
    if (!(file >> size >> unit)) continue;
    if (unit == 'K') size <<= 10;
    if (unit == 'M') size <<= 20;
    largest = std::max(largest, size);
  }
  return largest > 0 ? largest : kUsualCache;
}

std::atomic<std::int64_t>& stream_bytes() {
  static std::atomic<std::int64_t> bytes{last_level_cache() / 16 * kStreamSixteenths};
  return bytes;
}

}  // namespace

std::int64_t last_level_cache() {
  static const std::int64_t bytes = read_cache_size();
  return bytes;
}

std::int64_t stream_above() { return stream_bytes(); }

std::int64_t apart_above() { return stream_above() / kApartPart; }

std::int64_t ahead_above() {
  static const std::int64_t bytes = last_level_cache() / 16 * kAheadSixteenths;
  return bytes;
}

std::int64_t set_stream_above(std::int64_t bytes) {
  if (bytes < 0) {
    throw ValueError("set_stream_above: bytes is " + std::to_string(bytes) +
                     ", but at least 0 is needed");
  }
  return stream_bytes().exchange(bytes);
}

}  // namespace bnpp
