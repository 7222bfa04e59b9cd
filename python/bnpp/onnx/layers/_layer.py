"""What a layer that takes batch norms in has in common: the fold is computed in float64 and rounded once.

A layer collects the map ahead of it and the map behind it. Each time one is added, the result is computed
anew from the original weights, so that nothing is rounded twice however many batch norms end there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from bnpp.onnx import _constants
from bnpp.onnx._field import Field, Float64, Stays
from bnpp.onnx._graph import Graph
from bnpp.onnx._proto import label


@dataclass(frozen=True)
class Exact:
    """A folded layer before rounding.

    Attributes
    ----------
    weight : numpy.ndarray
        float64, in the layout of the node.
    bias : numpy.ndarray
        float64, of the rank of the layer's output.
    size : numpy.ndarray
        The sum of the magnitudes of the terms of `bias`.
    """

    weight: Float64
    bias: Float64
    size: Float64


@dataclass(frozen=True)
class Folded:
    """A folded layer as it will be written, and what the rounding changed.

    Attributes
    ----------
    weight, bias : numpy.ndarray
        In the dtype of the layer.
    size, weight_rounding, bias_rounding : numpy.ndarray
        float64, for each channel of the output, in a shape that broadcasts to it: the size of the terms of
        the bias, and how far rounding moved a channel's weights (the sum of magnitudes) and its bias.
    max_weight_change : float
        The largest change of a weight.
    growth : numpy.ndarray, shape (channels,)
        By how much the largest weight of each channel of the output grew.
    range_growth : float
        By how much the largest weight of all grew.
    """

    weight: NDArray[Any]
    bias: NDArray[Any]
    size: Float64
    weight_rounding: Float64
    bias_rounding: Float64
    max_weight_change: float
    growth: Float64
    range_growth: float


class Layer(ABC):
    """A node with constant weights, linear or a batch norm, and the maps that were given to it."""

    #: What the weight is called in messages.
    weight_name: ClassVar[str] = "weight"

    def __init__(self, graph: Graph, node: NodeProto, position: int = 1) -> None:
        self.graph, self.node, self.position = graph, node, position
        self.name = label(node)
        self.before: Field | None = None
        self.after: Field | None = None
        self.folded: Folded | None = None
        value = graph.constant(node.input[position])
        if value is None:
            raise Stays(f"the {self.weight_name} of {self} is not constant")
        if not _constants.is_float(value.dtype):
            raise Stays(f"the {self.weight_name} of {self} is {value.dtype}")
        self.dtype = value.dtype
        self.weight = value.astype(np.float64)
        if not np.isfinite(self.weight).all():
            raise Stays(f"the {self.weight_name} of {self} holds NaN or infinity")

    def __str__(self) -> str:
        return f"{self.node.op_type} {self.name!r}"

    @property
    def data(self) -> str:
        """The value that the layer takes in."""
        return str(self.node.input[0])

    @property
    def output(self) -> str:
        """The value that all of the layer, its bias included, gives."""
        return str(self.node.output[0])

    @property
    @abstractmethod
    def rank(self) -> int:
        """The rank of the output."""

    @abstractmethod
    def exact(self, before: Field, after: Field) -> Exact:
        """Fold the two maps in, in float64.

        Raises
        ------
        Stays
            Where that is not the same function.
        """

    @abstractmethod
    def write(self) -> None:
        """Write the folded layer into the graph."""

    @abstractmethod
    def channels(self, weight: Float64) -> Float64:
        """Arrange weights as (channels of the output, all others)."""

    def bias_size(self) -> Float64:
        """Return the magnitude of the bias of each channel, before anything was folded."""
        return np.zeros((1,) * self.rank)

    def unfold(self, vector: Float64) -> Float64:
        """Give one value for each channel of the output a shape that broadcasts to it."""
        return vector.reshape((1, -1) + (1,) * (self.rank - 2))

    def try_fold(self, side: str, field: Field) -> tuple[Field | None, Field | None, Folded]:
        """Compute what the layer becomes with one more map, without changing anything.

        Raises
        ------
        Stays
            If it cannot take the map.
        """
        before, after = self.before, self.after
        if side == "after":
            after = field if after is None else field.after(after)
        else:
            before = field if before is None else before.after(field)
        rank = field.rank
        exact = self.exact(before or Field.identity(rank), after or Field.identity(self.rank))
        return before, after, self._round(exact)

    def commit(self, tried: tuple[Field | None, Field | None, Folded]) -> None:
        """Keep what was tried."""
        self.before, self.after, self.folded = tried

    def optional(self, node: NodeProto, position: int, what: str) -> Float64 | None:
        """Read an optional constant input.

        Raises
        ------
        Stays
            If it is there and not constant.
        """
        if position >= len(node.input) or not node.input[position]:
            return None
        value = self.graph.constant(node.input[position])
        if value is None:
            raise Stays(f"the {what} of {self} is not constant")
        return value.astype(np.float64)

    def _round(self, exact: Exact) -> Folded:
        weight = rounded(exact.weight, self.dtype, f"the {self.weight_name} of {self}")
        bias = rounded(exact.bias, self.dtype, f"the bias of {self}")
        error = self.channels(np.abs(weight.astype(np.float64) - exact.weight))
        old, new = (np.abs(self.channels(w)) for w in (self.weight, weight.astype(np.float64)))
        old_max, new_max = old.max(axis=1, initial=0), new.max(axis=1, initial=0)
        return Folded(
            weight,
            bias,
            exact.size,
            self.unfold(error.sum(axis=1)),
            np.abs(bias.astype(np.float64) - exact.bias),
            float(np.abs(weight.astype(np.float64) - self.weight).max(initial=0)),
            ratio(new_max, old_max),
            float(ratio(new_max.max(initial=0), old_max.max(initial=0))),
        )


def ratio(new: Any, old: Any) -> Any:
    """Return new / old, 1 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((old == 0) & (new == 0), 1.0, np.asarray(new) / np.asarray(old))


def rounded(exact: Float64, dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    """Round to the layer's dtype.

    Raises
    ------
    Stays
        If a value exceeds its range.
    """
    with np.errstate(over="ignore"):
        result: NDArray[Any] = exact.astype(dtype)
    if not np.isfinite(result.astype(np.float64)).all():
        largest = float(np.abs(exact).max())
        raise Stays(f"{what} would reach {largest:.3g}, beyond the range of {dtype.name}")
    return result
