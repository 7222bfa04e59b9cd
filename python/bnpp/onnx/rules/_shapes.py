"""Operators that move elements without changing them: the map is rearranged with them."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from bnpp.onnx._field import Dim, Field, Float64, Groups, Stays, known, match
from bnpp.onnx._graph import Graph
from bnpp.onnx._proto import attribute, label, standard

RESHAPE = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
SAME = ("Dropout", "Identity")


def transpose_up(node: NodeProto, field: Field) -> Field:
    """Return the map ahead of a ``Transpose`` from the one behind it."""
    inverse = np.argsort(_perm(node, field.rank))
    return field.each(lambda part: part.transpose(inverse))


def transpose_down(node: NodeProto, field: Field) -> Field:
    """Return the map behind a ``Transpose`` from the one ahead of it."""
    perm = _perm(node, field.rank)
    return field.each(lambda part: part.transpose(perm))


def reshape_up(graph: Graph, node: NodeProto, field: Field) -> Field:
    """Return the map ahead of a reshape from the one behind it.

    Raises
    ------
    Stays
        If its shapes are not known well enough.
    """
    before, after, groups = _reshape(graph, node)
    return field.regrouped(after, before, [(new, old) for old, new in groups])


def reshape_down(graph: Graph, node: NodeProto, field: Field) -> Field:
    """Return the map behind a reshape from the one ahead of it.

    Raises
    ------
    Stays
        If its shapes are not known well enough.
    """
    before, after, groups = _reshape(graph, node)
    return field.regrouped(before, after, groups)


def concat_up(graph: Graph, node: NodeProto, field: Field) -> list[Field]:
    """Split the map behind a ``Concat`` into those of its inputs.

    Raises
    ------
    Stays
        If their lengths are not known.
    """
    axis = int(attribute(node, "axis")) % field.rank
    if axis not in field.varies():
        return [field for _ in node.input]
    ends = np.cumsum(_lengths(graph, node, axis))
    whole = _spread(field, axis, int(ends[-1]))
    return [
        whole.each(lambda part, a=start, b=end: part.take(range(a, b), axis))  # type: ignore[misc]
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def concat_down(graph: Graph, node: NodeProto, position: int, field: Field) -> Field:
    """Return the map behind a ``Concat`` of which only one input has one.

    Raises
    ------
    Stays
        If the lengths of its inputs are not known.
    """
    axis = int(attribute(node, "axis")) % field.rank
    lengths = _lengths(graph, node, axis)
    whole = _spread(field, axis, lengths[position])
    start, end = sum(lengths[:position]), sum(lengths[position + 1 :])

    def widened(part: Float64, value: float) -> Float64:
        width = [(start, end) if a == axis else (0, 0) for a in range(field.rank)]
        return np.pad(part, width, constant_values=value)

    parts = widened(whole.scale, 1.0), widened(whole.shift, 0.0), widened(whole.size, 0.0)
    return Field.of(*parts)


def dropout_is_identity(graph: Graph, node: NodeProto) -> bool:
    """Tell whether a ``Dropout`` or ``Identity`` node gives its input back."""
    if standard(node) == "Identity":
        return True
    if any(name in graph.consumers or graph.only_use(name) for name in node.output[1:] if name):
        return False
    if len(node.input) < 3 or not node.input[2]:
        return True
    training = graph.constant(node.input[2])
    return training is not None and not training.any()


def depth_up(node: NodeProto, field: Field) -> Field:
    """Return the map ahead of a ``DepthToSpace`` or ``SpaceToDepth``.

    Raises
    ------
    Stays
        If the map takes apart what the node takes together.
    """
    if standard(node) == "DepthToSpace":
        return _scatter(node, field, by_block=attribute(node, "mode", b"DCR") == b"DCR")
    return _gather(node, field, by_block=True)


def depth_down(node: NodeProto, field: Field) -> Field:
    """Return the map behind a ``DepthToSpace`` or ``SpaceToDepth``.

    Raises
    ------
    Stays
        If the map takes apart what the node takes together.
    """
    if standard(node) == "DepthToSpace":
        return _gather(node, field, by_block=attribute(node, "mode", b"DCR") == b"DCR")
    return _scatter(node, field, by_block=True)


def _scatter(node: NodeProto, field: Field, *, by_block: bool) -> Field:
    """Give each channel of the wide side its map; the blocks are its slow index, or the fast one."""
    _channels_only(node, field)
    count = int(attribute(node, "blocksize")) ** 2
    if field.lengths[1] == 1:
        return field
    if by_block:
        return field.each(lambda part: np.tile(part, (1, count if part.shape[1] > 1 else 1, 1, 1)))
    return field.each(lambda part: np.repeat(part, count if part.shape[1] > 1 else 1, axis=1))


def _gather(node: NodeProto, field: Field, *, by_block: bool) -> Field:
    """Take one map for each channel of the narrow side, where those of its blocks are equal."""
    _channels_only(node, field)
    count = int(attribute(node, "blocksize")) ** 2
    if field.lengths[1] == 1:
        return field
    order = (count, -1) if by_block else (-1, count)
    channels = field.lengths[1]

    def split(part: Float64) -> Float64:
        return np.broadcast_to(part, (1, channels, 1, 1)).reshape(order)

    axis = 0 if by_block else 1
    for part in (field.scale, field.shift):
        values = split(part)
        if not np.array_equal(np.broadcast_to(values.take([0], axis), values.shape), values):
            raise Stays(f"{node.op_type} {label(node)!r} spreads its channels over the positions")
    return field.each(lambda part: split(part).max(axis=axis).reshape(1, -1, 1, 1))


def _channels_only(node: NodeProto, field: Field) -> None:
    if any(axis != 1 for axis in field.varies()):
        raise Stays(f"it depends on a position, and {node.op_type} {label(node)!r} moves these")


def _perm(node: NodeProto, rank: int) -> list[int]:
    return list(attribute(node, "perm", None) or range(rank)[::-1])


def _reshape(graph: Graph, node: NodeProto) -> tuple[list[Dim], list[Dim], Groups]:
    before, after = graph.shape(node.input[0]), graph.shape(node.output[0])
    if before is None or after is None:
        raise Stays(f"the shapes of {node.op_type} {label(node)!r} are not known")
    if standard(node) == "Flatten":
        axis = int(attribute(node, "axis", 1))
        axis += len(before) if axis < 0 else 0
        both = [(range(axis), 0), (range(axis, len(before)), 1)]
        return list(before), list(after), [(list(old), [new]) for old, new in both]
    return list(before), list(after), match(before, after)


def _lengths(graph: Graph, node: NodeProto, axis: int) -> list[int]:
    shapes = [graph.shape(name) for name in node.input]
    try:
        return known([None if shape is None else shape[axis] for shape in shapes])
    except Stays:
        raise Stays(
            f"the lengths of what {node.op_type} {label(node)!r} joins are not known"
        ) from None


def _spread(field: Field, axis: int, length: int) -> Field:
    """Return the map with its arrays at full length along an axis."""

    def wide(part: Float64) -> Float64:
        shape = [length if a == axis else n for a, n in enumerate(part.shape)]
        return np.broadcast_to(part, shape)

    return Field(wide(field.scale), wide(field.shift), wide(field.size))
