"""Mergeable statistics: count, mean and M2 (the sum of squared deviations) of each channel.

With weights these are sums of weights and of weighted terms, and the sum of the squared weights comes
along, by which a weighted variance is unbiased.

Merging follows Chan, Golub & LeVeque (1979), with mean and M2 kept as unevaluated sums of two float64:
the moments of parts, merged in any order, are the moments of the whole. A `Moments` keeps its six
arrays, never written to again, in one tuple, so that an update happens entirely or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnpp import _core
from bnpp._arrays import Input

Vector: TypeAlias = NDArray[np.float64]
#: count, mean, mean_low, m2, m2_low, squared_weights: float64, C-contiguous, shape (C,).
Parts: TypeAlias = tuple[Vector, Vector, Vector, Vector, Vector, Vector]


class Moments:
    """Count, mean and M2 of each channel, in float64.

    Made by `moments`, or from numbers known otherwise.

    Parameters
    ----------
    count : float or array_like, shape (C,)
        Values in each channel, or the sum of their weights; at least 0. One number stands for all
        channels.
    mean : array_like, shape (C,)
        Their mean.
    m2 : array_like, shape (C,)
        The sum of the squares of their deviations from the mean, weighted if they have weights; at
        least 0.
    squared_weights : float or array_like, shape (C,), optional
        The sum of the squares of the weights, at least 0; `count` where not given, as without weights.

    Raises
    ------
    ValueError
        For wrong shapes and for a negative count, M2 or sum of squares.

    Notes
    -----
    Merging a and b, with ``d = mean_b - mean_a`` and ``n = n_a + n_b``, gives
    ``mean = mean_a + d * n_b / n`` and ``m2 = m2_a + m2_b + d**2 * n_a * n_b / n``
    (Chan, Golub & LeVeque 1979); counts and squared weights add up. Objects pickle, and all arrays they show are read-only.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.arange(12.0).reshape(6, 2)
    >>> whole = bnpp.moments(x)
    >>> whole
    Moments(channels=2, count=6, mean=[5. 6.], m2=[70. 70.])
    >>> bnpp.moments(x[:2]) + bnpp.moments(x[2:])
    Moments(channels=2, count=6, mean=[5. 6.], m2=[70. 70.])
    >>> whole.var()
    array([11.66666667, 11.66666667])
    """

    __slots__ = ("_parts",)

    _parts: Parts

    def __init__(
        self,
        count: ArrayLike,
        mean: ArrayLike,
        m2: ArrayLike,
        squared_weights: ArrayLike | None = None,
    ) -> None:
        mean, m2 = np.array(mean, np.float64, order="C"), np.array(m2, np.float64, order="C")
        count = np.array(count, np.float64, order="C")
        if mean.ndim != 1 or m2.shape != mean.shape or count.shape not in ((), mean.shape):
            raise ValueError(
                f"Moments: count, mean and m2 have shapes {count.shape}, {mean.shape} and {m2.shape}, "
                "but one value a channel is needed in each"
            )
        squares = count if squared_weights is None else np.array(squared_weights, np.float64)
        if squares.shape not in ((), mean.shape):
            raise ValueError(
                f"Moments: squared_weights has shape {squares.shape}, but one value a channel is "
                f"needed, {len(mean)} in all"
            )
        for name, values in (("count", count), ("m2", m2), ("squared_weights", squares)):
            if (values < 0).any():
                raise ValueError(
                    f"Moments: {name} is {values.min():g} somewhere, but at least 0 is needed"
                )
        self._parts = _read_only(
            np.full_like(mean, count),
            mean,
            np.zeros_like(mean),
            m2,
            np.zeros_like(m2),
            np.full_like(mean, squares),
        )

    @classmethod
    def empty(cls, channels: int) -> Moments:
        """Make the moments of no values, the neutral element of `merge`.

        Parameters
        ----------
        channels : int
            Number of channels, C.

        Returns
        -------
        Moments
            Count, mean and M2 are 0.

        Examples
        --------
        >>> import bnpp
        >>> stream = bnpp.Moments.empty(2)
        >>> for batch in ([[1.0, 2.0]], [[3.0, 4.0]]):
        ...     stream = stream.update(batch)
        >>> stream.mean
        array([2., 3.])
        """
        return cls(0.0, np.zeros(channels), np.zeros(channels))

    @classmethod
    def _from_parts(cls, parts: Sequence[Vector]) -> Moments:
        self = object.__new__(cls)
        # Pickles from before there were weights have no sum of squares: it is the count.
        squares = () if len(parts) == 6 else (parts[0].copy(),)
        self._parts = _read_only(*parts, *squares)
        return self

    @property
    def channels(self) -> int:
        """Number of channels, C."""
        return len(self._parts[0])

    @property
    def count(self) -> Vector:
        """Values in each channel, or the sum of their weights W; float64, shape (C,)."""
        return self._parts[0]

    @property
    def squared_weights(self) -> Vector:
        """Sum of the squares of the weights; float64, shape (C,). The count where there are none."""
        return self._parts[5]

    @property
    def mean(self) -> Vector:
        """Mean of each channel; float64, shape (C,). 0 where there are no values."""
        return self._parts[1]

    @property
    def m2(self) -> Vector:
        """Sum of squared deviations from the mean of each channel; float64, shape (C,)."""
        return self._parts[3]

    # What rounding took from mean and m2: mean + _mean_low is the mean to about twice the digits.
    @property
    def _mean_low(self) -> Vector:
        return self._parts[2]

    @property
    def _m2_low(self) -> Vector:
        return self._parts[4]

    def var(self, unbiased: bool = False) -> Vector:
        """Return the variance of each channel.

        Parameters
        ----------
        unbiased : bool
            Divide M2 by ``count - squared_weights / count`` rather than by ``count``. That is
            ``count - 1`` without weights and with weights of 0 and 1, and for any others what corrects
            weights of reliability, as ``np.cov(x, aweights=weights)`` does.

        Returns
        -------
        numpy.ndarray, shape (C,)
            float64; NaN where there are no values (with weight), or with `unbiased` fewer than two.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.moments([[1.0], [3.0]]).var(), bnpp.moments([[1.0], [3.0]]).var(unbiased=True)
        (array([1.]), array([2.]))
        """
        divisor = unbiased_divisor(self.count, self.squared_weights) if unbiased else self.count
        return np.divide(self.m2, divisor, out=np.full_like(self.m2, np.nan), where=divisor > 0)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of the values of both; neither changes.

        Parameters
        ----------
        other : Moments
            Of as many channels.

        Returns
        -------
        Moments
            The same for any order of merging to the last place of float64, and bit for bit in a fixed
            order.

        Raises
        ------
        TypeError
            If `other` is no `Moments`.
        ValueError
            If it has another number of channels.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.Moments(2, [1.0], [2.0]).merge(bnpp.Moments(2, [5.0], [2.0]))
        Moments(channels=1, count=4, mean=[3.], m2=[20.])
        """
        if not isinstance(other, Moments):
            raise TypeError(
                f"Moments.merge: other is a {type(other).__name__}, but a Moments is needed"
            )
        return Moments._from_parts(self._merged(other._parts, "Moments.merge: other"))

    def update(self, x: Input, *, axis: int = 1, weights: Input | None = None) -> Moments:
        """Take in the values of `x`, in place.

        Parameters
        ----------
        x : array_like, 2 to 8 dimensions
            A dtype `batch_norm` takes, with as many channels along `axis`.
        axis : int
            The channels' axis.
        weights : array_like, optional
            As in `moments`.

        Returns
        -------
        Moments
            This object, which is unchanged if the call raises.

        Raises
        ------
        TypeError, ValueError
            As `moments`, and for another number of channels.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.moments([[1.0, 2.0]]).update([[3.0, 6.0]])
        Moments(channels=2, count=2, mean=[2. 4.], m2=[2. 8.])
        """
        parts = _core.moments(x, axis, weights)
        self._parts = _read_only(*self._merged(parts, "Moments.update: x"))
        return self

    def _merged(self, parts: Parts, what: str) -> Parts:
        if len(parts[0]) != self.channels:
            raise ValueError(
                f"{what} has {len(parts[0])} channels, but the moments have {self.channels}"
            )
        return _core.merge_moments(self._parts, parts)

    def __add__(self, other: object) -> Moments:
        return self.merge(other) if isinstance(other, Moments) else NotImplemented

    def __radd__(self, other: object) -> Moments:
        # sum() begins with 0. The result is a new object because update() works in place.
        if isinstance(other, int) and other == 0:
            return Moments._from_parts(self._parts)
        return NotImplemented

    def __reduce__(self) -> tuple[object, ...]:
        return Moments._from_parts, (self._parts,)

    def __repr__(self) -> str:
        count = self.count
        same = self.channels > 0 and bool((count == count[0]).all())
        text = f"{count[0]:.17g}" if same else _short(count)
        return (
            f"Moments(channels={self.channels}, count={text}, "
            f"mean={_short(self.mean)}, m2={_short(self.m2)})"
        )


def moments(x: Input, *, axis: int = 1, weights: Input | None = None) -> Moments:
    """Compute count, mean and M2 of each channel.

    With weights w: ``count = sum(w)``, ``mean = sum(w * x) / count``, ``m2 = sum(w * (x - mean)**2)``.

    Parameters
    ----------
    x : array_like, 2 to 8 dimensions
        A dtype `batch_norm` takes, any strides; C channels along `axis`, reduced over all other axes (Ioffe &
        Szegedy 2015, section 3.2).
    axis : int
        The channels' axis; negative ones count from the end.
    weights : array_like, optional
        How much each value counts: a mask of 0 and 1, or numbers of at least 0, of any real dtype and a
        shape that broadcasts to that of `x`. Read in float64 for float64 `x`, else in float32. Where
        they are 0, `x` may be anything, NaN too.

    Returns
    -------
    Moments
        In float64, right at any mean; merges with those of other batches or machines.

    Raises
    ------
    TypeError
        For a dtype that bnpp does not take, and for masked and object arrays.
    ValueError
        For a wrong number of dimensions, an axis out of range, and weights that do not broadcast, are
        negative or not finite.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.float32(1e6) + np.array([[0, 1], [2, 3]], np.float32)
    >>> bnpp.moments(x).var()
    array([1., 1.])
    >>> sum(bnpp.moments(batch) for batch in np.arange(24.0).reshape(3, 4, 2))
    Moments(channels=2, count=12, mean=[11. 12.], m2=[572. 572.])
    >>> bnpp.moments([[1.0, 2.0], [3.0, np.nan]], weights=[[2, 1], [1, 0]]).mean
    array([1.66666667, 2.        ])
    """
    return Moments._from_parts(_core.moments(x, axis, weights))


def unbiased_divisor(count: Vector, squared_weights: Vector) -> Vector:
    """Return ``count - squared_weights / count``, and 0 where fewer than two values have weight.

    Parameters
    ----------
    count, squared_weights : numpy.ndarray, shape (C,)
        Sums of weights and of their squares; both the number of values where there are no weights.

    Returns
    -------
    numpy.ndarray, shape (C,)
        What M2 is divided by for an unbiased variance.

    Examples
    --------
    >>> import numpy as np
    >>> unbiased_divisor(np.array([4.0, 0.5, 0.0]), np.array([4.0, 0.25, 0.0]))
    array([3., 0., 0.])
    """
    # One value's weight is exactly the root of its square; count - squared_weights / count is not.
    several = squared_weights < count * count
    share = np.divide(squared_weights, count, out=np.zeros_like(count), where=several)
    return np.where(several, count - share, 0.0)


def _read_only(
    count: Vector,
    mean: Vector,
    mean_low: Vector,
    m2: Vector,
    m2_low: Vector,
    squared_weights: Vector,
) -> Parts:
    parts = (count, mean, mean_low, m2, m2_low, squared_weights)
    for array in parts:
        array.flags.writeable = False
    return parts


def _short(values: Vector) -> str:
    return np.array2string(values, max_line_width=10**6, precision=6, threshold=8, edgeitems=3)
