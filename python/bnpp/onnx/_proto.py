"""Reading the protobuf messages of a model: operators, attributes, subgraphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper

#: The names of the standard's own domain.
STANDARD = ("", "ai.onnx")


def opset(proto: ModelProto) -> int:
    """Return the version of the standard's operators that a model uses.

    Raises
    ------
    ValueError
        If it uses none, or one before 7.
    """
    versions = [entry.version for entry in proto.opset_import if entry.domain in STANDARD]
    if not versions:
        raise ValueError("fold: the model imports no opset of the standard's operators")
    if versions[0] < 7:
        raise ValueError(
            f"fold: the model has opset {versions[0]}, but 7 or later is needed "
            "(onnx.version_converter.convert_version gives it)"
        )
    return int(versions[0])


def label(node: NodeProto) -> str:
    """Return the name of a node, or of its output where it has none."""
    return node.name or next((name for name in node.output if name), node.op_type)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of an attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def standard(node: NodeProto | None) -> str:
    """Return the operator's name if it is the standard's, else an empty string."""
    return node.op_type if node is not None and node.domain in STANDARD else ""


def bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """Yield the graphs inside a node, with the names of their attributes."""
    for entry in node.attribute:
        if entry.type == AttributeProto.GRAPH:
            yield entry.name, entry.g
        for body in entry.graphs:
            yield entry.name, body


def names_used(graph: GraphProto) -> Iterator[str]:
    """Yield the names that a graph's nodes and outputs refer to, also in the graphs inside."""
    for node in graph.node:
        yield from node.input
        for _, body in bodies(node):
            yield from names_used(body)
    for info in graph.output:
        yield info.name


def strip_outputs(graph: GraphProto, used: set[str], modern: bool) -> None:
    """Take away the outputs of batch norms that mean nothing, in place.

    Parameters
    ----------
    graph : onnx.GraphProto
        The graph, with its subgraphs.
    used : set of str
        The names that anything uses.
    modern : bool
        Whether the opset is 14 or later. Before, a named output means training mode, also where nothing
        uses it.
    """
    for node in graph.node:
        for _, body in bodies(node):
            strip_outputs(body, used, modern)
        if standard(node) != "BatchNormalization" or attribute(node, "training_mode", 0):
            continue
        while len(node.output) > 1 and (
            not node.output[-1] or (modern and node.output[-1] not in used)
        ):
            del node.output[-1]
