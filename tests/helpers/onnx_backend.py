"""bnpp as an ONNX backend that runs one node of a normalization, for ONNX's own node tests."""

import bnpp
import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, namedtupledict


def batch_normalization(x, scale, bias, mean, var, epsilon=1e-5, momentum=0.9, training_mode=0):
    """The operator of opset 15: momentum weighs the old value, the running variance is biased."""
    if not training_mode:
        return (bnpp.batch_norm_inference(x, scale, bias, mean, var, eps=epsilon),)
    layer = bnpp.BatchNorm.like("onnx", x.shape[1], eps=epsilon, decay=momentum)
    names = ("scale", "B", "input_mean", "input_var")
    state = dict(zip(names, (scale, bias, mean, var), strict=True))
    layer.load_state_dict(state, convention="onnx")
    y = layer(x)
    return y, layer.running_mean.astype(mean.dtype), layer.running_var.astype(var.dtype)


def layer_normalization(x, scale, bias=None, axis=-1, epsilon=1e-5, stash_type=1):
    """All axes from `axis` on hold the features; mean and 1 / std keep them with length 1."""
    features, shape = _from(axis, x)
    y, saved = bnpp.layer_norm(x, scale, bias, axis=features, eps=epsilon)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(stash_type)
    return y, *(s.astype(dtype).reshape(shape) for s in (saved.mean, saved.inv_std))


def rms_normalization(x, scale, axis=-1, epsilon=1e-5, stash_type=1):
    """As layer normalization. No stash type matters: bnpp computes in float64."""
    features, _ = _from(axis, x)
    return bnpp.rms_norm(x, scale, axis=features, eps=epsilon)[:1]


def _from(axis, x):
    """Axes of x from this one on, and the shape of what is one value for all of them."""
    features = tuple(range(x.ndim))[axis:]
    return features, x.shape[: features[0]] + (1,) * len(features)


def instance_normalization(x, scale, bias, epsilon=1e-5):
    """Variance 0 where a sample has one position only: the operator refuses no shape."""
    return bnpp.instance_norm(x, scale, bias, eps=epsilon, on_single="biased")[:1]


def group_normalization(x, scale, bias, num_groups, epsilon=1e-5, stash_type=1):
    """Scale and bias are of the channels from opset 21 on, and of the groups in opset 18."""
    scale, bias = (np.repeat(a, x.shape[1] // a.size) for a in (scale, bias))
    return bnpp.group_norm(x, num_groups, scale, bias, eps=epsilon, on_single="biased")[:1]


def mean_variance_normalization(x, axes=(0, 2, 3)):
    """Layer normalization over `axes`; the 1e-9 that ONNX adds to the deviation is only against 0 / 0."""
    return bnpp.layer_norm(x, axis=tuple(axes), eps=0.0)[:1]


OPERATORS = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
}


class Prepared(BackendRep):
    """A model of one node, ready to run."""

    def __init__(self, model):
        self.node = model.graph.node[0]

    def run(self, inputs, **_):
        """Run the node on its inputs, in the node's order; only the outputs that it names."""
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in self.node.attribute}
        found = OPERATORS[self.node.op_type](*map(np.asarray, inputs), **attributes)
        names = list(self.node.output)
        return namedtupledict("Outputs", names)(*found[: len(names)])


class BnppBackend(Backend):
    """The backend that ONNX's tests ask for."""

    @classmethod
    def is_compatible(cls, model, device="CPU", **_):
        """One node, of an operator that bnpp has, on the CPU."""
        types = [n.op_type for n in model.graph.node]
        return device == "CPU" and len(types) == 1 and types[0] in OPERATORS

    @classmethod
    def prepare(cls, model, device="CPU", **keywords):
        """Check the model and make it ready."""
        super().prepare(model, device, **keywords)
        if not cls.is_compatible(model, device):
            raise ValueError("bnpp runs models of one normalization node on the CPU")
        return Prepared(model)

    @classmethod
    def supports_device(cls, device):
        """The CPU only."""
        return device == "CPU"
