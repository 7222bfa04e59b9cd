#include "norms/operand.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "runtime/memory.h"

namespace bnpp {
namespace {

// Buffers of different workers share no cache line.
constexpr std::int64_t kLine = 64;

// visit(offset, n, stride) for each stretch of elements [begin, end) along the innermost dimension.
template <class Visit>
void for_each_stretch(const Dims& dims, std::int64_t begin, std::int64_t end, Visit visit) {
  if (dims.n == 0) {
    if (begin < end) visit(0, std::int64_t{1}, std::int64_t{0});
    return;
  }
  const Dim last = dims.dim[dims.n - 1];
  Dims rest = dims;
  --rest.n;
  while (begin < end) {
    const std::int64_t at = begin % last.size, n = std::min(last.size - at, end - begin);
    visit(rest.offset(begin / last.size) + at * last.stride, n, last.stride);
    begin += n;
  }
}

// Bytes from one element to the next, in a row and from row to row.
struct Steps {
  std::int64_t row, column;
};

template <std::size_t item>
void copy_items(char* to, Steps to_step, const char* from, Steps from_step, std::int64_t rows,
                std::int64_t cols) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < cols; ++j) {
      std::memcpy(to + i * to_step.row + j * to_step.column,
                  from + i * from_step.row + j * from_step.column, item);
    }
  }
}

void copy_block(char* to, Steps to_step, const char* from, Steps from_step, std::int64_t rows,
                std::int64_t cols, std::int64_t item) {
  constexpr std::int64_t kLongRow = 64;  // bytes; shorter ones are not worth a call
  if (to_step.column == item && from_step.column == item && cols * item >= kLongRow) {
    for (std::int64_t i = 0; i < rows; ++i) {
      std::memcpy(to + i * to_step.row, from + i * from_step.row,
                  static_cast<std::size_t>(cols * item));
    }
  } else if (item == 2) {
    copy_items<2>(to, to_step, from, from_step, rows, cols);
  } else if (item == 4) {
    copy_items<4>(to, to_step, from, from_step, rows, cols);
  } else {
    copy_items<8>(to, to_step, from, from_step, rows, cols);
  }
}

Dim dim_of(const ConstTensor& t, int axis) { return {t.shape[axis], t.strides[axis]}; }

}  // namespace

void Dims::append(Dim d) {
  if (d.size == 1) return;
  if (n > 0 && dim[n - 1].stride == d.stride * d.size) {
    dim[n - 1] = {dim[n - 1].size * d.size, d.stride};
  } else {
    dim[n++] = d;
  }
}

std::int64_t Dims::offset(std::int64_t index) const {
  std::int64_t bytes = 0;
  for (int k = n - 1; k >= 0; --k) {
    bytes += index % dim[k].size * dim[k].stride;
    index /= dim[k].size;
  }
  return bytes;
}

Operand::Operand(const ConstTensor& tensor, const Plan& plan, int threads)
    : Operand(tensor, plan, threads, plan.samples > 1 ? tensor.strides[0] : 0) {}

Operand::Operand(const ConstTensor& tensor, const Plan& plan, int threads,
                 std::int64_t sample_stride)
    : plan_(plan), data_(static_cast<char*>(const_cast<void*>(tensor.data))), item_(0) {
  if (!tensor.given()) {
    data_ = nullptr;
    return;
  }
  item_ = size_of(tensor.dtype);
  channel_stride_ = plan.channel_axis < 0 ? 0 : tensor.strides[plan.channel_axis];
  sample_stride_ = sample_stride;
  for (int k = 0; k < plan.outer_axes.n; ++k) {
    outer_.append(dim_of(tensor, plan.outer_axes.axis[k]));
  }
  if (plan.layout == Layout::cols) inner_.append({plan.channels, channel_stride_});
  for (int k = 0; k < plan.inner_axes.n; ++k) {
    inner_.append(dim_of(tensor, plan.inner_axes.axis[k]));
  }
  direct_ = is_direct();
  bytes_ = tensor.size() * item_;
  if (!direct_) {
    buffer_bytes_ = (plan.max_tile_size() * item_ + kLine - 1) / kLine * kLine;
    buffers_.reset(new char[static_cast<std::size_t>(buffer_bytes_ * threads + kLine)]);
  }
}

bool Operand::is_direct() const {
  const bool contiguous = inner_.n == 0 || (inner_.n == 1 && inner_.dim[0].stride == item_);
  const bool one_stride = outer_.n == 0 || (outer_.n == 1 && outer_.dim[0].stride % item_ == 0);
  const bool aligned =
      reinterpret_cast<std::uintptr_t>(data_) % static_cast<std::size_t>(item_) == 0 &&
      channel_stride_ % item_ == 0 && sample_stride_ % item_ == 0;
  return contiguous && one_stride && aligned;
}

Operand::View Operand::in_place(const Tile& t) const {
  const std::int64_t stride = outer_.n == 0 ? 0 : outer_.dim[0].stride;
  char* sample = data_ + t.sample * sample_stride_;
  return {sample + t.c0 * channel_stride_ + t.o0 * stride + t.i0 * item_, stride / item_, ahead(2)};
}

Operand::View Operand::buffer(const Tile& t, int worker) const {
  char* first = buffers_.get();
  first += kLine - reinterpret_cast<std::uintptr_t>(first) % kLine;
  return {first + worker * buffer_bytes_, plan_.cols(t)};
}

// Block by block of rows and columns whose elements lie evenly, along the smaller stride first: so
// each line of memory is touched once.
template <bool to_buffer>
void Operand::copy(const Tile& t, char* buffer) const {
  const bool rows = plan_.layout == Layout::rows;
  const std::int64_t begin = rows ? t.i0 : t.c0 * plan_.inner, end = begin + plan_.cols(t);
  const std::int64_t row_bytes = plan_.cols(t) * item_;
  char* base = data_ + t.sample * sample_stride_ + (rows ? t.c0 * channel_stride_ : 0);
  for_each_stretch(outer_, t.o0, t.o1, [&](std::int64_t row, std::int64_t n, std::int64_t step) {
    char* packed = buffer;
    for_each_stretch(inner_, begin, end, [&](std::int64_t at, std::int64_t m, std::int64_t stride) {
      Steps far{step, stride}, near{row_bytes, item_};
      std::int64_t count = n, length = m;
      if (n > 1 && std::abs(step) < std::abs(stride)) {
        std::swap(far.row, far.column);
        std::swap(near.row, near.column);
        std::swap(count, length);
      }
      if constexpr (to_buffer) {
        copy_block(packed, near, base + row + at, far, count, length, item_);
      } else {
        copy_block(base + row + at, far, packed, near, count, length, item_);
      }
      packed += m * item_;
    });
    buffer += n * row_bytes;
  });
}

Operand::View Operand::read(const Tile& tile, int worker) const {
  if (data_ == nullptr) return {nullptr, 0};
  if (direct_) return in_place(tile);
  const View view = buffer(tile, worker);
  copy<true>(tile, view.data);
  return view;
}

Operand::View Operand::write(const Tile& tile, int worker) const {
  if (data_ == nullptr) return {nullptr, 0};
  return direct_ ? in_place(tile) : buffer(tile, worker);
}

void Operand::written(const Tile& tile, int worker) const {
  if (data_ != nullptr && !direct_) copy<false>(tile, buffer(tile, worker).data);
}

}  // namespace bnpp
