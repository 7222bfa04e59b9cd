"""Seeded inputs that respect what a model declares about its inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper

from bnpp.onnx import _shapes
from bnpp.onnx._run import Arrays

#: Lengths tried, in this order, for axes that the model leaves open; the batch is 2 or 1.
OPEN = (64, 32, 8, 224, 48, 16, 4, 2, 1)


def inputs(model: ModelProto) -> list[ValueInfoProto]:
    """Return the inputs that have no default value."""
    defaults = {t.name for t in model.graph.initializer}
    return [info for info in model.graph.input if info.name not in defaults]


def candidates(
    model: ModelProto, given: Mapping[str, Sequence[int]]
) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield shapes for all inputs: the given and declared lengths, and others for those left open.

    Axes with the same symbol get the same length.

    Raises
    ------
    ValueError
        If a shape is given for something that is no input, or does not fit what the model declares, or if
        an input is no tensor.
    """
    infos = inputs(model)
    names = [info.name for info in infos]
    for name in given:
        if name not in names:
            raise ValueError(
                f"fold: shapes names {name!r}, but the inputs of the model are {', '.join(names)}"
            )
    declared = {info.name: _declared(info, given.get(info.name)) for info in infos}
    symbols: dict[str, int] = {}
    for name, shape in given.items():
        dims = _shapes.shape_of(next(i for i in infos if i.name == name)) or ()
        symbols |= {d: n for d, n in zip(dims, shape, strict=False) if isinstance(d, str)}
    tried = set()
    for batch in (2, 1):
        for length in OPEN:
            shapes = {
                name: tuple(
                    n if isinstance(n, int) else symbols.get(str(n), batch if k == 0 else length)
                    for k, n in enumerate(dims)
                )
                for name, dims in declared.items()
            }
            key = tuple(shapes.values())
            if key not in tried:
                tried.add(key)
                yield shapes


def make(model: ModelProto, shapes: Mapping[str, tuple[int, ...]], seed: int) -> Arrays:
    """Return values for all inputs: normal floats, and small whole numbers, which may be indices."""
    rng = np.random.default_rng(seed)
    return {
        info.name: _values(rng, info.type.tensor_type.elem_type, shapes[info.name])
        for info in inputs(model)
    }


def _declared(info: ValueInfoProto, given: Sequence[int] | None) -> _shapes.Shape:
    if not info.type.HasField("tensor_type"):
        raise ValueError(
            f"fold: input {info.name!r} is no tensor, so that no values can be made up"
        )
    shape = _shapes.shape_of(info)
    if given is None:
        if shape is None:
            raise ValueError(
                f"fold: input {info.name!r} declares no shape: give one with shapes "
                f"(--shape {info.name}=1,3,224,224), or do not verify"
            )
        return shape
    fits = shape is None or (
        len(shape) == len(given)
        and all(not isinstance(d, int) or d == n for d, n in zip(shape, given, strict=True))
    )
    if not fits or any(n < 0 for n in given):
        raise ValueError(
            f"fold: shapes gives {info.name!r} the shape {tuple(given)}, "
            f"but the model declares {shape}"
        )
    return tuple(int(n) for n in given)


def _values(rng: np.random.Generator, kind: int, shape: tuple[int, ...]) -> NDArray[Any]:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    if dtype == object or dtype.kind in "USO":
        raise ValueError("fold: an input holds text, for which no values can be made up")
    if dtype.kind in "iub":
        return rng.integers(0, 2, shape).astype(dtype)
    values = rng.standard_normal(math.prod(shape)).reshape(shape)
    return values.astype(dtype)
