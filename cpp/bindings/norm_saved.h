// What the bindings of norms share: outputs of a forward, what it saves for its backward, and the
// arrays of that backward. A norm's saved state, `Core`, has x, axis, eps, count, gamma, mask,
// activation and residual.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "bnpp/batch_norm.h"
#include "norms/check.h"

namespace bnpp::python {

/// The core's saved state with the array it looks at.
template <class Core>
struct NormSaved {
  Core core;
  nb::object x;  // None if x is gone
  std::string reason;

  std::int64_t channels() const { return static_cast<std::int64_t>(core.gamma.size()); }
};

inline std::int64_t bytes_of(std::initializer_list<std::size_t> sizes) {
  std::size_t values = 0;
  for (const std::size_t size : sizes) values += size;
  return static_cast<std::int64_t>(values * sizeof(double));
}

template <class Core>
std::int64_t mask_bytes_of(const NormSaved<Core>& saved) {
  return static_cast<std::int64_t>(saved.core.mask.size());
}

inline nb::tuple shape_of(const ConstTensor& x) {
  nb::list sizes;
  for (int d = 0; d < x.ndim; ++d) sizes.append(x.shape[d]);
  return nb::tuple(sizes);
}

inline Activation to_activation(const char* function, nb::handle object) {
  return static_cast<Activation>(to_choice(function, "activation", object, {"", "relu"}));
}

/// The output of a forward: the caller's, or a new one like x.
inline Array forward_output(const char* function, nb::handle out, const Array& x,
                            std::initializer_list<Neighbour> inputs) {
  if (out.is_none()) return Array::like(x);
  Array array = Array::output(function, "out", out);
  Check(function).like(x.tensor(), array.tensor(), "out");
  check_overlap(function, array, inputs);
  return array;
}

template <class Core>
nb::object new_norm_saved(Core core, const Array& x, const Array& y) {
  const bool overwritten = same_view(x.tensor(), y.tensor()) && x.tensor().size() > 0;
  NormSaved<Core> saved{std::move(core), overwritten ? nb::object(nb::none()) : x.object(), ""};
  if (overwritten) {
    saved.reason = "x was overwritten by out=x, and a backward needs it: give out other memory";
  }
  return nb::cast(std::move(saved));
}

template <class Core>
const NormSaved<Core>& to_norm_saved(const char* function, nb::handle object) {
  const NormSaved<Core>* saved = nullptr;
  if (!nb::try_cast(object, saved) || saved == nullptr) {
    Check(function).refuse<TypeError>("saved is of type ", type_of(object),
                                      ", but it needs to be what the forward call returned");
  }
  if (!saved->reason.empty()) Check(function).refuse(saved->reason);
  return *saved;
}

/// The arrays of one backward call.
struct NormBackward {
  Array dy, x, dx, dgamma, dbeta, dresidual;
  nb::object dresidual_object = nb::none();

  template <class Core>
  NormBackward(const char* function, nb::handle dy_object, const NormSaved<Core>& saved,
               nb::handle out)
      : dy(Array::required(function, "dy", dy_object)),
        x(Array::input(function, "x", saved.x)),
        dx(out.is_none() ? Array::like(x) : Array::output(function, "out", out)),
        dgamma(Array::vector(saved.channels(), statistics_dtype(saved.core.x.dtype))),
        dbeta(Array::vector(saved.channels(), statistics_dtype(saved.core.x.dtype))),
        dresidual(needs_dresidual(saved.core, out) ? Array::like(x) : Array()) {
    if (!same_view(x.tensor(), saved.core.x)) {
      Check(function).refuse(
          "saved refers to an x that was resized or moved since the forward call");
    }
    if (!out.is_none()) {
      Check(function).like(x.tensor(), dx.tensor(), "out");
      check_overlap(function, dx, {{"dy", dy, true}, {"saved's x", x, false}});
    }
    if (saved.core.residual)
      dresidual_object = dresidual.given() ? dresidual.object() : dy.object();
  }

  /// The arrays as the core's gradients of a norm.
  template <class Grads>
  Grads grads() const {
    Grads g;
    g.dy = dy.tensor();
    g.dx = dx.tensor();
    g.dgamma = dgamma.tensor();
    g.dbeta = dbeta.tensor();
    g.dresidual = dresidual.tensor();
    return g;
  }

  nb::tuple objects() const {
    return nb::make_tuple(dx.object(), dgamma.object(), dbeta.object(), dresidual_object);
  }

 private:
  // Without ReLU the residual's gradient is dy itself, unless dx is about to be written there.
  template <class Core>
  static bool needs_dresidual(const Core& core, nb::handle out) {
    return core.residual && (core.activation == Activation::relu || !out.is_none());
  }
};

/// The properties that all saved states have.
template <class Core>
void bind_saved(nb::class_<NormSaved<Core>>& type) {
  using S = NormSaved<Core>;
  type.def_prop_ro(
          "shape", [](const S& s) { return shape_of(s.core.x); }, "The shape of x.")
      .def_prop_ro(
          "axis", [](const S& s) { return s.core.axis; }, "The channel axis, from 0.")
      .def_prop_ro(
          "eps", [](const S& s) { return s.core.eps; }, "The eps of the call.")
      .def_prop_ro(
          "reason",
          [](const S& s) { return s.reason.empty() ? std::nullopt : std::optional(s.reason); },
          "Why it cannot serve a backward, or None.")
      .def_prop_ro(
          "mask_nbytes", [](const S& s) { return mask_bytes_of(s); },
          "Bytes of the ReLU mask, one bit an element.");
}

/// The inputs that the forwards of channels share.
struct ForwardInputs {
  Array x, gamma, beta, residual;

  ForwardInputs(const char* function, nb::handle x_object, nb::handle gamma_object,
                nb::handle beta_object, nb::handle residual_object)
      : x(Array::required(function, "x", x_object)),
        gamma(Array::input(function, "gamma", gamma_object)),
        beta(Array::input(function, "beta", beta_object)),
        residual(Array::input(function, "residual", residual_object)) {}

  /// The output; a given one may be x or the residual, and is apart from the rest and from
  /// `others`.
  Array output(const char* function, nb::handle out,
               std::initializer_list<Neighbour> others = {}) const {
    Array y = forward_output(function, out, x,
                             {{"x", x, true},
                              {"residual", residual, true},
                              {"gamma", gamma, false},
                              {"beta", beta, false}});
    if (!out.is_none()) check_overlap(function, y, others);
    return y;
  }

  template <class Args>
  void give(Args& args, const Array& y) const {
    args.x = x.tensor();
    args.gamma = gamma.tensor();
    args.beta = beta.tensor();
    args.residual = residual.tensor();
    args.y = y.tensor();
  }
};

/// The options that they share.
template <class Args>
void set_options(const char* function, Args& args, nb::handle axis, nb::handle eps,
                 nb::handle activation) {
  args.axis = to_int(function, "axis", axis);
  args.eps = to_double(function, "eps", eps);
  args.activation = to_activation(function, activation);
}

}  // namespace bnpp::python
