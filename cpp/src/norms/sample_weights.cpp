#include "norms/sample_weights.h"

namespace bnpp {

SampleWeights::SampleWeights(const ConstTensor& first, std::int64_t stride, DType x_dtype,
                             const Plan& plan, bool sums, int threads)
    : first_(first),
      stride_(stride),
      x_dtype_(x_dtype),
      plan_(plan),
      sums_(sums),
      threads_(threads) {
  plan_.samples = 1;
}

const Weights& SampleWeights::start(std::int64_t sample) {
  const bool same = sample == sample_ || stride_ == 0;
  if (current_ != nullptr && same) return *current_;
  ConstTensor weights = first_;
  weights.data = static_cast<const char*>(first_.data) + sample * stride_;
  current_ = std::make_unique<Weights>(weights, x_dtype_, plan_, threads_);
  if (sums_) current_->sum_up(threads_);
  sample_ = sample;
  return *current_;
}

}  // namespace bnpp
