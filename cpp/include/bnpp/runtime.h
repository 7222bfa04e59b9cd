// Threads and instruction sets. None of these changes a single bit of any result.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bnpp {

/// The instruction sets this machine can run, best first. Builds with tests have
/// "scalar", too, the last.
std::vector<std::string> usable_isas();

/// The instruction set in use. The first call honours the environment's BNPP_ISA.
std::string get_isa();

/// Use the named instruction set from now on, in all threads; returns the one before.
/// Throws ValueError for a name that is unknown or not usable here.
std::string set_isa(std::string_view name);

/// The threads a large call made now from this thread would use: at most four a core, or 16.
int get_threads();

/// Limit calls made from this thread to n threads (0: no limit of bnpp's own). Returns the limit
/// before. n may exceed the number of cores, up to 1024.
int set_thread_limit(int n);

/// The bytes each thread must have to work on before one more is used. Returns the value before.
std::int64_t set_min_work(std::int64_t bytes);

/// Outputs of calls on more than `bytes`, inputs and outputs together, are written past the caches.
/// Returns the value before.
std::int64_t set_stream_above(std::int64_t bytes);

/// How this library was built: "openmp", "threads" or "serial".
const char* parallel_backend();

}  // namespace bnpp
