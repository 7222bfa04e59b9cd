#include "norms/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "norms/moments.h"
#include "runtime/dispatch.h"
#include "runtime/parallel.h"

namespace bnpp {
namespace {

// Runs that are worth being tiles of their own; bits of a ReLU mask need whole bytes.
constexpr std::int64_t kRunOfItsOwn = 32, kBits = 8;
// Buffers of different workers share no cache line.
constexpr std::int64_t kLine = 64;

bool is_flat(const Dims& dims) { return dims.n == 0 || (dims.n == 1 && dims.dim[0].stride == 0); }

Dims dims_of(const ConstTensor& t, const Axes& axes) {
  Dims dims;
  for (int k = 0; k < axes.n; ++k) {
    dims.append({t.shape[axes.axis[k]], t.strides[axes.axis[k]]});
  }
  return dims;
}

bool same_but_channels(const Tile& a, const Tile& b) {
  return a.c1 - a.c0 == b.c1 - b.c0 && a.o0 == b.o0 && a.o1 == b.o1 && a.i0 == b.i0 && a.i1 == b.i1;
}

bool is_bad(double w) { return !(w >= 0) || std::isinf(w); }

double value_at(const ConstTensor& t, std::int64_t index, std::int64_t* position) {
  const char* at = static_cast<const char*>(t.data);
  for (int d = t.ndim - 1; d >= 0; --d) {
    position[d] = index % t.shape[d];
    at += position[d] * t.strides[d];
    index /= t.shape[d];
  }
  if (t.dtype == DType::float32) {
    float w;
    std::memcpy(&w, at, sizeof(w));
    return static_cast<double>(w);
  }
  double w;
  std::memcpy(&w, at, sizeof(w));
  return w;
}

}  // namespace

DType weights_dtype(DType x) { return x == DType::float64 ? DType::float64 : DType::float32; }

ConstTensor broadcast_weights(const Check& check, const ConstTensor& x,
                              const ConstTensor& weights) {
  if (!weights.given()) return weights;
  if (weights.dtype != weights_dtype(x.dtype)) {
    check.refuse<TypeError>("weights has dtype ", name_of(weights.dtype), ", but for an x of ",
                            name_of(x.dtype), " it needs ", name_of(weights_dtype(x.dtype)));
  }
  ConstTensor view = x;
  view.data = weights.data;
  view.dtype = weights.dtype;
  const int missing = x.ndim - weights.ndim;
  bool fits = missing >= 0;
  for (int d = 0; fits && d < x.ndim; ++d) {
    const std::int64_t size = d < missing ? 1 : weights.shape[d - missing];
    fits = size == 1 || size == x.shape[d];
    view.strides[d] = size == 1 ? 0 : weights.strides[d - missing];
  }
  if (!fits) {
    check.refuse("weights has shape ", shape_text(weights),
                 ", but it needs one that broadcasts to x's ", shape_text(x));
  }
  return view;
}

void refuse_bad_weights(const Check& check, const ConstTensor& weights) {
  for (std::int64_t i = 0; i < weights.size(); ++i) {
    std::int64_t at[kMaxDims];
    const double w = value_at(weights, i, at);
    if (!is_bad(w)) continue;
    std::ostringstream place;
    for (int d = 0; d < weights.ndim; ++d) place << (d ? ", " : "") << at[d];
    check.refuse("weights[", place.str(), "] is ", w, ", but weights need to be finite and >= 0");
  }
}

double unbiased_divisor(double sum, double squares) {
  return squares < sum * sum ? sum - squares / sum : 0;
}

Weights::Weights(const ConstTensor& weights, DType x_dtype, const Plan& plan, int threads)
    : plan_(plan), data_(static_cast<const char*>(weights.data)) {
  if (!weights.given()) {
    data_ = nullptr;
    return;
  }
  item_ = size_of(weights.dtype);
  channel_stride_ = plan.channels == 1 ? 0 : weights.strides[plan.channel_axis];
  outer_ = dims_of(weights, plan.outer_axes);
  inner_ = dims_of(weights, plan.inner_axes);
  shared_ = channel_stride_ == 0;
  per_row_ = is_flat(inner_) && (plan.layout == Layout::rows || shared_);

  by_channel_ = plan.layout == Layout::cols && shared_ && !per_row_ && plan.inner >= kRunOfItsOwn &&
                plan.inner % kBits == 0;

  const bool aligned =
      reinterpret_cast<std::uintptr_t>(data_) % static_cast<std::size_t>(item_) == 0;
  const std::int64_t row_step = outer_.n == 0 ? item_ : outer_.dim[0].stride;
  const bool dense_run = inner_.n == 1 && inner_.dim[0].stride == item_;
  in_place_ = aligned && outer_.n <= 1 &&
              (per_row_ ? row_step == item_ && channel_stride_ % item_ == 0
                        : by_channel_ && row_step % item_ == 0 && dense_run);
  rows_verbs_ = &bnpp::verbs(x_dtype, Layout::rows);
  verbs_ = by_channel_ ? rows_verbs_ : &bnpp::verbs(x_dtype, plan.layout);
  if (!per_row_ && !in_place_) {
    operand_.emplace(weights, plan, threads);
    held_.resize(static_cast<std::size_t>(threads));
  }
  if (per_row_ && !in_place_) {
    const std::int64_t rows = std::min(plan.outer, plan.max_tile_size());
    buffer_bytes_ = (rows * item_ + kLine - 1) / kLine * kLine;
    buffers_.reset(new char[static_cast<std::size_t>(buffer_bytes_ * threads)]);
  }
}

WeightsTile Weights::read_rows(const Tile& part, int worker) const {
  const char* channel = data_ + part.c0 * channel_stride_;
  if (in_place_) return {channel + part.o0 * item_, 0, true};
  char* buffer = buffers_.get() + worker * buffer_bytes_;
  for (std::int64_t o = part.o0; o < part.o1; ++o) {
    std::memcpy(buffer + (o - part.o0) * item_, channel + outer_.offset(o),
                static_cast<std::size_t>(item_));
  }
  return {buffer, 0, true};
}

WeightsTile Weights::read(const Tile& part, int worker) const {
  if (per_row_) return read_rows(part, worker);
  if (in_place_) {
    const std::int64_t stride = outer_.n == 0 ? 0 : outer_.dim[0].stride;
    return {data_ + part.o0 * stride, stride / item_, false};
  }
  Held& held = held_[static_cast<std::size_t>(worker)];
  if (!shared_ || !same_but_channels(held.tile, part)) {
    held.view = operand_->read(part, worker);
    held.tile = part;
  }
  return {held.view.data, held.view.stride, false};
}

void Weights::list_rows(const Tile& tile, const WeightsTile& weights, std::int64_t block) {
  ListedRows& rows = rows_[static_cast<std::size_t>(block)];
  const auto list = [&](const auto* w) {
    const std::int64_t all = plan_.rows(tile);
    for (std::int64_t i = 0; i < all; i += kRowsListed) {
      const std::int64_t end = std::min(i + kRowsListed, all);
      double sum = 0;
      for (std::int64_t k = i; k < end; ++k) sum += static_cast<double>(w[k]);
      if (sum == 0) continue;
      rows.start.push_back(static_cast<std::int32_t>(i));
      rows.n += end - i;
    }
  };
  if (item_ == sizeof(float)) {
    list(static_cast<const float*>(weights.w));
  } else {
    list(static_cast<const double*>(weights.w));
  }
}

void Weights::sum_up(int threads) {
  const auto width = static_cast<std::size_t>(shared_ ? 1 : plan_.channels);
  const auto blocks = static_cast<std::size_t>(plan_.blocks);
  const std::int64_t groups = shared_ ? 1 : plan_.groups;
  const bool lists = per_row_ && plan_.layout == Layout::cols;
  sum_.resize(blocks * width);
  squares_.resize(blocks * width);
  if (lists) rows_.resize(blocks);
  auto sum_block = [&](std::int64_t task, int worker) {
    const std::int64_t block = task / groups;
    Tile tile = plan_.tile(task % groups, block);
    if (shared_) tile.c1 = tile.c0 + 1;
    const auto at = static_cast<std::size_t>(block) * width + static_cast<std::size_t>(tile.c0);
    const WeightsTile weights = read(tile, worker);
    (shared_ ? rows_verbs_ : verbs_)
        ->weight_sums(
            {weights, plan_.rows(tile), plan_.cols(tile), plan_.inner, &sum_[at], &squares_[at]});
    if (lists) list_rows(tile, weights, block);
  };
  parallel_for(groups * plan_.blocks, threads, sum_block);

  // The blocks' own sums are needed still.
  std::vector<WeightSum> sums(blocks * width);
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = {sum_[i], squares_[i]};
  for_each_pair_of_blocks(plan_.blocks, [&](std::int64_t a, std::int64_t b) {
    for (std::size_t c = 0; c < width; ++c) {
      WeightSum& to = sums[static_cast<std::size_t>(a) * width + c];
      const WeightSum& from = sums[static_cast<std::size_t>(b) * width + c];
      to = {to.sum + from.sum, to.squares + from.squares};
    }
  });
  sums.resize(width);
  total_ = std::move(sums);
}

Weights::Rows Weights::rows_with_weight(const Tile& tile, std::int64_t block) const {
  if (rows_.empty()) return {plan_.rows(tile), nullptr};
  const ListedRows& rows = rows_[static_cast<std::size_t>(block)];
  return {rows.n, rows.start.data()};
}

Weights checked_weights(const Check& check, const ConstTensor& x, const ConstTensor& weights,
                        const Plan& plan, int threads) {
  Weights result(broadcast_weights(check, x, weights), x.dtype, plan, threads);
  if (!weights.given()) return result;
  result.sum_up(threads);
  bool good = plan.count > 0;  // else nobody has looked at them
  for (std::int64_t c = 0; good && c < plan.channels; ++c) {
    good = std::isfinite(result.of_channel(c).sum);
  }
  if (!good) refuse_bad_weights(check, weights);
  return result;
}

}  // namespace bnpp
