"""The linear map that is moved through a graph: y = scale * x + shift, element by element.

A batch norm is one value a channel, but a constant of an ``Add`` may have any shape that broadcasts, and
behind a ``Flatten`` a channel is a run of columns. So the map is kept as arrays of the tensor's rank, in
float64, with length 1 along every axis on which it does not depend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import bnpp

Float64: TypeAlias = NDArray[np.float64]
#: The length of an axis: a number, the name of a symbol, or unknown.
Dim: TypeAlias = int | str | None


class Stays(Exception):
    """Why a batch norm cannot be folded where it was tried."""


@dataclass(frozen=True)
class Field:
    """``y = scale * x + shift`` for a tensor of a known rank.

    Attributes
    ----------
    scale, shift : numpy.ndarray
        float64, of the tensor's rank, of length 1 along the axes on which they do not depend.
    size : numpy.ndarray
        The sum of the magnitudes of the terms that were added up to `shift`: what bounds its rounding.
    """

    scale: Float64
    shift: Float64
    size: Float64

    @classmethod
    def of(cls, scale: Float64, shift: Float64, size: Float64 | None = None) -> Field:
        """Make a map whose `size` is that of its `shift`, where not given, without equal values."""
        return cls(scale, shift, np.abs(shift) if size is None else size).collapsed()

    @classmethod
    def identity(cls, rank: int) -> Field:
        """Return the map that changes nothing."""
        one = np.ones((1,) * rank)
        return cls(one, 0 * one, 0 * one)

    @property
    def rank(self) -> int:
        """The rank of the tensors it acts on."""
        return self.scale.ndim

    @property
    def lengths(self) -> tuple[int, ...]:
        """The length of each axis, 1 where the map does not depend on it."""
        shapes = zip(self.scale.shape, self.shift.shape, self.size.shape, strict=True)
        return tuple(max(lengths) for lengths in shapes)

    def varies(self) -> list[int]:
        """Return the axes the map depends on."""
        return [axis for axis, length in enumerate(self.lengths) if length != 1]

    def after(self, first: Field) -> Field:
        """Return the map that applies `first` and then this one."""
        return Field(
            self.scale * first.scale,
            self.scale * first.shift + self.shift,
            np.abs(self.scale) * first.size + self.size,
        )

    def each(self, change: Callable[[Float64], Float64]) -> Field:
        """Return the map with its three arrays rearranged alike."""
        return Field(change(self.scale), change(self.shift), change(self.size)).collapsed()

    def collapsed(self) -> Field:
        """Return the same map, of length 1 along the axes along which its values are equal."""
        scale, shift, size = self.scale, self.shift, self.size
        for axis in self.varies():
            pair = [collapse(scale, axis), collapse(shift, axis)]
            if all(part is not None for part in pair):
                scale, shift = pair  # type: ignore[assignment]  # neither is None here
                size = size.max(axis=axis, keepdims=True)
        return Field(scale, shift, size)

    def regrouped(self, before: Sequence[Dim], after: Sequence[Dim], groups: Groups) -> Field:
        """Return the map behind a reshape from the lengths `before` to the lengths `after`.

        Raises
        ------
        Stays
            Where the map depends on axes of which a length is not known.
        """
        varying = self.varies()
        full: list[int] = []
        target: list[int] = []
        for old, new in groups:
            if any(axis in varying for axis in old):
                full += known([before[axis] for axis in old])
                target += known([after[axis] for axis in new])
            else:
                full += [1] * len(old)
                target += [1] * len(new)
        return self.each(lambda part: np.broadcast_to(part, full).reshape(target))

    def along(self, axis: int, channels: int) -> bnpp.Affine:
        """Return the map of the channels along one axis.

        Raises
        ------
        Stays
            Where it depends on another axis too.
        """
        others = [a for a in self.varies() if a != axis]
        if others:
            raise Stays(
                f"it would act along axis {others[0]}, but only axis {axis} holds the channels"
            )
        return bnpp.Affine(_vector(self.scale, channels), _vector(self.shift, channels))

    def shifts(self) -> bool:
        """Tell whether anything is added."""
        return bool(self.shift.any())

    def negative(self) -> int:
        """Return how many of its scales are below 0."""
        return int((self.scale < 0).sum())


#: Pairs of axes before and after a reshape that hold the same elements.
Groups: TypeAlias = list[tuple[list[int], list[int]]]


def collapse(array: Float64, axis: int) -> Float64 | None:
    """Return the array at length 1 along an axis if its values are equal there, else None."""
    first = array.take([0], axis)
    return first if np.array_equal(np.broadcast_to(first, array.shape), array) else None


def known(lengths: Sequence[Dim]) -> list[int]:
    """Return the lengths if all are numbers.

    Raises
    ------
    Stays
        Otherwise.
    """
    numbers = [n for n in lengths if isinstance(n, int)]
    if len(numbers) != len(lengths):
        raise Stays("a length of the reshape is not known before the model runs")
    return numbers


def match(before: Sequence[Dim], after: Sequence[Dim]) -> Groups:
    """Split a reshape into the smallest groups of axes that hold the same elements.

    The axes in front that are equal stand alone; from the back on, groups close where the products of
    their lengths agree. What is left in the middle is one group.

    Examples
    --------
    >>> match(["N", 8, 4, 4], ["N", 128])
    [([0], [0]), ([1, 2, 3], [1])]
    >>> match([None, 8, 4, 4], [None, 2, 4, 16])
    [([0], [0]), ([1], [1, 2]), ([2, 3], [3])]
    """
    front: Groups = []
    for axis, (a, b) in enumerate(zip(before, after, strict=False)):
        if a is None or a != b:
            break
        front.append(([axis], [axis]))
    low = len(front)
    back: Groups = []
    i, j = len(before), len(after)
    while i > low and j > low:
        group = _last_group(before[low:i], after[low:j])
        if group is None:
            break
        taken_i, taken_j = group
        back.append((list(range(i - taken_i, i)), list(range(j - taken_j, j))))
        i, j = i - taken_i, j - taken_j
    middle: Groups = [(list(range(low, i)), list(range(low, j)))] if i > low or j > low else []
    return front + middle + back[::-1]


def _last_group(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[int, int] | None:
    i = j = 1
    while i <= len(before) and j <= len(after):
        a, b = before[-i:], after[-j:]
        if not all(isinstance(n, int) for n in (*a, *b)):
            return None
        left, right = math.prod(known(a)), math.prod(known(b))
        if left == right:
            return i, j
        if left < right:
            i += 1
        else:
            j += 1
    return None


def _vector(part: Float64, channels: int) -> Float64:
    flat = part.ravel()
    if flat.size not in (1, channels):
        raise Stays(f"it has {flat.size} values, but the layer has {channels} channels")
    return np.broadcast_to(flat, channels).copy()
