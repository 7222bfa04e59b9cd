// group_norm, instance_norm, their backwards, and what a forward saves for its backward.
#include "bnpp/group_norm.h"

#include <nanobind/nanobind.h>

#include <string>
#include <utility>

#include "arrays.h"
#include "norm_saved.h"
#include "norms/check.h"

namespace bnpp::python {
namespace {

/// The core's saved state with the weights it looks at; None without.
struct GroupCore : GroupNormSaved {
  nb::object kept_weights;
};
using GroupSaved = NormSaved<GroupCore>;

nb::object matrix(const GroupNormSaved& core, const ChannelVector& values, DType dtype) {
  const auto size = static_cast<std::int64_t>(values.size());
  return constant_vector(values.data(), size, dtype).attr("reshape")(core.x.shape[0], core.groups);
}

// None without weights.
nb::object weight_matrix(const GroupNormSaved& core, const ChannelVector& values) {
  return core.weights.given() ? matrix(core, values, DType::float64) : nb::object(nb::none());
}

nb::object matrix(const GroupSaved& saved, const ChannelVector& values) {
  return matrix(saved.core, values, statistics_dtype(saved.core.x.dtype));
}

std::int64_t statistics_bytes(const GroupNormSaved& s) {
  return bytes_of({s.mean.size(), s.mean_low.size(), s.var.size(), s.inv_std.size(), s.gamma.size(),
                   s.weight.size(), s.squared_weights.size()});
}

// Everything but `groups`, which instance normalization does not have.
struct Forward {
  ForwardInputs in;
  Array weights, y;
  GroupNormArgs args;

  Forward(const char* function, nb::handle x_object, nb::handle gamma_object,
          nb::handle beta_object, nb::handle axis, nb::handle eps, nb::handle residual_object,
          nb::handle activation, nb::handle on_single, nb::handle out, nb::handle weights_object)
      : in(function, x_object, gamma_object, beta_object, residual_object),
        weights(Array::weights(function, weights_object, in.x)),
        y(in.output(function, out, {{"weights", weights, false}})) {
    set_options(function, args, axis, eps, activation);
    args.on_single =
        static_cast<OnSingle>(to_choice(function, "on_single", on_single, {"error", "biased"}));
    in.give(args, y);
    args.weights = weights.tensor();
  }

  template <class Run>
  nb::tuple run(Run function) const {
    GroupNormSaved saved;
    {
      nb::gil_scoped_release release;
      saved = function(args);
    }
    nb::object kept = weights.given() ? weights.object() : nb::none();
    return nb::make_tuple(y.object(),
                          new_norm_saved(GroupCore{std::move(saved), std::move(kept)}, in.x, y));
  }
};

nb::tuple group(nb::handle x, nb::handle groups, nb::handle gamma, nb::handle beta, nb::handle axis,
                nb::handle eps, nb::handle residual, nb::handle activation, nb::handle on_single,
                nb::handle out, nb::handle weights) {
  constexpr const char* function = "group_norm";
  const int count = to_int(function, "groups", groups);
  Forward forward(function, x, gamma, beta, axis, eps, residual, activation, on_single, out,
                  weights);
  forward.args.groups = count;
  return forward.run(&group_norm);
}

nb::tuple instance(nb::handle x, nb::handle gamma, nb::handle beta, nb::handle axis, nb::handle eps,
                   nb::handle residual, nb::handle activation, nb::handle on_single, nb::handle out,
                   nb::handle weights) {
  return Forward("instance_norm", x, gamma, beta, axis, eps, residual, activation, on_single, out,
                 weights)
      .run(&instance_norm);
}

template <class Run>
nb::tuple backward(const char* function, nb::handle dy, nb::handle saved_object, nb::handle out,
                   Run run) {
  const GroupSaved& saved = to_norm_saved<GroupCore>(function, saved_object);
  const NormBackward arrays(function, dy, saved, out);
  const Array weights = Array::input(function, "weights", saved.core.kept_weights);
  if (weights.given() && !same_view(weights.tensor(), saved.core.weights)) {
    Check(function).refuse(
        "saved refers to weights that were resized or moved since the forward call");
  }
  if (!out.is_none()) check_overlap(function, arrays.dx, {{"saved's weights", weights, false}});
  const auto grads = arrays.grads<GroupNormGrads>();
  {
    nb::gil_scoped_release release;
    run(saved.core, grads);
  }
  return arrays.objects();
}

nb::tuple group_backward(nb::handle dy, nb::handle saved, nb::handle out) {
  return backward("group_norm_backward", dy, saved, out, &group_norm_backward);
}

nb::tuple instance_backward(nb::handle dy, nb::handle saved, nb::handle out) {
  return backward("instance_norm_backward", dy, saved, out, &instance_norm_backward);
}

}  // namespace

void bind_group_norm(nb::module_& m) {
  nb::class_<GroupSaved> type(m, "GroupNormSaved",
                              "What group_norm or instance_norm leaves for its backward.");
  bind_saved(type);
  type.def_prop_ro(
          "mean", [](const GroupSaved& s) { return matrix(s, s.core.mean); },
          "Mean of each group, (N, groups), read-only, in the statistics dtype.")
      .def_prop_ro(
          "var", [](const GroupSaved& s) { return matrix(s, s.core.var); },
          "Biased variance of each group, (N, groups), read-only, in the statistics dtype.")
      .def_prop_ro(
          "inv_std", [](const GroupSaved& s) { return matrix(s, s.core.inv_std); },
          "1 / sqrt(var + eps), (N, groups), read-only, in the statistics dtype.")
      .def_prop_ro(
          "groups", [](const GroupSaved& s) { return s.core.groups; }, "Groups of channels.")
      .def_prop_ro(
          "count", [](const GroupSaved& s) { return s.core.count; }, "Values a group, m.")
      .def_prop_ro(
          "weight", [](const GroupSaved& s) { return weight_matrix(s.core, s.core.weight); },
          "Sum of the weights of each group, (N, groups), read-only, float64; None without "
          "weights.")
      .def_prop_ro(
          "nbytes", [](const GroupSaved& s) { return statistics_bytes(s.core) + mask_bytes_of(s); },
          "Bytes it holds itself; x is only referred to.")
      .def(
          "_statistics",
          [](const GroupSaved& s) {
            return nb::make_tuple(matrix(s.core, s.core.mean, DType::float64),
                                  matrix(s.core, s.core.var, DType::float64),
                                  weight_matrix(s.core, s.core.weight),
                                  weight_matrix(s.core, s.core.squared_weights));
          },
          "(mean, var, weight, squared_weights) of each group, float64; the last two may be None.")
      .def("__repr__", [](const GroupSaved& s) {
        return "GroupNormSaved(shape=" + shape_text(s.core.x) +
               ", axis=" + std::to_string(s.core.axis) +
               ", groups=" + std::to_string(s.core.groups) +
               ", count=" + std::to_string(s.core.count) + (s.core.mask.empty() ? "" : ", relu") +
               (s.core.residual ? ", residual" : "") + (s.core.weights.given() ? ", weights" : "") +
               (s.reason.empty() ? "" : ", x overwritten") + ")";
      });
  // Every argument may be None as far as nanobind is concerned: the refusals are ours.
  m.def("group_norm", &group, nb::arg("x").none(), nb::arg("groups").none(),
        nb::arg("gamma").none(), nb::arg("beta").none(), nb::arg("axis").none(),
        nb::arg("eps").none(), nb::arg("residual").none(), nb::arg("activation").none(),
        nb::arg("on_single").none(), nb::arg("out").none(), nb::arg("weights").none());
  m.def("instance_norm", &instance, nb::arg("x").none(), nb::arg("gamma").none(),
        nb::arg("beta").none(), nb::arg("axis").none(), nb::arg("eps").none(),
        nb::arg("residual").none(), nb::arg("activation").none(), nb::arg("on_single").none(),
        nb::arg("out").none(), nb::arg("weights").none());
  m.def("group_norm_backward", &group_backward, nb::arg("dy").none(), nb::arg("saved").none(),
        nb::arg("out").none());
  m.def("instance_norm_backward", &instance_backward, nb::arg("dy").none(), nb::arg("saved").none(),
        nb::arg("out").none());
}

}  // namespace bnpp::python
