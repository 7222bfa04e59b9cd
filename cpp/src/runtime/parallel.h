// Threads: the only place that knows how work is spread over them. Which thread does which task
// never changes a result, so tasks are free to go anywhere.
#pragma once

#include <cstdint>
#include <type_traits>

namespace bnpp {

/// A reference to a callable `void(std::int64_t task, int worker)` that must not throw.
class TaskRef {
 public:
  template <class F>
  TaskRef(F& f)  // NOLINT: a reference, as the name says
      : object_(&f), call_([](void* object, std::int64_t task, int worker) {
          (*static_cast<F*>(object))(task, worker);
        }) {}
  void operator()(std::int64_t task, int worker) const { call_(object_, task, worker); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, int);
};

/// How each worker goes through its tasks.
enum class Order : std::uint8_t { forward, backward };

/// run(task, worker) for every task in [0, tasks), worker < threads. Consecutive tasks tend to go
/// to one worker, and the same ones to the same worker when called again.
void parallel_for(std::int64_t tasks, int threads, TaskRef run, Order order = Order::forward);

/// The threads that work on `bytes` of memory deserves.
int threads_for(std::int64_t bytes);

}  // namespace bnpp
