"""Values that are known before a model runs: initializers, ``Constant`` nodes, and shapes made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

#: Operators that only rearrange or convert: of a constant, they give a constant.
REARRANGE = frozenset(
    {"Cast", "Concat", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)

#: Floating types a layer may have, with the relative size of one rounding.
UNITS: dict[int, float] = {
    TensorProto.FLOAT16: 2.0**-11,
    TensorProto.BFLOAT16: 2.0**-8,
    TensorProto.FLOAT: 2.0**-24,
    TensorProto.DOUBLE: 2.0**-53,
}


def require_data(tensor: TensorProto) -> None:
    """Refuse a tensor whose data are not in memory.

    Raises
    ------
    ValueError
        If they lie in a file that was not read.
    """
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ValueError(
            f"fold: the data of {tensor.name!r} lie in another file and were not read: "
            "load the model with onnx.load(path), or give the path itself"
        )


def of_node(node: NodeProto) -> NDArray[Any] | None:
    """Read a ``Constant`` node, None if it holds no dense tensor of numbers."""
    for attribute in node.attribute:
        if attribute.name == "value":
            return numpy_helper.to_array(attribute.t)
        if attribute.name in ("value_float", "value_floats"):
            return np.asarray(onnx.helper.get_attribute_value(attribute), np.float32)
        if attribute.name in ("value_int", "value_ints"):
            return np.asarray(onnx.helper.get_attribute_value(attribute), np.int64)
    return None


def rearranged(node: NodeProto, inputs: list[NDArray[Any]], opset: int) -> NDArray[Any]:
    """Evaluate one operator of `REARRANGE` on constants."""
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - slow to import, seldom needed

    names = [f"i{k}" for k in range(len(inputs))]
    infos = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, inputs, strict=True)
    ]
    single = onnx.helper.make_node(node.op_type, names, ["o"])
    single.attribute.extend(node.attribute)
    output = onnx.ValueInfoProto(name="o")
    graph = onnx.helper.make_graph([single], "constant", infos, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    found = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    return np.asarray(found[0])


def unit(dtype: np.dtype[Any]) -> float:
    """Return the relative size of one rounding to a dtype.

    Examples
    --------
    >>> unit(np.dtype(np.float32)) == 2.0**-24
    True
    """
    return UNITS[onnx.helper.np_dtype_to_tensor_dtype(dtype)]


def is_float(dtype: np.dtype[Any]) -> bool:
    """Tell whether a layer may have weights of this dtype."""
    try:
        return onnx.helper.np_dtype_to_tensor_dtype(dtype) in UNITS
    except (KeyError, ValueError):
        return False
