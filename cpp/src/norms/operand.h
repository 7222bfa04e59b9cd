// One tensor of a call, seen through its plan: where a tile of it lies. A tile whose elements do
// not lie as the kernels need them (gaps, other memory orders than x's, misaligned) goes through a
// buffer of the worker, tile by tile.
#pragma once

#include <cstdint>
#include <memory>

#include "bnpp/tensor.h"
#include "norms/plan.h"
#include "runtime/memory.h"

namespace bnpp {

struct Dim {
  std::int64_t size, stride;  // stride in bytes
};

/// Nested dimensions, major to minor, joined where one continues the next.
struct Dims {
  int n = 0;
  Dim dim[kMaxDims];
  void append(Dim d);
  std::int64_t offset(std::int64_t index) const;
};

class Operand {
 public:
  /// A tensor that is not given stays absent: tiles of it are null.
  Operand(const ConstTensor& tensor, const Plan& plan, int threads);
  /// One whose samples lie `sample_stride` bytes apart, for a plan of samples.
  Operand(const ConstTensor& tensor, const Plan& plan, int threads, std::int64_t sample_stride);

  struct View {
    char* data;
    std::ptrdiff_t stride;  // elements from row to row
    bool ahead = false;     // it lies so far away that rows shall be asked for ahead
  };
  /// The tile to read from; a copy where need be.
  View read(const Tile& tile, int worker) const;
  /// The tile to write to, and its way home once written.
  View write(const Tile& tile, int worker) const;
  void written(const Tile& tile, int worker) const;
  /// Whether the kernels work on the tensor itself, not on copies of its tiles.
  bool direct() const { return direct_; }
  /// Whether to write past the caches: an output of a call on so many tensors of its size that they
  /// leave no room for it.
  bool stream(int tensors) const { return direct_ && tensors * bytes_ > stream_above(); }
  /// Whether that many tensors lie so far away that rows shall be asked for ahead.
  bool ahead(int tensors) const { return tensors * bytes_ > ahead_above(); }

 private:
  bool is_direct() const;
  View in_place(const Tile& tile) const;
  View buffer(const Tile& tile, int worker) const;
  template <bool to_buffer>
  void copy(const Tile& tile, char* buffer) const;

  const Plan& plan_;
  char* data_;
  std::int64_t item_;
  std::int64_t channel_stride_;
  std::int64_t sample_stride_ = 0;
  Dims outer_, inner_;
  bool direct_ = true;
  std::int64_t bytes_ = 0, buffer_bytes_ = 0;
  std::unique_ptr<char[]> buffers_;
};

}  // namespace bnpp
