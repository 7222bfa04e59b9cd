"""Operators on values that a map passes under conditions: ReLU and its kin, pooling, ``Pad``."""

from __future__ import annotations

from onnx import NodeProto

from bnpp.onnx._field import Field, Stays
from bnpp.onnx._graph import Graph
from bnpp.onnx._proto import attribute, label, standard

#: f(s * x) = s * f(x) for every s >= 0.
HOMOGENEOUS = ("LeakyRelu", "PRelu", "Relu")
MAXIMUM = ("GlobalMaxPool", "MaxPool")
AVERAGE = ("AveragePool", "GlobalAveragePool")


def through(graph: Graph, node: NodeProto, position: int, field: Field) -> Field:
    """Return the map on the other side of a node, which is the same one where the node lets it pass.

    Raises
    ------
    Stays
        Where it does not.
    """
    kind, where = standard(node), f"{node.op_type} {label(node)!r}"
    if position != 0:
        raise Stays(f"it is not the data of {where}")
    if kind in HOMOGENEOUS:
        _scales(field, where)
        if field.shifts():
            raise Stays(f"a shift does not pass through {where}")
        return field
    if any(axis >= 2 for axis in field.varies()):
        raise Stays(f"it depends on a position, and {where} takes several together")
    if kind in MAXIMUM:
        _scales(field, where)
        if any(name in graph.consumers or graph.only_use(name) for name in node.output[1:] if name):
            raise Stays(f"the indices of {where} are used")
    elif kind == "AveragePool" and field.shifts() and _counts_padding(node):
        raise Stays(f"{where} averages padding zeros too, which have no shift")
    elif kind == "Pad" and field.shifts() and _mode(node) == "constant":
        raise Stays(f"{where} adds a constant border, which has no shift")
    elif kind == "Pad" and _mode(node) == "constant" and not _pads_zero(graph, node):
        raise Stays(f"{where} pads with a value that the scale would change")
    return field


def _scales(field: Field, where: str) -> None:
    if field.negative():
        raise Stays(f"{field.negative()} scales are negative and do not pass through {where}")


def _counts_padding(node: NodeProto) -> bool:
    mode = attribute(node, "auto_pad", b"NOTSET")
    padded = mode in (b"SAME_UPPER", b"SAME_LOWER") or any(attribute(node, "pads", None) or [])
    # With ceil_mode the last window may hang over the border, counted or not as runtimes differ.
    return bool(attribute(node, "count_include_pad", 0)) and (
        padded or bool(attribute(node, "ceil_mode", 0))
    )


def _mode(node: NodeProto) -> str:
    return bytes(attribute(node, "mode", b"constant")).decode()


def _pads_zero(graph: Graph, node: NodeProto) -> bool:
    if graph.model.opset < 11:
        return float(attribute(node, "value", 0.0)) == 0
    if len(node.input) < 3 or not node.input[2]:
        return True
    value = graph.constant(node.input[2])
    return value is not None and not value.any()
