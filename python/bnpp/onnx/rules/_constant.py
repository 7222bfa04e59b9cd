"""``Add``, ``Sub``, ``Mul``, ``Div`` with a constant: a map of its own, which is absorbed on the way."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from bnpp.onnx._field import Field, Float64, Stays
from bnpp.onnx._graph import Graph
from bnpp.onnx._proto import label, standard

OPERATORS = ("Add", "Div", "Mul", "Sub")


def data_side(graph: Graph, node: NodeProto) -> int:
    """Return which input of a node is not constant.

    Raises
    ------
    Stays
        If both are not.
    """
    sides = [k for k, name in enumerate(node.input) if graph.constant(name) is None]
    if len(sides) != 1:
        raise Stays(f"{node.op_type} {label(node)!r} has no constant input")
    return sides[0]


def constant_side(graph: Graph, node: NodeProto, data: int) -> Float64:
    """Return the constant of a node whose input `data` is the other one, in float64.

    Raises
    ------
    Stays
        If it is none, or if it makes the result larger than the data.
    """
    value = graph.constant(node.input[1 - data])
    shape = graph.shape(node.input[data])
    where = f"{node.op_type} {label(node)!r}"
    if value is None:
        raise Stays(f"{where} has no constant input")
    if shape is None:
        raise Stays(f"the shape of the input of {where} is not known")
    wide = value.astype(np.float64)
    if not np.isfinite(wide).all():
        raise Stays(f"the constant of {where} holds NaN or infinity")
    lengths = (None,) * max(len(shape) - wide.ndim, 0) + wide.shape
    if wide.ndim > len(shape) or any(
        n not in (None, 1, length) for n, length in zip(lengths, shape, strict=True)
    ):
        raise Stays(f"the constant of {where} is larger than its input")
    return wide.reshape((1,) * (len(shape) - wide.ndim) + wide.shape)


def field(graph: Graph, node: NodeProto, data: int) -> Field:
    """Return the map of a node as a function of its input `data`.

    Raises
    ------
    Stays
        If it is not linear.
    """
    value = constant_side(graph, node, data)
    one = np.ones((1,) * value.ndim)
    if standard(node) == "Add":
        return Field.of(one, value)
    if standard(node) == "Sub":
        return Field.of(one, -value) if data == 0 else Field.of(-one, value)
    if standard(node) == "Mul":
        return Field.of(value, 0 * one)
    if data == 1:
        raise Stays(f"Div {label(node)!r} divides a constant by its input, which is not linear")
    if not value.all():
        raise Stays(f"Div {label(node)!r} divides by 0")
    return Field.of(1 / value, 0 * one)
