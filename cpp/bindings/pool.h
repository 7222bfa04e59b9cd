// Recycled memory for large outputs. A freshly mapped 100 MB costs more in page faults than batch
// normalization takes; so what a dead output leaves is kept, up to a cap, for the next one.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>

namespace bnpp::python {

/// Memory that returns to the pool when the last array on it is gone; a Python object with a
/// buffer.
class Block {
 public:
  explicit Block(std::size_t bytes);  // throws std::bad_alloc
  Block(Block&& other) noexcept;
  Block& operator=(Block&&) = delete;
  ~Block();

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_;
  std::size_t bytes_;
};

/// Outputs from this size on come from the pool; the ordinary allocator recycles smaller ones.
constexpr std::size_t kPooledFrom = 1 << 20;

void bind_pool(nanobind::module_& m);

}  // namespace bnpp::python
