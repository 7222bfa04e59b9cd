#include "pool.h"

#include <nanobind/nanobind.h>

#include <cstdlib>
#include <list>
#include <mutex>
#include <new>
#include <string>
#include <utility>

#include "bnpp/error.h"
#include "bnpp/recycled.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nb = nanobind;

namespace bnpp::python {
namespace {

// What is kept at most where BNPP_POOL_BYTES says nothing.
constexpr std::size_t kUsualCap = std::size_t{512} << 20;
// Blocks lie on huge pages, which need fewer faults, and are whole ones: few sizes, more reuse.
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t cap_from_environment() {
  const char* text = std::getenv("BNPP_POOL_BYTES");
  if (text == nullptr || *text == '\0') return kUsualCap;
  char* end = nullptr;
  const unsigned long long bytes = std::strtoull(text, &end, 10);
  if (*text < '0' || *text > '9' || *end != '\0') {
    throw ValueError(std::string("the environment variable BNPP_POOL_BYTES is '") + text +
                     "', but it needs to be a number of bytes, 0 for no pool");
  }
  return static_cast<std::size_t>(bytes);
}

class Pool {
 public:
  Pool() : cap_(cap_from_environment()) {}

  /// At least `bytes` bytes; `bytes` becomes how many.
  void* take(std::size_t& bytes) {
    bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    {
      const std::lock_guard lock(mutex_);
      for (auto it = kept_.begin(); it != kept_.end(); ++it) {
        if (it->bytes != bytes) continue;
        void* data = it->data;
        held_ -= bytes;
        kept_.erase(it);
        return data;
      }
    }
    void* data = std::aligned_alloc(kHugePage, bytes);
    if (data == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    madvise(data, bytes, MADV_HUGEPAGE);  // advice: whether it is taken does not matter
#endif
    return data;
  }

  void give(void* data, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (bytes > cap_) {
      std::free(data);
      return;
    }
    shrink(cap_ - bytes);
    try {
      kept_.push_front({data, bytes});
      held_ += bytes;
    } catch (const std::bad_alloc&) {
      std::free(data);
    }
  }

  std::size_t clear() {
    const std::lock_guard lock(mutex_);
    return shrink(0);
  }

  std::size_t set_cap(std::size_t cap) {
    const std::lock_guard lock(mutex_);
    shrink(cap);
    return std::exchange(cap_, cap);
  }

  std::size_t held() {
    const std::lock_guard lock(mutex_);
    return held_;
  }
  std::size_t cap() {
    const std::lock_guard lock(mutex_);
    return cap_;
  }

 private:
  struct Kept {
    void* data;
    std::size_t bytes;
  };

  // Frees what was kept longest until at most `bytes` are held; returns how many it freed.
  std::size_t shrink(std::size_t bytes) {
    const std::size_t before = held_;
    while (held_ > bytes) {
      held_ -= kept_.back().bytes;
      std::free(kept_.back().data);
      kept_.pop_back();
    }
    return before - held_;
  }

  std::mutex mutex_;
  std::list<Kept> kept_;  // most recent first
  std::size_t held_ = 0, cap_;
};

// Never destroyed: arrays may outlive the module.
Pool& pool() {
  static Pool& pool = *new Pool;
  return pool;
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  const Block& block = *nb::inst_ptr<Block>(self);
  return PyBuffer_FillInfo(view, self, block.data(), static_cast<Py_ssize_t>(block.bytes()), 0,
                           flags);
}

PyType_Slot block_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)}, {0, nullptr}};

}  // namespace

Block::Block(std::size_t bytes) : data_(nullptr), bytes_(bytes) { data_ = pool().take(bytes_); }
Block::Block(Block&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
Block::~Block() {
  if (data_ != nullptr) pool().give(data_, bytes_);
}

void bind_pool(nb::module_& m) {
  nb::class_<Block>(m, "Block", nb::type_slots(block_slots),
                    "Recycled memory under a large output.")
      .def_prop_ro("nbytes", &Block::bytes, "Bytes of the block.");
  m.def("clear_pool", [] { return pool().clear() + clear_recycled(); });
  m.def("set_pool_cap", [](std::size_t bytes) { return pool().set_cap(bytes); }, nb::arg("bytes"));
  m.def("pool_state", [] { return nb::make_tuple(pool().held(), pool().cap()); });
}

}  // namespace bnpp::python
