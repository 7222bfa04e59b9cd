"""bnpp as an ONNX backend that runs one operator, BatchNormalization, for ONNX's own node tests."""

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


class Prepared(BackendRep):
    """A model of one node, ready to run."""

    def __init__(self, model):
        self.node = model.graph.node[0]

    def run(self, inputs, **_):
        """Run the node on its inputs, in the node's order."""
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in self.node.attribute}
        found = batch_normalization(*map(np.asarray, inputs), **attributes)
        return namedtupledict("Outputs", list(self.node.output))(*found)


class BnppBackend(Backend):
    """The backend that ONNX's tests ask for."""

    @classmethod
    def is_compatible(cls, model, device="CPU", **_):
        """One BatchNormalization node on the CPU."""
        return device == "CPU" and [n.op_type for n in model.graph.node] == ["BatchNormalization"]

    @classmethod
    def prepare(cls, model, device="CPU", **keywords):
        """Check the model and make it ready."""
        super().prepare(model, device, **keywords)
        if not cls.is_compatible(model, device):
            raise ValueError("bnpp runs models of one BatchNormalization node on the CPU")
        return Prepared(model)

    @classmethod
    def supports_device(cls, device):
        """The CPU only."""
        return device == "CPU"
