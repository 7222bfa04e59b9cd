"""Copies of a model with stand-ins for its large tensors, made without ever copying their data.

Shape inference and saving beyond 2 GB both need such a copy: protobuf cannot write more at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

#: Gives the stand-in for a tensor, or None to copy it.
Replace: TypeAlias = Callable[[TensorProto], TensorProto | None]


def copy_model(model: ModelProto, replace: Replace) -> ModelProto:
    """Return a copy of a model with other tensors in the place of some."""
    copy = ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            _copy_graph(value, copy.graph, replace)
        else:
            _set(copy, field.name, value)
    return copy


def external(tensor: TensorProto, location: str, offset: int, length: int) -> TensorProto:
    """Return a tensor that says in which file its data are."""
    stub = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    stub.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        stub.external_data.add(key=key, value=str(value))
    return stub


def elements(tensor: TensorProto) -> int:
    """Return how many values a tensor holds."""
    return math.prod(tensor.dims)


def _copy_graph(source: GraphProto, target: GraphProto, replace: Replace) -> None:
    for field, value in source.ListFields():
        if field.name == "node":
            for node in value:
                _copy_node(node, target.node.add(), replace)
        elif field.name == "initializer":
            for tensor in value:
                target.initializer.add().CopyFrom(replace(tensor) or tensor)
        else:
            _set(target, field.name, value)


def _copy_node(source: NodeProto, target: NodeProto, replace: Replace) -> None:
    for field, value in source.ListFields():
        if field.name == "attribute":
            for attribute in value:
                _copy_attribute(attribute, target.attribute.add(), replace)
        else:
            _set(target, field.name, value)


def _copy_attribute(source: AttributeProto, target: AttributeProto, replace: Replace) -> None:
    if source.type == AttributeProto.TENSOR:
        target.name, target.type = source.name, source.type
        target.t.CopyFrom(replace(source.t) or source.t)
    elif source.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
        target.name, target.type = source.name, source.type
        if source.HasField("g"):
            _copy_graph(source.g, target.g, replace)
        for body in source.graphs:
            _copy_graph(body, target.graphs.add(), replace)
    else:
        target.CopyFrom(source)


def _set(target: Message, name: str, value: Any) -> None:
    if hasattr(value, "extend"):
        getattr(target, name).extend(value)
    elif hasattr(value, "CopyFrom"):
        getattr(target, name).CopyFrom(value)
    else:
        setattr(target, name, value)
