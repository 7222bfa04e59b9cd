// Memory that every call takes and gives back: statistics, sums, ReLU bits. The system hands out
// fresh pages, whose faults cost more than all arithmetic on them, so blocks are kept for the next
// call.
#pragma once

#include <cstddef>
#include <new>
#include <utility>
#include <vector>

namespace bnpp {

/// At least `bytes` bytes; throws std::bad_alloc. To be given back with the same size.
void* take_recycled(std::size_t bytes);
void give_recycled(void* data, std::size_t bytes) noexcept;
/// Frees what is kept; returns how many bytes that was.
std::size_t clear_recycled() noexcept;

/// An allocator on recycled memory. Elements made without a value are not initialised.
template <class T>
struct Recycling {
  using value_type = T;
  Recycling() = default;
  template <class U>
  Recycling(const Recycling<U>&) {}

  T* allocate(std::size_t n) { return static_cast<T*>(take_recycled(n * sizeof(T))); }
  void deallocate(T* data, std::size_t n) noexcept { give_recycled(data, n * sizeof(T)); }
  template <class U>
  void construct(U* at) {
    ::new (static_cast<void*>(at)) U;
  }
  template <class U, class... Args>
  void construct(U* at, Args&&... args) {
    ::new (static_cast<void*>(at)) U(std::forward<Args>(args)...);
  }
  template <class U>
  bool operator==(const Recycling<U>&) const {
    return true;
  }
  template <class U>
  bool operator!=(const Recycling<U>&) const {
    return false;
  }
};

/// One float64 a channel.
using ChannelVector = std::vector<double, Recycling<double>>;

}  // namespace bnpp
