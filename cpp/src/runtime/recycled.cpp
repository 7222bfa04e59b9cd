#include "bnpp/recycled.h"

#include <cstdlib>
#include <mutex>
#include <utility>

namespace bnpp {
namespace {

// Small ones the system's allocator hands out quickly; large ones would be kept too rarely used.
constexpr std::size_t kSmallest = std::size_t{4} << 10, kLargest = std::size_t{16} << 20;
// What is kept at most.
constexpr std::size_t kCap = std::size_t{64} << 20;
constexpr std::size_t kAlign = 64;  // a cache line

// Blocks of 2^k bytes, in lists that run through the free blocks themselves.
class Recycled {
 public:
  void* take(int k) {
    {
      const std::lock_guard lock(mutex_);
      if (Free* const block = kept_[k]) {
        kept_[k] = block->next;
        held_ -= std::size_t{1} << k;
        return block;
      }
    }
    return std::aligned_alloc(kAlign, std::size_t{1} << k);
  }

  void give(void* data, int k) {
    const std::size_t bytes = std::size_t{1} << k;
    const std::lock_guard lock(mutex_);
    if (held_ + bytes > kCap) return std::free(data);
    kept_[k] = new (data) Free{kept_[k]};
    held_ += bytes;
  }

  std::size_t clear() {
    const std::lock_guard lock(mutex_);
    for (Free*& list : kept_) {
      while (list != nullptr) std::free(std::exchange(list, list->next));
    }
    return std::exchange(held_, 0);
  }

 private:
  struct Free {
    Free* next;
  };

  std::mutex mutex_;
  Free* kept_[64] = {};
  std::size_t held_ = 0;
};

// Never destroyed: what a forward saved may outlive everything.
Recycled& recycled() {
  static Recycled& recycled = *new Recycled;
  return recycled;
}

bool is_recycled(std::size_t bytes) { return bytes >= kSmallest && bytes <= kLargest; }

int power_of_two(std::size_t bytes) {
  int k = 0;
  while ((std::size_t{1} << k) < bytes) ++k;
  return k;
}

}  // namespace

void* take_recycled(std::size_t bytes) {
  void* const data =
      is_recycled(bytes) ? recycled().take(power_of_two(bytes)) : std::malloc(bytes + (bytes == 0));
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

void give_recycled(void* data, std::size_t bytes) noexcept {
  if (is_recycled(bytes)) {
    recycled().give(data, power_of_two(bytes));
  } else {
    std::free(data);
  }
}

std::size_t clear_recycled() noexcept { return recycled().clear(); }

}  // namespace bnpp
