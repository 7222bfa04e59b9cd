#include "norms/keep.h"

#include <cmath>
#include <sstream>
#include <string>

namespace bnpp {
namespace {

// The errors of dx, in units of y's roundoff times the magnitudes of its terms, are 1 for its own
// rounding, up to 2 for y's beside gamma * xh, and |beta / gamma| for y's beside beta: 4 in all.
constexpr double kMostBetaPerGamma = 3;

// Below it y has fewer digits.
double smallest_normal(DType dtype) {
  constexpr double float_range = 0x1p-126, half_range = 0x1p-14, double_range = 0x1p-1022;
  if (dtype == DType::float64) return double_range;
  return dtype == DType::float16 ? half_range : float_range;
}

// Why y cannot serve; empty where it can.
std::string objection(const BatchNormArgs& args, const ChannelVector& gamma,
                      const ChannelVector& beta) {
  std::ostringstream text;
  if (args.activation != Activation::none) {
    text << "an activation loses values: it needs activation None";
  } else if (args.residual.given()) {
    text << "a residual hides gamma * xh in y: it needs residual None";
  } else if (args.weights.given()) {
    text << "with weights y does not tell which x is to be left out: it needs weights None";
  }
  const double least = smallest_normal(args.x.dtype);
  for (std::size_t c = 0; text.tellp() == 0 && c < gamma.size(); ++c) {
    if (std::abs(beta[c]) + least <= kMostBetaPerGamma * std::abs(gamma[c])) continue;
    text << "channel " << c << " has gamma " << gamma[c] << " and beta " << beta[c]
         << ", from which y's rounding leaves too little: it needs |beta| <= " << kMostBetaPerGamma
         << " * |gamma| and gamma not 0";
  }
  return text.str();
}

}  // namespace

bool keeps_output(const Check& check, const BatchNormArgs& args, const ChannelVector& gamma,
                  const ChannelVector& beta) {
  if (args.keep == Keep::input) return false;
  const std::string reason = objection(args, gamma, beta);
  if (args.keep == Keep::output && !reason.empty()) {
    check.refuse("keep is 'output', but ", reason);
  }
  return reason.empty();
}

}  // namespace bnpp
