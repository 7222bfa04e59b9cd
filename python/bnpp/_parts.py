"""Batch norm of parts: views of x along one axis, each with its own statistics, sharing gamma and beta.

Sub-batches (`ghost_batch_norm`) and steps (`step_batch_norm`) are two ways to cut x. A part is normalized
in place of the whole tensor's part, without a copy; gradients of gamma and beta are added up over the parts
in float64, in a fixed tree, and rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, Literal, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bnpp import _core
from bnpp._arrays import Array, Input, as_array
from bnpp._batch_norm import (
    Activation,
    FrozenGradients,
    FrozenResidualGradients,
    Gradients,
    ResidualGradients,
    batch_norm,
    batch_norm_inference,
)
from bnpp._moments import Parts, Vector
from bnpp._settings import Settings

#: Where a part lies: one slice an axis.
Index: TypeAlias = tuple[slice, ...]
#: A mean and a variance for every part.
Statistics: TypeAlias = Sequence[tuple[Vector, Vector]]
AnyGradients: TypeAlias = Gradients | ResidualGradients | FrozenGradients | FrozenResidualGradients


class Cut(NamedTuple):
    """How x is cut: pieces of `size` along `axis`, the last one may be smaller."""

    axis: int
    size: int
    what: str  # what a part is called in an error

    def of(self, x: Array) -> list[Index]:
        """Return the parts of x, of which there is one even if it is empty."""
        before = (slice(None),) * self.axis
        starts = range(0, max(x.shape[self.axis], 1), self.size)
        return [(*before, slice(start, start + self.size)) for start in starts]


class SavedParts:
    """What a forward over parts leaves for its backward.

    Attributes
    ----------
    parts : tuple of Saved
        What each part's forward left, in their order along the axis that was cut.
    mean, var, inv_std : numpy.ndarray, shape (P, C)
        The statistics of each of the P parts.
    count : int
        Values a channel in all parts together.

    Notes
    -----
    Made by `ghost_batch_norm` and `step_batch_norm`. It refers to x without a copy, as `Saved` does.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> y, saved = bnpp.ghost_batch_norm(np.array([[1.0], [3.0], [10.0], [30.0]]), size=2)
    >>> saved, saved.var.ravel()
    (SavedParts(shape=(4, 1), parts=2, count=4), array([  1., 100.]))
    """

    __slots__ = ("_count", "_cut", "_relu", "_residual", "_x", "parts", "shape")

    def __init__(
        self, x: Array, cut: Cut, parts: Sequence[_core.Saved], residual: bool, relu: bool
    ) -> None:
        self.parts = tuple(parts)
        self.shape = x.shape
        self._cut = cut
        self._x = x
        self._residual = residual
        self._relu = relu
        self._count = sum(part.count for part in self.parts)

    @property
    def mean(self) -> Array:
        """Mean of each part and channel; shape (P, C), in the statistics dtype."""
        return np.stack([part.mean for part in self.parts])

    @property
    def var(self) -> Array:
        """Biased variance of each part and channel; shape (P, C), in the statistics dtype."""
        return np.stack([part.var for part in self.parts])

    @property
    def inv_std(self) -> Array:
        """1 / sqrt(var + eps) of each part and channel; shape (P, C), in the statistics dtype."""
        return np.stack([part.inv_std for part in self.parts])

    @property
    def count(self) -> int:
        """Values a channel in all parts together."""
        return self._count

    @property
    def weight(self) -> Vector | None:
        """Sum of the weights of each channel in all parts; float64, None without weights."""
        return None if self.parts[0].weight is None else self._moments()[0]

    @property
    def frozen(self) -> bool:
        """Whether the statistics were given: constants of the backward."""
        return self.parts[0].frozen

    @property
    def reason(self) -> str | None:
        """Why it cannot serve a backward, or None."""
        return self.parts[0].reason

    @property
    def nbytes(self) -> int:
        """Bytes it holds itself; x is only referred to."""
        return sum(part.nbytes for part in self.parts)

    def _moments(self) -> Parts:
        """Return the merged moments of all parts."""
        return reduce(_core.merge_moments, [part._moments() for part in self.parts])

    def __repr__(self) -> str:
        return f"SavedParts(shape={self.shape}, parts={len(self.parts)}, count={self.count})"


@contextmanager
def speaking_as(function: str) -> Iterator[None]:
    """Name `function` in the errors of the batch norm functions it is made of."""
    try:
        yield
    except (TypeError, ValueError) as error:
        name, _, text = str(error).partition(": ")
        raise type(error)(f"{function}: {text or name}") from None


def axis_of(function: str, name: str, axis: SupportsIndex, x: Array) -> int:
    """Return an axis of x counted from 0."""
    value = Settings(function).integer(name, axis)
    if x.ndim < 2:
        raise ValueError(f"{function}: x has shape {x.shape}, but 2 to 8 dimensions are needed")
    if not -x.ndim <= value < x.ndim:
        raise ValueError(
            f"{function}: {name} is {value}, but x has {x.ndim} dimensions: "
            f"it needs to be from {-x.ndim} to {x.ndim - 1}"
        )
    return value % x.ndim


def forward(
    function: str,
    x: Array,
    gamma: Input | None,
    beta: Input | None,
    cut: Cut,
    axis: int,
    eps: float,
    residual: Input | None,
    activation: Activation,
    on_single: Literal["error", "biased"],
    out: Array | None,
    given: Statistics | None = None,
    weights: Input | None = None,
) -> tuple[Array, SavedParts]:
    """Normalize each part by its own (weighted) statistics, or by the ones given for it."""
    residual = None if residual is None else as_array(residual, "residual", function)
    gamma = None if gamma is None else as_array(gamma, "gamma", function)
    beta = None if beta is None else as_array(beta, "beta", function)
    parts = cut.of(x)
    inputs: list[tuple[str, object, bool]] = [("x", x, True), ("residual", residual, True)]
    inputs += [("gamma", gamma, False), ("beta", beta, False)]
    y = _core.whole_output(function, out, x, inputs)
    shares = None if weights is None else _aligned(function, weights, x)
    if on_single == "error" and given is None and shares is None:
        _refuse_single(function, x, parts, cut, axis)
    saved: list[_core.Saved] = []
    with speaking_as(function):
        for i, part in enumerate(parts):
            more: dict[str, Any] = {"axis": axis, "eps": eps, "activation": activation}
            more |= {"residual": None if residual is None else residual[part], "out": y[part]}
            if given is None:
                if shares is not None:
                    more["weights"] = _share(shares, part)
                saved.append(batch_norm(x[part], gamma, beta, on_single=on_single, **more)[1])
            else:
                saved.append(
                    batch_norm_inference(x[part], gamma, beta, *given[i], save=True, **more)[1]
                )
    return y, SavedParts(x, cut, saved, residual is not None, activation == "relu")


def backward(
    function: str, dy: Input, saved: SavedParts, out: Array | None, made_by: str
) -> AnyGradients:
    """Go back through `forward`."""
    if not isinstance(saved, SavedParts):
        raise TypeError(
            f"{function}: saved is of type {type(saved).__name__}, "
            f"but it needs to be what {made_by} returned"
        )
    if saved.reason is not None:
        raise ValueError(f"{function}: {saved.reason}")
    dy, x = as_array(dy, "dy", function), saved._x
    dx = _core.whole_output(function, out, x, [("dy", dy, True), ("saved's x", x, False)])
    written = dresidual = None
    if saved._residual and saved._relu:
        written = dresidual = _core.whole_output(function, None, x, [])
    elif saved._residual:
        # As in batch_norm_backward: dy itself, unless dx is about to be written there.
        dresidual = dy if out is None else dy.copy(order="K")
    sums = []
    with speaking_as(function):
        for part, one in zip(saved._cut.of(x), saved.parts, strict=True):
            to = None if written is None else written[part]
            sums.append(_core.part_backward(dy[part], one, dx[part], to))
    dtype = saved.parts[0].mean.dtype
    dgamma, dbeta, *statistics = (np.stack(rows) for rows in zip(*sums, strict=True))
    vectors = [_rounded(_sum(dgamma), dtype), _rounded(_sum(dbeta), dtype)]
    vectors += [_rounded(rows, dtype) for rows in statistics]
    ends = [] if dresidual is None else [dresidual]
    kinds: dict[tuple[bool, bool], Any] = {
        (False, False): Gradients,
        (False, True): ResidualGradients,
        (True, False): FrozenGradients,
        (True, True): FrozenResidualGradients,
    }
    gradients: AnyGradients = kinds[saved.frozen, bool(ends)](dx, *vectors, *ends)
    return gradients


def _aligned(function: str, weights: Input, x: Array) -> NDArray[Any]:
    """Return weights with as many dimensions as x: not broadcast, which would be a copy later."""
    array = np.asarray(weights)
    aligned = array.reshape((1,) * (x.ndim - array.ndim) + array.shape)
    if any(n not in (1, m) for n, m in zip(aligned.shape, x.shape, strict=False)) or (
        aligned.ndim != x.ndim
    ):
        raise ValueError(
            f"{function}: weights has shape {array.shape}, but it needs to broadcast to x's {x.shape}"
        )
    return aligned


def _share(weights: NDArray[Any], part: Index) -> NDArray[Any]:
    """Return the weights of a part."""
    return weights[
        tuple(s if n > 1 else slice(None) for s, n in zip(part, weights.shape, strict=False))
    ]


def _refuse_single(function: str, x: Array, parts: list[Index], cut: Cut, axis: int) -> None:
    """Refuse a part with one value a channel before any part is computed."""
    for i, part in enumerate(parts):
        if x[part].size == x.shape[axis] > 0:
            raise ValueError(
                f"{function}: {cut.what} {i} has one value a channel (shape {x[part].shape}, "
                f'axis {axis}), but training needs two or more, or on_single="biased"'
            )


def _sum(rows: NDArray[np.float64]) -> Vector:
    """Add up rows in a fixed tree: the same bits on any machine, and short sums."""
    with np.errstate(all="ignore"):
        while len(rows) > 1:
            pairs = len(rows) // 2 * 2
            rows = np.concatenate([rows[0:pairs:2] + rows[1:pairs:2], rows[pairs:]])
    total: Vector = rows[0]
    return total


def _rounded(values: NDArray[np.float64], dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return values.astype(dtype)
