// The weights of one sample after the other, for norms whose statistics are those of each sample.
#pragma once

#include <cstdint>
#include <memory>

#include "bnpp/tensor.h"
#include "norms/plan.h"
#include "norms/weights.h"

namespace bnpp {

class SampleWeights {
 public:
  /// `first` are those of the first sample, seen as `plan` sees its x, or not given; the others'
  /// follow in steps of `stride` bytes. With `sums` they come summed up.
  SampleWeights(const ConstTensor& first, std::int64_t stride, DType x_dtype, const Plan& plan,
                bool sums, int threads);
  // What it hands out refers to its plan.
  SampleWeights(const SampleWeights&) = delete;
  SampleWeights& operator=(const SampleWeights&) = delete;

  bool given() const { return first_.given(); }

  /// Makes the weights of a sample the current ones, which stay until the next call.
  const Weights& start(std::int64_t sample);
  const Weights& current() const { return *current_; }

 private:
  const ConstTensor first_;
  const std::int64_t stride_;
  const DType x_dtype_;
  Plan plan_;  // of a single sample: the step to the next is not the weights' own
  const bool sums_;
  const int threads_;
  std::int64_t sample_ = -1;
  std::unique_ptr<Weights> current_;
};

}  // namespace bnpp
