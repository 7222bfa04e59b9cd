"""Reading a ``BatchNormalization`` node: its map, or why it has none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

import bnpp
from bnpp.onnx._field import Field, Float64, Stays
from bnpp.onnx._graph import Graph
from bnpp.onnx._proto import attribute, standard

#: The operator's default, as the float32 that an attribute holds.
EPSILON = float(np.float32(1e-5))
NAMES = ("scale", "B", "mean", "var")


@dataclass(frozen=True)
class BatchNorm:
    """The numbers of one node.

    Attributes
    ----------
    scale, shift, size : numpy.ndarray, shape (C,)
        ``y = scale * x + shift``, and the sum of the magnitudes of the terms of `shift`.
    zero_variances, denormal_variances : int
        In how many channels the variance is 0, or so small that float32 holds it with fewer digits.
    """

    scale: Float64
    shift: Float64
    size: Float64
    zero_variances: int
    denormal_variances: int

    @property
    def channels(self) -> int:
        """How many channels it has."""
        return len(self.scale)

    @property
    def dead_channels(self) -> int:
        """In how many channels the scale is 0."""
        return int((self.scale == 0).sum())

    def field(self, rank: int) -> Field:
        """Return the map for tensors of a rank."""
        shape = (1, -1) + (1,) * (rank - 2)
        parts = (self.scale, self.shift, self.size)
        return Field.of(*(part.reshape(shape) for part in parts))


def is_batch_norm(node: NodeProto) -> bool:
    """Tell whether a node is one."""
    return standard(node) == "BatchNormalization"


def read(graph: Graph, node: NodeProto) -> BatchNorm:
    """Read a node.

    Raises
    ------
    Stays
        If it is in training mode, or its parameters are not constants that a linear map can be made of.
    """
    _check_mode(graph, node)
    gamma, beta, mean, var = (_parameter(graph, node, k) for k in range(1, 5))
    sizes = {len(p) for p in (gamma, beta, mean, var)}
    if len(sizes) > 1:
        raise Stays(f"its parameters have {sorted(sizes)} values")
    eps = attribute(node, "epsilon", EPSILON)
    total = var + eps
    if not (total > 0).all():
        channel = int(np.flatnonzero(~(total > 0))[0])
        raise Stays(
            f"variance + epsilon is {total[channel]:g} in channel {channel}, "
            "where the model itself gives infinities or NaN"
        )
    affine = bnpp.affine(gamma, beta, mean, var, eps=eps)
    scale, shift = np.array(affine.scale), np.array(affine.shift)
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise Stays("its scale or shift exceeds the range of float64")
    small = float(np.finfo(np.float32).tiny)
    return BatchNorm(
        scale,
        shift,
        np.abs(mean * scale) + np.abs(beta),
        int((var == 0).sum()),
        int(((var != 0) & (var < small)).sum()),
    )


def _check_mode(graph: Graph, node: NodeProto) -> None:
    extra = [name for name in node.output[1:] if name]
    if attribute(node, "training_mode", 0):
        raise Stays("training_mode is 1: it normalizes by the statistics of each batch")
    if graph.model.opset < 14 and extra:
        raise Stays(
            f"it has {1 + len(extra)} outputs, which before opset 14 means training mode; "
            "if it is meant for inference, remove the others"
        )
    for name in extra:
        if name in graph.consumers or graph.only_use(name):
            raise Stays(f"its second output {name!r} is used")
    if not attribute(node, "spatial", 1):
        raise Stays("spatial is 0: it has statistics for each position, not for each channel")


def _parameter(graph: Graph, node: NodeProto, position: int) -> Float64:
    value = graph.constant(node.input[position])
    name = NAMES[position - 1]
    if value is None:
        raise Stays(f"its {name} {node.input[position]!r} is not constant")
    if value.ndim != 1:
        raise Stays(f"its {name} has {value.ndim} dimensions, where one is needed")
    wide = value.astype(np.float64)
    if not np.isfinite(wide).all():
        raise Stays(f"its {name} holds NaN or infinity")
    return wide
