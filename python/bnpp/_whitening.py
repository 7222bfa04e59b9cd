"""Whitening of groups of channels by Newton's iteration (IterNorm, Huang et al. 2019, arXiv 1904.03441).

What Ioffe & Szegedy 2015 call too expensive: channels are not only scaled but decorrelated. Everything is
float64 and rounded once, a group at a time. The matrix products are NumPy's: other than in the rest of bnpp,
its BLAS and that one's number of threads decide the last bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from bnpp import _core
from bnpp._arrays import Array, Input, as_array
from bnpp._batch_norm import Gradients
from bnpp._parts import axis_of
from bnpp._settings import Settings

Matrix = NDArray[np.float64]


class IterNormSaved(NamedTuple):
    """What `iter_norm` leaves for its backward.

    Attributes
    ----------
    x : numpy.ndarray
        The input itself, not a copy.
    gamma : numpy.ndarray, shape (C,)
        float64; ones where none was given.
    axis, iterations : int
        As given; the axis counted from 0.
    mean : numpy.ndarray, shape (C,)
        Mean of each channel; float64.
    mean_low : numpy.ndarray, shape (C,)
        What rounding took from `mean`.
    covariance : numpy.ndarray, shape (G, C / G, C / G)
        Covariance of the channels of each group, plus eps on the diagonal; float64.
    whitening : numpy.ndarray, shape (G, C / G, C / G)
        What multiplies the centred channels of each group: about its inverse square root; float64.
    """

    x: Array
    gamma: Matrix
    axis: int
    iterations: int
    mean: Matrix
    mean_low: Matrix
    covariance: Matrix
    whitening: Matrix


def iter_norm(
    x: Input,
    gamma: Input | None = None,
    beta: Input | None = None,
    *,
    groups: SupportsIndex | None = None,
    group_size: SupportsIndex | None = None,
    iterations: SupportsIndex = 5,
    axis: int = 1,
    eps: float = 1e-5,
) -> tuple[Array, IterNormSaved]:
    """Whiten each group of channels: zero mean, about unit variance, about no correlation.

    ``y = gamma * W (x - mean) + beta`` for the channels of a group, with the covariance
    ``S = <(x - mean)(x - mean)^T> + eps I``, ``P = I``, then `iterations` times
    ``P = (3 P - P^3 S / tr(S)) / 2``, and ``W = P / sqrt(tr(S))``, which goes to ``S^(-1/2)``: Huang, Zhou,
    Zhu, Liu & Shao 2019 (arXiv 1904.03441), Algorithm 1; groups as in Huang, Yang, Lang & Deng 2018 (arXiv
    1804.08450). Groups of one channel are `batch_norm`.

    Parameters
    ----------
    x : array_like, 2 to 8 dimensions
        A dtype `batch_norm` takes, any strides; C channels along `axis`.
    gamma, beta : array_like, shape (C,), optional
        Scale and shift; 1 and 0 if not given.
    groups, group_size : int, optional
        How many groups, or how many channels in each; only one of them, a divisor of C. One group if
        neither is given.
    iterations : int
        Newton's steps, at least 0. The paper's 5 leave small eigenvalues short of 1, which steadies
        training; some 15 whiten wholly.
    axis : int
        The channels' axis; negative ones count from the end.
    eps : float
        Added to the variances, at least 0.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`.
    saved : IterNormSaved
        What `iter_norm_backward` needs. It refers to `x` without a copy.

    Raises
    ------
    TypeError
        As `batch_norm`, and for numbers that are no integers.
    ValueError
        As `batch_norm`, for groups that do not divide the channels, and for one value a channel.

    Notes
    -----
    A value that is NaN or Inf reaches all channels of its group. Matrix products are those of NumPy's BLAS:
    results are the same bits only with one BLAS on one number of threads.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.random.default_rng(0).standard_normal((1000, 3)) @ [[2, 1, 0], [0, 1, 1], [0, 0, 3]]
    >>> y, saved = bnpp.iter_norm(x, iterations=15)
    >>> np.cov(y.T, bias=True).round(3) + 0.0
    array([[1., 0., 0.],
           [0., 1., 0.],
           [0., 0., 1.]])
    """
    name = "iter_norm"
    array = as_array(x, "x", name)
    axis = axis_of(name, "axis", axis, array)
    channels = array.shape[axis]
    steps = _integer("iterations", iterations, 0)
    size = _group_size(groups, group_size, channels)
    scale, shift = _vector("gamma", gamma, channels, 1.0), _vector("beta", beta, channels, 0.0)
    eps = Settings(name).eps(eps)
    if array.size == channels > 0:
        raise ValueError(
            f"{name}: x has one value a channel (shape {array.shape}, axis {axis}), "
            "but two or more are needed"
        )
    count = array.size // max(channels, 1)
    _, mean, mean_low, *_ = _core.moments(array, axis, None)
    shape = (channels // size if size else 0, size, size)
    saved = IterNormSaved(
        array, scale, axis, steps, mean, mean_low, np.zeros(shape), np.zeros(shape)
    )
    y = _core.whole_output(name, None, array, [])
    with np.errstate(all="ignore"):
        for group, part in _groups(saved):
            centred = _centred(saved, part)
            covariance = centred @ centred.T / max(count, 1) + eps * np.eye(size)
            saved.covariance[group] = covariance
            saved.whitening[group] = _newton(covariance, steps)[-1][1] * _inverse_root(covariance)
            white = saved.whitening[group] @ centred
            _write(y, axis, part, white * scale[part, None] + shift[part, None])
    return y, saved


def iter_norm_backward(dy: Input, saved: IterNormSaved) -> Gradients:
    """Go back through `iter_norm`, through its mean, its covariance and Newton's steps.

    With ``g = gamma * dy``, ``dW = g (x - mean)^T`` and ``N = S / tr(S)``, dN is the derivative of Newton's
    steps, taken backward from ``dP = dW / sqrt(tr(S))``; then
    ``dS = dN / tr(S) - (tr(dN^T S) / tr(S)^2 + tr(dW^T P) / (2 tr(S)^(3/2))) I`` and
    ``dx = W^T g + (dS + dS^T)(x - mean) / m``, less its mean; ``dgamma = sum(dy * W (x - mean))``,
    ``dbeta = sum(dy)``: Huang et al. 2019 (arXiv 1904.03441), appendix A.

    Parameters
    ----------
    dy : array_like
        Gradient of ``y``; same shape and dtype.
    saved : IterNormSaved
        What the forward returned. It can be used any number of times.

    Returns
    -------
    Gradients
        As of `batch_norm_backward`.

    Raises
    ------
    TypeError
        For a dtype other than that of ``y``, and for a `saved` that is none.
    ValueError
        For a wrong shape.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0, 2.0], [2.0, 1.0], [4.0, 3.0]])
    >>> y, saved = bnpp.iter_norm(x)
    >>> grads = bnpp.iter_norm_backward(np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), saved)
    >>> grads.dbeta, bool(abs(grads.dx.sum()) < 1e-15)
    (array([1., 0.]), True)
    """
    name = "iter_norm_backward"
    if not isinstance(saved, IterNormSaved):
        raise TypeError(
            f"{name}: saved is of type {type(saved).__name__}, "
            "but it needs to be what iter_norm returned"
        )
    x, axis = saved.x, saved.axis
    gradient = as_array(dy, "dy", name)
    dx = _core.whole_output(name, None, x, [("dy", gradient, True)])
    dgamma, dbeta = np.zeros((2, x.shape[axis]))
    with np.errstate(all="ignore"):
        for group, part in _groups(saved):
            centred = _centred(saved, part)
            g = _matrix(gradient, axis, part)
            dbeta[part] = g.sum(1)
            dgamma[part] = np.einsum("cm,cm->c", g, saved.whitening[group] @ centred)
            g *= saved.gamma[part, None]
            d = _newton_backward(g @ centred.T, saved.covariance[group], saved.iterations)
            d = saved.whitening[group].T @ g + (d + d.T) @ centred / max(centred.shape[1], 1)
            _write(dx, axis, part, d - _mean(d))
        dtype = np.float64 if x.dtype == np.float64 else np.float32
        return Gradients(dx, dgamma.astype(dtype), dbeta.astype(dtype))


def _newton(covariance: Matrix, steps: int) -> list[tuple[Matrix, Matrix]]:
    """Return every (N P, P), from P = I on.

    The coupled form of Newton's iteration: the same P, but stable however many steps there are, where
    ``P^3 N`` would let roundings that do not commute with N grow (Higham 2008, Functions of Matrices, ch. 6).
    """
    identity = np.eye(len(covariance))
    found = [(covariance * _inverse_root(covariance) ** 2, identity)]
    for _ in range(steps):
        np_, p = found[-1]
        t = 1.5 * identity - 0.5 * (p @ np_)
        found.append((np_ @ t, t @ p))
    return found


def _newton_backward(dw: Matrix, covariance: Matrix, steps: int) -> Matrix:
    """Return dS, the gradient of the covariance, from dW."""
    root, identity = _inverse_root(covariance), np.eye(len(covariance))
    *before, (_, last) = _newton(covariance, steps)
    dnp, dp = np.zeros_like(dw), dw * root
    for np_, p in reversed(before):
        t = 1.5 * identity - 0.5 * (p @ np_)
        dt = np_.T @ dnp + dp @ p.T
        dnp, dp = dnp @ t.T - 0.5 * (p.T @ dt), t.T @ dp - 0.5 * (dt @ np_.T)
    trace = np.vdot(dnp, covariance) * root**4 + np.vdot(dw, last) * root**3 / 2
    return dnp * root**2 - trace * identity


def _inverse_root(covariance: Matrix) -> float:
    """Return 1 / sqrt(tr(S)), and 0 where S is 0: there x - mean is 0 too."""
    trace = float(np.trace(covariance))
    return 0.0 if trace == 0 else 1 / float(np.sqrt(trace))


def _groups(saved: IterNormSaved) -> Iterator[tuple[int, slice]]:
    size = saved.covariance.shape[1]
    return ((g, slice(g * size, (g + 1) * size)) for g in range(len(saved.covariance)))


def _matrix(x: Array, axis: int, part: slice) -> Matrix:
    """Copy some channels of x, a row for each."""
    channels = np.moveaxis(x, axis, 0)[part]
    return channels.astype(np.float64).reshape(len(channels), x.size // max(x.shape[axis], 1))


def _centred(saved: IterNormSaved, part: slice) -> Matrix:
    """Return x - mean of some channels, right at any mean."""
    values = _matrix(saved.x, saved.axis, part)
    values -= saved.mean[part, None]
    values -= saved.mean_low[part, None]
    return values


def _mean(rows: Matrix) -> Matrix:
    mean: Matrix = rows.sum(1, keepdims=True) / max(rows.shape[1], 1)
    return mean


def _write(y: Array, axis: int, part: slice, rows: Matrix) -> None:
    to = np.moveaxis(y, axis, 0)[part]
    to[...] = rows.reshape(to.shape)


def _vector(name: str, values: Input | None, channels: int, fallback: float) -> Matrix:
    if values is None:
        return np.full(channels, fallback)
    vector = as_array(values, name, "iter_norm").astype(np.float64)
    if vector.shape != (channels,):
        raise ValueError(
            f"iter_norm: {name} has shape {vector.shape}, but it needs ({channels},), "
            "a value for each channel of x"
        )
    return vector


def _group_size(
    groups: SupportsIndex | None, group_size: SupportsIndex | None, channels: int
) -> int:
    if groups is not None and group_size is not None:
        raise TypeError(
            f"iter_norm: groups is {groups} and group_size is {group_size}, but only one is needed"
        )
    name, given = ("groups", groups) if group_size is None else ("group_size", group_size)
    number = 1 if given is None else _integer(name, given, 1)
    if channels % number:
        raise ValueError(
            f"iter_norm: {name} is {number}, but it needs to divide x's {channels} channels"
        )
    return channels // number if group_size is None else number


def _integer(name: str, value: SupportsIndex, least: int) -> int:
    number = Settings("iter_norm").integer(name, value)
    if number < least:
        raise ValueError(f"iter_norm: {name} is {number}, but at least {least} is needed")
    return number
