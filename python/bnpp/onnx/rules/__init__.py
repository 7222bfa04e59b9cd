"""The operators that a map can be moved through, upwards or downwards, one file a family."""

from __future__ import annotations

from onnx import NodeProto

from bnpp.onnx._field import Field, Stays
from bnpp.onnx._graph import Graph
from bnpp.onnx._proto import label, standard
from bnpp.onnx.rules import _constant, _shapes, _values

__all__ = ["absorbs", "down", "up"]

_DEPTH = ("DepthToSpace", "SpaceToDepth")
_THROUGH = (*_values.HOMOGENEOUS, *_values.MAXIMUM, *_values.AVERAGE, "Pad")


def absorbs(node: NodeProto) -> bool:
    """Tell whether a node becomes part of a map that passes it, and goes."""
    return standard(node) in _constant.OPERATORS


def up(graph: Graph, node: NodeProto, field: Field) -> list[tuple[str, Field]]:
    """Move a map from a node's output to its inputs.

    Returns
    -------
    list of (str, Field)
        The values it has to act on, and how.

    Raises
    ------
    Stays
        If it cannot be moved.
    """
    kind = standard(node)
    if absorbs(node):
        data = _constant.data_side(graph, node)
        return [(node.input[data], field.after(_constant.field(graph, node, data)))]
    if kind == "Concat":
        return list(zip(node.input, _shapes.concat_up(graph, node, field), strict=True))
    if kind in _shapes.SAME and _shapes.dropout_is_identity(graph, node):
        return [(node.input[0], field)]
    if kind == "Transpose":
        return [(node.input[0], _shapes.transpose_up(node, field))]
    if kind in _shapes.RESHAPE:
        return [(node.input[0], _shapes.reshape_up(graph, node, field))]
    if kind in _DEPTH:
        return [(node.input[0], _shapes.depth_up(node, field))]
    if kind in _THROUGH and node.output[0]:
        return [(node.input[0], _values.through(graph, node, 0, field))]
    raise Stays(f"{node.op_type} {label(node)!r} stands between")


def down(graph: Graph, node: NodeProto, position: int, field: Field) -> Field:
    """Move a map from a node's input to its output.

    Raises
    ------
    Stays
        If it cannot be moved.
    """
    kind = standard(node)
    if absorbs(node):
        return _constant.field(graph, node, position).after(field)
    if kind == "Concat":
        return _shapes.concat_down(graph, node, position, field)
    if kind in _shapes.SAME and position == 0 and _shapes.dropout_is_identity(graph, node):
        return field
    if position == 0 and kind == "Transpose":
        return _shapes.transpose_down(node, field)
    if position == 0 and kind in _shapes.RESHAPE:
        return _shapes.reshape_down(graph, node, field)
    if position == 0 and kind in _DEPTH:
        return _shapes.depth_down(node, field)
    if kind in _THROUGH:
        return _values.through(graph, node, position, field)
    raise Stays(f"{node.op_type} {label(node)!r} stands between")
