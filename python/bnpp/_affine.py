"""Batch normalization with given statistics as what it is: one scale and one shift a channel.

An `Affine` holds float64 vectors that are never written to again. Its algebra is that of ``_core``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnpp import _core
from bnpp._arrays import Array, Input

Vector = NDArray[np.float64]


class Affine:
    """The map ``y = x * scale + shift``, one scale and one shift a channel, in float64.

    Made by `affine` from the parameters of a batch normalization, or from the numbers themselves.

    Parameters
    ----------
    scale, shift : array_like, shape (C,)
        Of any dtype that `batch_norm` takes; kept as float64.

    Raises
    ------
    TypeError
        For a dtype that `batch_norm` does not take.
    ValueError
        For wrong shapes.

    Notes
    -----
    Maps compose with ``@``: ``(second @ first)(x)`` is ``second(first(x))``. Objects pickle, and all
    arrays they show are read-only. A map remembers which of its channels came from a variance that was
    0 or denormal, for the `FoldReport`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> double, plus_one = bnpp.Affine([2.0, 2.0], [0.0, 0.0]), bnpp.Affine([1.0, 1.0], [1.0, 1.0])
    >>> double @ plus_one
    Affine(channels=2, scale=[2. 2.], shift=[2. 2.])
    >>> (double @ plus_one)(np.array([[1.0, 10.0]]))
    array([[ 4., 22.]])
    >>> (double @ plus_one).inverse()
    Affine(channels=2, scale=[0.5 0.5], shift=[-1. -1.])
    """

    __slots__ = ("_magnitude", "_map", "_scale", "_shift")

    def __init__(self, scale: Input, shift: Input) -> None:
        self._set(_core.new_affine(scale, shift))

    def _set(self, new: _core.AffineMap) -> None:
        self._map = new
        self._scale, self._shift, self._magnitude = new.scale, new.shift, new.magnitude

    @classmethod
    def _of(cls, new: _core.AffineMap) -> Affine:
        self = object.__new__(cls)
        self._set(new)
        return self

    @classmethod
    def identity(cls, channels: int) -> Affine:
        """Make the map that changes nothing.

        Parameters
        ----------
        channels : int
            Number of channels, C.

        Returns
        -------
        Affine
            Scale 1, shift 0.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.Affine.identity(2)
        Affine(channels=2, scale=[1. 1.], shift=[0. 0.])
        """
        return cls(np.ones(channels), np.zeros(channels))

    @classmethod
    def concat(cls, maps: Iterable[Affine]) -> Affine:
        """Put the channels of several maps one after the other, as a concatenation of tensors does.

        Parameters
        ----------
        maps : iterable of Affine
            In the order of the tensors.

        Returns
        -------
        Affine
            Of as many channels as all of them.

        Raises
        ------
        TypeError
            If one of them is no `Affine`.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.Affine.concat([bnpp.Affine([2.0], [3.0]), bnpp.Affine.identity(1)])
        Affine(channels=2, scale=[2. 1.], shift=[3. 0.])
        """
        parts = [map_of(m, "Affine.concat", f"maps[{i}]") for i, m in enumerate(maps)]
        return cls._of(_core.concat_affine(parts))

    @property
    def channels(self) -> int:
        """Number of channels, C."""
        return len(self._scale)

    @property
    def scale(self) -> Vector:
        """Factor of each channel; float64, shape (C,)."""
        return self._scale

    @property
    def shift(self) -> Vector:
        """What is added to each channel; float64, shape (C,)."""
        return self._shift

    @property
    def magnitude(self) -> Vector:
        """``|beta| + |mean * scale|``, the terms of the shift before they cancelled; at least ``|shift|``.

        It tells how large the numbers are that a runtime adds which does not fold (`FoldReport.bound`).
        """
        return self._magnitude

    def __call__(self, x: Input, *, axis: int = 1, out: Array | None = None) -> Array:
        """Apply the map to `x`, at the speed of `batch_norm_inference`.

        Parameters
        ----------
        x : array_like, 2 to 8 dimensions
            Of any dtype that `batch_norm` takes, any strides; C channels along `axis`.
        axis : int
            The channels' axis; negative ones count from the end.
        out : numpy.ndarray, optional
            Where to put the result: same shape and dtype as `x`. It may be `x` itself.

        Returns
        -------
        numpy.ndarray
            ``x * scale + shift``, computed in float64 and rounded once; same shape, dtype and memory order
            as `x`.

        Raises
        ------
        TypeError, ValueError
            As `batch_norm_inference`.

        Examples
        --------
        >>> import numpy as np, bnpp
        >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
        >>> bnpp.affine(None, None, [2.0, 10.0], [1.0, 100.0], eps=0.0)(x)
        array([[-1.,  0.],
               [ 1.,  2.]])
        """
        return _core.apply_affine(self._map, x, axis, out)

    def __matmul__(self, first: object) -> Affine:
        if not isinstance(first, Affine):
            return NotImplemented
        return Affine._of(_core.compose_affine(self._map, first._map))

    def inverse(self) -> Affine:
        """Return the map that undoes this one: ``scale = 1 / scale``, ``shift = -shift / scale``.

        Returns
        -------
        Affine
            Undoes it up to the rounding of float64.

        Raises
        ------
        ValueError
            Where a scale is 0, or so near that the inverse would not be finite; the channel is named.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.Affine([2.0, 0.0], [1.0, 1.0]).inverse()
        Traceback (most recent call last):
        ValueError: inverse: scale[1] is 0 and shift[1] is 1, so channel 1 has no finite inverse
        """
        return Affine._of(_core.invert_affine(self._map))

    def take(self, indices: ArrayLike) -> Affine:
        """Choose channels: a permutation, a selection, repetitions.

        Parameters
        ----------
        indices : array_like of int, one dimension
            Channel c of the result is channel ``indices[c]`` of this map; from 0 to C - 1.

        Returns
        -------
        Affine
            Of as many channels as there are indices.

        Raises
        ------
        TypeError
            If they are no integers.
        ValueError
            For an index out of range, and for more than one dimension.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.Affine([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]).take([2, 0, 0]).scale
        array([3., 1., 1.])
        """
        chosen = np.asarray(indices)
        if chosen.ndim != 1:
            raise ValueError(f"take: indices has {chosen.ndim} dimensions, but one is needed")
        if chosen.size and chosen.dtype.kind not in "iu":
            raise TypeError(f"take: indices has dtype {chosen.dtype}, but integers are needed")
        return Affine._of(_core.take_affine(self._map, chosen.tolist()))

    def repeat(self, count: int) -> Affine:
        """Repeat each channel, as flattening ``(N, C, H, W)`` to ``(N, C * H * W)`` does.

        Parameters
        ----------
        count : int
            How often each channel comes in succession, H * W; at least 0.

        Returns
        -------
        Affine
            Of ``C * count`` channels.

        Raises
        ------
        ValueError
            If `count` is negative.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.Affine([1.0, 2.0], [0.0, 0.0]).repeat(3).scale
        array([1., 1., 1., 2., 2., 2.])
        """
        if count < 0:
            raise ValueError(f"repeat: count is {count}, but at least 0 is needed")
        return self.take(np.repeat(np.arange(self.channels), count))

    def split(self, sizes: Sequence[int]) -> tuple[Affine, ...]:
        """Cut the channels into parts, those of tensors that were concatenated.

        Parameters
        ----------
        sizes : sequence of int
            Channels of each part; C in all.

        Returns
        -------
        tuple of Affine
            `concat` of them is this map.

        Raises
        ------
        ValueError
            If the sizes are negative or do not add up to C.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.Affine([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]).split([1, 2])[1].scale
        array([2., 3.])
        """
        if any(size < 0 for size in sizes) or sum(sizes) != self.channels:
            raise ValueError(
                f"split: sizes is {list(sizes)}, but sizes of at least 0 are needed that add up to "
                f"the {self.channels} channels of the map"
            )
        ends = np.cumsum(sizes, dtype=np.int64)
        return tuple(
            self.take(np.arange(end - size, end)) for end, size in zip(ends, sizes, strict=True)
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self._scale, self._shift, self._magnitude, self._map.notes)

    def __repr__(self) -> str:
        return (
            f"Affine(channels={self.channels}, scale={_short(self._scale)}, "
            f"shift={_short(self._shift)})"
        )


class AffineGradients(NamedTuple):
    """Gradients of an `Affine`.

    Attributes
    ----------
    dscale, dshift : numpy.ndarray, shape (C,)
        float64.
    """

    dscale: Array
    dshift: Array


class ParameterGradients(NamedTuple):
    """Gradients of the parameters that `affine` was made from.

    Attributes
    ----------
    dgamma, dbeta, dmean, dvar : numpy.ndarray, shape (C,)
        float64; of gamma and beta also where none was given (then at 1 and 0).
    """

    dgamma: Array
    dbeta: Array
    dmean: Array
    dvar: Array


def affine(
    gamma: Input | None, beta: Input | None, mean: Input, var: Input, eps: float = 1e-5
) -> Affine:
    """Turn batch normalization with given statistics into an `Affine`.

    ``scale = gamma / sqrt(var + eps)``, ``shift = beta - mean * scale``: Ioffe & Szegedy 2015,
    Algorithm 2, step 11. Computed in float64.

    Parameters
    ----------
    gamma, beta : array_like, shape (C,), or None
        Scale and shift, of any dtype that `batch_norm` takes; None is 1 and 0.
    mean, var : array_like, shape (C,)
        The statistics, of any such dtype; no variance is negative.
    eps : float
        Added to the variance, at least 0. With ``var == eps == 0`` the scale is 0, as in
        `batch_norm_inference`.

    Returns
    -------
    Affine
        ``affine(...)(x)`` is ``batch_norm_inference(x, ...)`` but for the rounding of float64.

    Raises
    ------
    TypeError
        For a dtype that `batch_norm` does not take, and for masked and object arrays.
    ValueError
        For wrong shapes, ``eps < 0`` and a negative variance.

    Examples
    --------
    >>> import bnpp
    >>> bnpp.affine([3.0, 1.0], [1.0, 0.0], mean=[2.0, 5.0], var=[9.0, 0.0], eps=0.0)
    Affine(channels=2, scale=[1. 0.], shift=[-1.  0.])
    """
    return Affine._of(_core.affine(gamma, beta, mean, var, eps))


def affine_backward(
    grads: AffineGradients,
    gamma: Input | None,
    mean: Input,
    var: Input,
    eps: float = 1e-5,
) -> ParameterGradients:
    """Go back through `affine`: from the gradients of scale and shift to those of its parameters.

    With ``g = dscale - mean * dshift`` and ``inv_std = 1 / sqrt(var + eps)``: ``dgamma = g * inv_std``,
    ``dbeta = dshift``, ``dmean = -gamma * inv_std * dshift``, ``dvar = -gamma * inv_std**3 * g / 2``.

    Parameters
    ----------
    grads : AffineGradients
        ``dafter`` or ``dbefore`` of a `FoldGradients`; any pair of vectors (C,) will do.
    gamma, mean, var, eps
        What `affine` got.

    Returns
    -------
    ParameterGradients
        Named tuple ``(dgamma, dbeta, dmean, dvar)``. 0 but for ``dbeta`` where ``var == eps == 0``.

    Raises
    ------
    TypeError, ValueError
        As `affine`.

    Examples
    --------
    >>> import bnpp
    >>> bnpp.affine_backward(([1.0], [1.0]), [6.0], [2.0], [4.0], eps=0.0)
    ParameterGradients(dgamma=array([-0.5]), dbeta=array([1.]), dmean=array([-3.]), dvar=array([0.375]))
    """
    dscale, dshift = grads
    return ParameterGradients(*_core.affine_backward(dscale, dshift, gamma, mean, var, eps))


def map_of(value: object, where: str, name: str) -> _core.AffineMap:
    """Return the compiled part of an `Affine`, or refuse what is none.

    Parameters
    ----------
    value : object
        The argument.
    where, name : str
        The function that got it and its name, for the message.

    Returns
    -------
    _core.AffineMap
        Its vectors.

    Raises
    ------
    TypeError
        If it is no `Affine`.
    """
    if not isinstance(value, Affine):
        raise TypeError(
            f"{where}: {name} is of type {type(value).__name__}, but a bnpp.Affine is needed"
        )
    return value._map


def _restore(scale: Vector, shift: Vector, magnitude: Vector, notes: bytes) -> Affine:
    return Affine._of(_core.restore_affine(scale, shift, magnitude, notes))


def _short(values: Vector) -> str:
    return np.array2string(values, max_line_width=10**6, precision=6, threshold=8, edgeitems=3)
