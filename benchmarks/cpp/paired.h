// Timing in pairs: in every round a copy of the tensor, then the call, so that a slow moment of the
// machine meets both.
#pragma once

#include <benchmark/benchmark.h>

#include "calls.h"

/// How long to measure.
struct Effort {
  std::int64_t batch = 32;
  int rounds = 21;
  double min_time = 5e-3;  // seconds: a sample repeats its call until it takes about as long
};

/// Time the call beside a copy of `size` floats. The counters are:
///   copies        the call's time as a multiple of the copy's in the same round, the median
///   seconds       of one call, the median; both also have their quartiles, *_q1 and *_q3
///   copy_seconds  the median of the copy, on one thread or on all, whichever is faster
///   GB/s          `tensors` times the tensor's bytes, over seconds
void run_paired(benchmark::State& state, const Call& call, std::int64_t size, double tensors,
                double min_time);
