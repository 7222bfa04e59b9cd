#include "paired.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>

namespace {

/// Copies one buffer into another on so many threads, each its own part.
Call make_copy(std::int64_t size, int threads) {
  const auto from = std::make_shared<Buffer>(size);
  const auto to = std::make_shared<Buffer>(size);
  return [=] {
#pragma omp parallel num_threads(threads)
    {
      const std::int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
      const std::int64_t begin = size * me / all, end = size * (me + 1) / all;
      std::memcpy(to->data() + begin, from->data() + begin, (end - begin) * sizeof(float));
    }
  };
}

struct Timed {
  explicit Timed(Call c, double min_time) : call(std::move(c)) {
    call();
    for (double t = sample(); t * repeats < min_time; t = sample()) {
      repeats = std::max(2 * repeats, std::llround(min_time / t));
    }
  }

  /// The seconds of one call.
  double sample() {
    if (repeats > 1) call();  // brings into the cache what fits there
    const auto start = std::chrono::steady_clock::now();
    for (long long i = 0; i < repeats; ++i) call();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    return passed.count() / repeats;
  }

  Call call;
  long long repeats = 1;
};

/// The value below which a share of the values lies, interpolated.
double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double position = share * (values.size() - 1);
  const std::size_t below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (position - below) * (values[above] - values[below]);
}

Timed faster_copy(std::int64_t size, double min_time) {
  Timed one(make_copy(size, 1), min_time);
  if (omp_get_max_threads() == 1) return one;
  Timed all(make_copy(size, omp_get_max_threads()), min_time);
  std::vector<double> one_times, all_times;
  for (int i = 0; i < 7; ++i) {
    one_times.push_back(one.sample());
    all_times.push_back(all.sample());
  }
  return quantile(one_times, 0.5) < quantile(all_times, 0.5) ? one : all;
}

}  // namespace

Buffer::Buffer(std::int64_t size, float center)
    : size_(size), data_(new (kAlign) float[static_cast<std::size_t>(size)]) {
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> values(center - 1, center + 1);
  std::generate_n(data(), size, [&] { return values(random); });
}

void run_paired(benchmark::State& state, const Call& call, std::int64_t size, double tensors,
                double min_time) {
  Timed copy = faster_copy(size, min_time);
  Timed timed(call, min_time);
  std::vector<double> seconds, copy_seconds, copies;
  for (auto _ : state) {
    copy_seconds.push_back(copy.sample());
    seconds.push_back(timed.sample());
    copies.push_back(seconds.back() / copy_seconds.back());
    state.SetIterationTime(seconds.back());
  }
  for (const auto& [suffix, share] : {std::pair("", 0.5), {"_q1", 0.25}, {"_q3", 0.75}}) {
    state.counters[std::string("copies") + suffix] = quantile(copies, share);
    state.counters[std::string("seconds") + suffix] = quantile(seconds, share);
  }
  state.counters["copy_seconds"] = quantile(copy_seconds, 0.5);
  state.counters["GB/s"] = tensors * size * sizeof(float) / quantile(seconds, 0.5) * 1e-9;
}
