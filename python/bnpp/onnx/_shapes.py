"""Shapes of all values, inferred without the weights' data.

Shape inference needs the values of small constants only (the target of a ``Reshape``). Large ones go in
as stubs that say their shape, so that it is quick and works beyond protobuf's 2 GB.
"""

from __future__ import annotations

from typing import TypeAlias

import onnx
from onnx import GraphProto, ModelProto, TensorProto, TensorShapeProto, ValueInfoProto

from bnpp.onnx import _skeleton
from bnpp.onnx._field import Dim
from bnpp.onnx._proto import names_used, opset, strip_outputs

Shape: TypeAlias = tuple[Dim, ...]

#: Constants of more elements are not looked into by shape inference.
LARGE = 1024


def infer(model: ModelProto) -> GraphProto:
    """Return a copy of the graph without large data and with the shapes that could be inferred."""
    skeleton = _skeleton.copy_model(model, _stub)
    # It gives up on a batch norm with outputs that mean nothing.
    strip_outputs(skeleton.graph, set(names_used(skeleton.graph)), opset(skeleton) >= 14)
    try:
        return onnx.shape_inference.infer_shapes(skeleton).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return skeleton.graph  # what the model declares by itself has to do


def shapes(graph: GraphProto) -> dict[str, Shape]:
    """Return the shapes known in one graph: of inputs, outputs, initializers and inferred values."""
    found: dict[str, Shape] = {t.name: tuple(t.dims) for t in graph.initializer}
    for info in (*graph.input, *graph.output, *graph.value_info):
        shape = shape_of(info)
        if shape is not None:
            found.setdefault(info.name, shape)
    return found


def types(graph: GraphProto) -> dict[str, int]:
    """Return the element types known in one graph, as `onnx.TensorProto` numbers them."""
    infos = (*graph.input, *graph.output, *graph.value_info)
    return {info.name: info.type.tensor_type.elem_type for info in infos}


def shape_of(info: ValueInfoProto) -> Shape | None:
    """Return the shape that a declaration gives, None where it gives none."""
    tensor = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    return tuple(_length(dim) for dim in tensor.shape.dim)


def _length(dim: TensorShapeProto.Dimension) -> Dim:
    # Some exporters declare -1 where they mean an open length.
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _stub(tensor: TensorProto) -> TensorProto | None:
    if _skeleton.elements(tensor) <= LARGE and tensor.data_location != TensorProto.EXTERNAL:
        return None
    return _skeleton.external(tensor, "not-read", 0, 0)
