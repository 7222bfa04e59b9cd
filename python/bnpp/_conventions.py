"""How other frameworks name and define the same layers: the one table of them, and state by name.

A convention says two things: what a layer of that framework does by default (``settings``, for
``BatchNorm.like``) and what its saved values are called (``names``, for ``state_dict``), which the
layers without running statistics share. Adding a framework is one entry of `CONVENTIONS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from bnpp._arrays import Array, as_array

#: The conventions known.
Name: TypeAlias = Literal["bnpp", "torch", "keras", "onnx"]
Vector: TypeAlias = NDArray[np.float64]


class LayerState(NamedTuple):
    """All that a layer keeps: parameters and float64 running statistics, None where it has none."""

    gamma: Array | None
    beta: Array | None
    running_mean: Vector | None = None
    running_var: Vector | None = None
    batches: int | None = None

    @property
    def running(self) -> tuple[Vector, Vector, int]:
        """Mean, variance and count of a layer that has running statistics."""
        return cast(tuple[Vector, Vector, int], self[2:])


def fields_of(
    shape: tuple[int, ...], parameters: Iterable[str], running: bool
) -> dict[str, tuple[int, ...]]:
    """Tell which fields of `LayerState` a layer has.

    Parameters
    ----------
    shape : tuple
        Of its parameters and statistics.
    parameters : iterable of str
        The names of its parameters.
    running : bool
        Whether it has running statistics.

    Returns
    -------
    dict
        The shape of each field.

    Examples
    --------
    >>> fields_of((3,), ["gamma"], False)
    {'gamma': (3,)}
    """
    statistics = ("running_mean", "running_var") if running else ()
    fields: dict[str, tuple[int, ...]] = dict.fromkeys((*parameters, *statistics), shape)
    return fields | ({"batches": ()} if running else {})


@dataclass(frozen=True)
class Convention:
    """One framework's names, in the order of `LayerState`, and defaults."""

    names: tuple[str, ...]
    settings: Mapping[str, Any]
    count_needed: bool = False
    exact: bool = False  # keep running statistics in float64 rather than in the layer's dtype


CONVENTIONS: Mapping[str, Convention] = {
    "bnpp": Convention(
        ("gamma", "beta", "running_mean", "running_var", "count"),
        {"eps": 1e-5, "momentum": 0.1, "running_var": "unbiased", "axis": 1},
        count_needed=True,
        exact=True,
    ),
    # torch.nn.BatchNorm*d; files from before num_batches_tracked are read too.
    "torch": Convention(
        ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
        {"eps": 1e-5, "momentum": 0.1, "running_var": "unbiased", "axis": 1},
    ),
    # keras.layers.BatchNormalization; its `momentum` weighs the old value.
    "keras": Convention(
        ("gamma", "beta", "moving_mean", "moving_variance"),
        {"eps": 1e-3, "decay": 0.99, "running_var": "biased", "axis": -1},
    ),
    # The ONNX operator BatchNormalization; its `momentum` weighs the old value.
    "onnx": Convention(
        ("scale", "B", "input_mean", "input_var"),
        {"eps": 1e-5, "decay": 0.9, "running_var": "biased", "axis": 1},
    ),
}


def convention(name: object, where: str) -> Convention:
    """Look a convention up.

    Parameters
    ----------
    name : str
        One of ``"bnpp"``, ``"torch"``, ``"keras"``, ``"onnx"``.
    where : str
        The caller, for the message.

    Returns
    -------
    Convention

    Raises
    ------
    ValueError
        For any other name.

    Examples
    --------
    >>> convention("keras", "BatchNorm.like").names
    ('gamma', 'beta', 'moving_mean', 'moving_variance')
    """
    found = CONVENTIONS.get(name) if isinstance(name, str) else None
    if found is None:
        known = ", ".join(map(repr, CONVENTIONS))
        raise ValueError(f"{where}: convention is {name!r}, but one of {known} is needed")
    return found


def to_dict(
    state: LayerState, name: str, dtype: np.dtype[Any], layer: str = "BatchNorm"
) -> dict[str, NDArray[Any]]:
    """Write a layer's state under a convention's names.

    Parameters
    ----------
    state : LayerState
        The state; it is copied.
    name : str
        The convention.
    dtype : numpy.dtype
        The layer's dtype, in which other frameworks keep running statistics too.
    layer : str
        The layer's class, for the message.

    Returns
    -------
    dict of numpy.ndarray
        Without what the layer does not have, and the count where the convention has none.

    Examples
    --------
    >>> state = LayerState(None, None, np.zeros(2), np.ones(2), 7)
    >>> to_dict(state, "onnx", np.dtype(np.float32))
    {'input_mean': array([0., 0.], dtype=float32), 'input_var': array([1., 1.], dtype=float32)}
    """
    chosen = convention(name, f"{layer}.state_dict")
    result: dict[str, NDArray[Any]] = {}
    for field, key in zip(LayerState._fields, chosen.names, strict=False):
        value = getattr(state, field)
        if value is None:
            continue
        if field == "batches":
            result[key] = np.array(value, np.int64)
        else:
            running = field.startswith("running")
            result[key] = np.array(value, dtype if running and not chosen.exact else None)
    return result


def from_dict(
    values: Mapping[str, object],
    name: str | None,
    fields: Mapping[str, tuple[int, ...]],
    dtype: np.dtype[Any],
    layer: str = "BatchNorm",
) -> LayerState:
    """Check a state of any convention completely and copy it.

    Parameters
    ----------
    values : mapping
        The values by name: anything that can be read as an array of floats.
    name : str or None
        The convention; None recognises it by the names.
    fields : mapping
        What the layer has, from `fields_of`; other names are not allowed.
    dtype : numpy.dtype
        The dtype for gamma and beta.
    layer : str
        The layer's class, for the message.

    Returns
    -------
    LayerState
        New arrays; a count of 0 where the convention or an old file has none.

    Raises
    ------
    TypeError, ValueError
        For missing and unexpected names, wrong shapes and dtypes, a negative variance or count.

    Examples
    --------
    >>> values = {"input_mean": [0.5], "input_var": [-1.0]}
    >>> from_dict(values, None, fields_of((1,), [], True), np.dtype(np.float32))
    Traceback (most recent call last):
    ValueError: BatchNorm.load_state_dict: input_var is -1 in channel 0, but at least 0 is needed
    """
    where = f"{layer}.load_state_dict"
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{where}: state is a {type(values).__name__}, but a mapping of names to arrays is needed"
        )
    chosen = _recognise(values, fields, where) if name is None else convention(name, where)
    keys = dict(zip(LayerState._fields, chosen.names, strict=False))
    _check_names(values, keys, chosen, fields, where)

    found: dict[str, Any] = {"gamma": None, "beta": None}
    if "batches" in fields:
        found["batches"] = 0
    for field, key in keys.items():
        if key not in values:
            continue
        if field == "batches":
            found[field] = _count(values[key], key, where)
        else:
            target = np.dtype(np.float64) if field.startswith("running") else dtype
            found[field] = _vector(values[key], key, fields[field], target, where)
    if "running_var" in found and (found["running_var"] < 0).any():
        channel = int(np.argmax(found["running_var"] < 0))
        raise ValueError(
            f"{where}: {keys['running_var']} is {found['running_var'][channel]:g} in channel "
            f"{channel}, but at least 0 is needed"
        )
    return LayerState(**found)


def _recognise(
    values: Mapping[str, object], fields: Mapping[str, tuple[int, ...]], where: str
) -> Convention:
    """Take the convention that knows all names, before all one that misses none of its statistics."""
    known = [c for c in CONVENTIONS.values() if values.keys() <= set(c.names)]
    if not known:
        families = "; ".join(f"{name}: {', '.join(c.names)}" for name, c in CONVENTIONS.items())
        raise ValueError(
            f"{where}: state has the names {_listed(values)}, "
            f"but all those of one convention are needed ({families})"
        )
    telling = [field for field in fields if field not in _PARAMETERS] or list(fields)
    return next((c for c in known if values.keys() >= _needed(c, telling)), known[0])


_PARAMETERS = ("gamma", "beta")


def _needed(chosen: Convention, fields: Iterable[str]) -> set[str]:
    keys = dict(zip(LayerState._fields, chosen.names, strict=False))
    return {keys[f] for f in fields if f != "batches" or chosen.count_needed}


def _check_names(
    values: Mapping[str, object],
    keys: Mapping[str, str],
    chosen: Convention,
    fields: Mapping[str, tuple[int, ...]],
    where: str,
) -> None:
    if missing := _needed(chosen, fields) - values.keys():
        raise ValueError(
            f"{where}: state has {_listed(values)}, but {_listed(missing)} is needed too"
        )
    allowed = {key for field, key in keys.items() if field in fields}
    if extra := values.keys() - allowed:
        raise ValueError(
            f"{where}: state has {_listed(extra)}, but only {_listed(allowed)} can be taken"
        )


def _listed(names: Iterable[object]) -> str:
    return ", ".join(sorted(map(repr, names))) or "nothing"


def _vector(
    value: object, key: str, shape: tuple[int, ...], dtype: np.dtype[Any], where: str
) -> NDArray[Any]:
    array = as_array(value, key, where)
    if array.shape != shape:
        raise ValueError(f"{where}: {key} has shape {array.shape}, but {shape} is needed")
    return array.astype(dtype, order="C", copy=True)


def _count(value: object, key: str, where: str) -> int:
    number = np.asarray(value)
    if number.shape != () or number.dtype.kind not in "iu" or number < 0:
        raise ValueError(f"{where}: {key} is {value!r}, but one integer of at least 0 is needed")
    return int(number)
