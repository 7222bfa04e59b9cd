// Refusals: each is one sentence with the function's name, the argument, what it got and what it
// needs.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "bnpp/error.h"
#include "bnpp/recycled.h"
#include "bnpp/tensor.h"

namespace bnpp {

/// The arguments of one call, checked before anything is computed.
class Check {
 public:
  explicit Check(const char* function) : function_(function) {}

  template <class Error = ValueError, class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    std::ostringstream text;
    text << function_ << ": ";
    (text << ... << parts);
    throw Error(text.str());
  }

  /// x has 2 to 8 dimensions; returns `axis` counted from 0.
  int axis_of(const ConstTensor& x, int axis) const;
  void eps(double eps) const;
  /// Same shape and dtype as x.
  void like(const ConstTensor& x, const ConstTensor& t, const char* name) const;
  /// One value a channel, in float64; `fallback` everywhere if the vector was not given.
  ChannelVector vector(const ConstTensor& v, const ConstTensor& x, int axis, const char* name,
                       double fallback) const;
  /// No variance is negative.
  void variances(const ChannelVector& var) const;
  /// A vector to be written: one value a channel, or not given.
  void out_vector(const ConstTensor& v, const ConstTensor& x, int axis, const char* name) const;

 private:
  void length(const ConstTensor& v, const ConstTensor& x, int axis, const char* name) const;

  const char* function_;
};

/// "(32, 64, 56, 56)".
std::string shape_text(const ConstTensor& t);

/// Writes one float64 a channel into a vector of any dtype; nothing if it was not given.
void write_vector(const Tensor& v, const double* values);

}  // namespace bnpp
