// The only file with OpenMP. The number of threads is asked for at every call, so OMP_NUM_THREADS,
// omp_set_num_threads and threadpoolctl are honoured; it is never set for others.
#include "runtime/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bnpp/error.h"
#include "bnpp/runtime.h"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace bnpp {
namespace {

// A thread is worth its wake-up from about this much memory traffic on (docs/performance.md).
constexpr std::int64_t kMinWork = 64 * 1024;

// Beyond any machine.
constexpr int kMaxThreads = 1024;
// Threads beyond the cores bring nothing, and an OpenMP runtime that cannot create one ends the
// process; some, so that a limit above the cores can be tried out.
constexpr int kThreadsPerCore = 4, kThreadsAtLeast = 16;

// Asked for once: glibc reads a file to count the cores, which takes longer than a small call.
int cores() {
  static const int n = static_cast<int>(std::thread::hardware_concurrency());
  return n;
}

int sensible_threads() { return std::max(kThreadsAtLeast, kThreadsPerCore * cores()); }

std::atomic<std::int64_t> min_work{kMinWork};
thread_local int thread_limit = 0;

#if defined(_OPENMP)
std::atomic<bool> pool_lost{false};  // in a child whose parent's pool could not be put to rest

// libgomp's threads do not survive a fork, but the child believes they did and waits for them for
// ever. So the pool is given up before a fork; parent and child each make a new one when they need
// it.
void before_fork() {
  if (omp_pause_resource_all(omp_pause_hard) != 0) pool_lost = true;
}
void after_fork_in_parent() { pool_lost = false; }

void register_fork_handler() {
#if defined(__unix__) || defined(__APPLE__)
  [[maybe_unused]] static const int once =
      pthread_atfork(before_fork, after_fork_in_parent, nullptr);
#endif
}

int available_threads() {
  if (pool_lost || omp_in_parallel()) return 1;
  return omp_get_max_threads();
}
#elif defined(BNPP_STD_THREADS)
int available_threads() { return std::max(1, cores()); }
#else
int available_threads() { return 1; }
#endif

// The tasks of one worker: a contiguous share.
void run_share(std::int64_t tasks, int workers, int worker, TaskRef run, Order order) {
  const std::int64_t begin = tasks * worker / workers, end = tasks * (worker + 1) / workers;
  for (std::int64_t task = begin; task < end; ++task) {
    run(order == Order::forward ? task : begin + end - 1 - task, worker);
  }
}

}  // namespace

int get_threads() {
#if defined(_OPENMP)
  if (pool_lost || omp_in_parallel()) return 1;
#endif
  return std::min(thread_limit > 0 ? thread_limit : std::max(1, available_threads()),
                  sensible_threads());
}

int set_thread_limit(int n) {
  if (n < 0 || n > kMaxThreads) {
    throw ValueError("set_thread_limit: n is " + std::to_string(n) + ", but it needs to be 1 to " +
                     std::to_string(kMaxThreads) + ", or 0 for no limit");
  }
  return std::exchange(thread_limit, n);
}

std::int64_t set_min_work(std::int64_t bytes) {
  if (bytes < 1) {
    throw ValueError("set_min_work: bytes is " + std::to_string(bytes) +
                     ", but at least 1 is needed");
  }
  return min_work.exchange(bytes);
}

int threads_for(std::int64_t bytes) {
  const std::int64_t deserved = bytes / min_work;
  if (deserved <= 1) return 1;
  return static_cast<int>(std::min<std::int64_t>(deserved, get_threads()));
}

void parallel_for(std::int64_t tasks, int threads, TaskRef run, Order order) {
  const int workers = static_cast<int>(std::min<std::int64_t>(threads, tasks));
  if (workers <= 1) return run_share(tasks, 1, 0, run, order);
#if defined(_OPENMP)
  register_fork_handler();
#pragma omp parallel num_threads(workers)
  run_share(tasks, omp_get_num_threads(), omp_get_thread_num(), run, order);
#elif defined(BNPP_STD_THREADS)
  std::vector<std::thread> others;
  int started = 1;
  try {
    others.reserve(static_cast<std::size_t>(workers));
    for (; started < workers; ++started) {
      others.emplace_back(run_share, tasks, workers, started, run, order);
    }
  } catch (const std::exception&) {
    // No more threads to be had: this one does their shares too.
  }
  run_share(tasks, workers, 0, run, order);
  for (int worker = started; worker < workers; ++worker)
    run_share(tasks, workers, worker, run, order);
  for (std::thread& other : others) other.join();
#endif
}

const char* parallel_backend() {
#if defined(_OPENMP)
  return "openmp";
#elif defined(BNPP_STD_THREADS)
  return "threads";
#else
  return "serial";
#endif
}

}  // namespace bnpp
