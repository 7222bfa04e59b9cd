// The algebra of affine maps: what batch normalization is once its statistics are given.
#include <cmath>
#include <string>
#include <utility>

#include "bnpp/fold.h"
#include "fold/values.h"
#include "norms/check.h"
#include "norms/saved.h"

namespace bnpp {
namespace {

constexpr double kSmallestNormalFloat32 = 0x1p-126;

// The parameters of a batch normalization, one value a channel each.
struct Parameters {
  std::vector<double> gamma, beta, mean, var;

  Parameters(const Check& check, const ConstTensor& gamma_, const ConstTensor& beta_,
             const ConstTensor& mean_, const ConstTensor& var_, double eps) {
    check.eps(eps);
    if (!mean_.given()) check.refuse("mean is not given, but it needs one value a channel");
    if (!var_.given()) check.refuse("var is not given, but it needs one value a channel");
    var = read_vector(check, var_, "var", -1, "");
    const auto channels = static_cast<std::int64_t>(var.size());
    const std::string owner = "var has " + std::to_string(channels);
    const auto read = [&](const ConstTensor& v, const char* name, double fallback) {
      return v.given() ? read_vector(check, v, name, channels, owner)
                       : std::vector<double>(var.size(), fallback);
    };
    mean = read(mean_, "mean", 0);
    gamma = read(gamma_, "gamma", 1);
    beta = read(beta_, "beta", 0);
    for (std::size_t c = 0; c < var.size(); ++c) {
      if (var[c] < 0) check.refuse("var[", c, "] is ", var[c], ", but variances need to be >= 0");
    }
  }
};

std::uint8_t note_of(double var) {
  if (var == 0) return kZeroVariance;
  return var < kSmallestNormalFloat32 ? kDenormalVariance : 0;
}

Affine with_room(std::size_t channels) {
  Affine map;
  map.scale.reserve(channels);
  map.shift.reserve(channels);
  map.magnitude.reserve(channels);
  map.variance.reserve(channels);
  return map;
}

void append(Affine& map, double scale, double shift, double magnitude, std::uint8_t variance) {
  map.scale.push_back(scale);
  map.shift.push_back(shift);
  map.magnitude.push_back(magnitude);
  map.variance.push_back(variance);
}

void append(Affine& map, const Affine& from, std::size_t c) {
  append(map, from.scale[c], from.shift[c], from.magnitude[c], from.variance[c]);
}

}  // namespace

Affine::Affine(std::vector<double> scale_, std::vector<double> shift_)
    : scale(std::move(scale_)), shift(std::move(shift_)), variance(scale.size(), 0) {
  if (shift.size() != scale.size()) {
    Check("Affine").refuse("shift has ", shift.size(), shift.size() == 1 ? " value" : " values",
                           ", but scale has ", scale.size());
  }
  for (const double t : shift) magnitude.push_back(std::abs(t));
}

Affine affine(const ConstTensor& gamma, const ConstTensor& beta, const ConstTensor& mean,
              const ConstTensor& var, double eps) {
  const Parameters p(Check("affine"), gamma, beta, mean, var, eps);
  Affine map = with_room(p.var.size());
  for (std::size_t c = 0; c < p.var.size(); ++c) {
    const double scale = p.gamma[c] * inv_std_of(p.var[c], eps), moved = p.mean[c] * scale;
    append(map, scale, p.beta[c] - moved, std::abs(p.beta[c]) + std::abs(moved), note_of(p.var[c]));
  }
  return map;
}

Affine compose(const Affine& second, const Affine& first) {
  if (second.channels() != first.channels()) {
    Check("compose").refuse("first has ", first.channels(), " channels, but second has ",
                            second.channels());
  }
  Affine both = with_room(first.scale.size());
  for (std::size_t c = 0; c < first.scale.size(); ++c) {
    const double scale = second.scale[c];
    append(both, scale * first.scale[c], scale * first.shift[c] + second.shift[c],
           std::abs(scale) * first.magnitude[c] + second.magnitude[c],
           first.variance[c] | second.variance[c]);
  }
  return both;
}

Affine inverse(const Affine& map) {
  Affine back = with_room(map.scale.size());
  for (std::size_t c = 0; c < map.scale.size(); ++c) {
    const double scale = 1 / map.scale[c], shift = -map.shift[c] / map.scale[c];
    if (scale == 0 || !std::isfinite(scale) || !std::isfinite(shift)) {
      Check("inverse").refuse("scale[", c, "] is ", map.scale[c], " and shift[", c, "] is ",
                              map.shift[c], ", so channel ", c, " has no finite inverse");
    }
    append(back, scale, shift, map.magnitude[c] / std::abs(map.scale[c]), map.variance[c]);
  }
  return back;
}

Affine take(const Affine& map, const std::vector<std::int64_t>& indices) {
  Affine taken = with_room(indices.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] < 0 || indices[i] >= map.channels()) {
      Check("take").refuse("indices[", i, "] is ", indices[i], ", but the map has ", map.channels(),
                           " channels");
    }
    append(taken, map, static_cast<std::size_t>(indices[i]));
  }
  return taken;
}

Affine concat(const std::vector<const Affine*>& maps) {
  Affine all;
  for (const Affine* map : maps) {
    for (std::size_t c = 0; c < map->scale.size(); ++c) append(all, *map, c);
  }
  return all;
}

AffineParameterGrads affine_backward(const AffineGrads& grads, const ConstTensor& gamma,
                                     const ConstTensor& mean, const ConstTensor& var, double eps) {
  const Check check("affine_backward");
  const Parameters p(check, gamma, {}, mean, var, eps);
  const std::size_t channels = p.var.size();
  for (const auto& [name, values] :
       {std::pair("dscale", &grads.dscale), std::pair("dshift", &grads.dshift)}) {
    if (values->size() != channels) {
      check.refuse(name, " has ", values->size(), values->size() == 1 ? " value" : " values",
                   ", but var has ", channels);
    }
  }
  AffineParameterGrads result;
  for (std::size_t c = 0; c < channels; ++c) {
    const double inv_std = inv_std_of(p.var[c], eps), scale = p.gamma[c] * inv_std,
                 g = grads.dscale[c] - p.mean[c] * grads.dshift[c];
    result.dgamma.push_back(g * inv_std);
    result.dbeta.push_back(grads.dshift[c]);
    result.dmean.push_back(-scale * grads.dshift[c]);
    result.dvar.push_back(-0.5 * scale * inv_std * inv_std * g);
  }
  return result;
}

}  // namespace bnpp
