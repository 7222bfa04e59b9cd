"""Batch normalization as pure functions: training and inference, forward and backward.

Everything is computed by ``_core``, which also checks the arguments. These wrappers only give it
signatures, documentation and named results, because a call on a small array must stay cheap.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, overload

from bnpp import _core
from bnpp._arrays import Array, Input

#: What is applied last: nothing or max(z, 0).
Activation: TypeAlias = Literal["relu"] | None


class Gradients(NamedTuple):
    """Gradients of training-mode batch normalization.

    Attributes
    ----------
    dx : numpy.ndarray
        Gradient of the input; its shape, dtype and memory order.
    dgamma, dbeta : numpy.ndarray, shape (C,)
        Gradients of scale and shift, also where none was given (then at 1 and 0). float64 for float64
        input, else float32.
    """

    dx: Array
    dgamma: Array
    dbeta: Array


class ResidualGradients(NamedTuple):
    """`Gradients` and the gradient of the residual.

    Attributes
    ----------
    dx, dgamma, dbeta : numpy.ndarray
        As in `Gradients`.
    dresidual : numpy.ndarray
        Gradient of the residual, of its shape. Without an activation it equals ``dy`` and is that
        same array, not a copy.
    """

    dx: Array
    dgamma: Array
    dbeta: Array
    dresidual: Array


class FrozenGradients(NamedTuple):
    """Gradients of batch normalization with given (frozen) statistics.

    Attributes
    ----------
    dx, dgamma, dbeta : numpy.ndarray
        As in `Gradients`.
    dmean, dvar : numpy.ndarray, shape (C,)
        Gradients of the given mean and variance.
    """

    dx: Array
    dgamma: Array
    dbeta: Array
    dmean: Array
    dvar: Array


class FrozenResidualGradients(NamedTuple):
    """`FrozenGradients` and the gradient of the residual.

    Attributes
    ----------
    dx, dgamma, dbeta, dmean, dvar : numpy.ndarray
        As in `FrozenGradients`.
    dresidual : numpy.ndarray
        As in `ResidualGradients`.
    """

    dx: Array
    dgamma: Array
    dbeta: Array
    dmean: Array
    dvar: Array
    dresidual: Array


def batch_norm(
    x: Input,
    gamma: Input | None = None,
    beta: Input | None = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    residual: Input | None = None,
    activation: Activation = None,
    on_single: Literal["error", "biased"] = "error",
    out: Array | None = None,
    keep: Literal["input", "output", "auto"] = "input",
    weights: Input | None = None,
) -> tuple[Array, _core.Saved]:
    """Normalize each channel by the statistics of this batch (training mode).

    ``y = act(gamma * (x - mean) / sqrt(var + eps) + beta + residual)``, where mean and (biased)
    variance of a channel are taken over all axes but `axis`: Ioffe & Szegedy 2015, Algorithm 1, and
    section 3.2 for feature maps. Sums are float64; see docs/numerics.md for the bounds.

    Parameters
    ----------
    x : array_like, 2 to 8 dimensions
        float16, bfloat16 (of ml_dtypes), float32 or float64, any strides; C channels along `axis`, m
        values in each.
    gamma, beta : array_like, shape (C,), optional
        Scale and shift, of any such dtype; 1 and 0 where not given.
    axis : int
        The channels' axis; negative ones count from the end.
    eps : float
        Added to the variance, at least 0. With ``var == eps == 0`` a channel becomes ``beta``.
    residual : array_like, optional
        Added before the activation; same shape and dtype as `x`.
    activation : {None, "relu"}
        ``"relu"`` gives ``max(z, 0)``.
    on_single : {"error", "biased"}
        What to do when m is 1, where no variance can be told: refuse, or use 0 (``y`` is then ``beta``,
        plus the residual).
    out : numpy.ndarray, optional
        Where to put ``y``: same shape and dtype as `x`. It may be `x` itself, and `saved` can then not
        serve a backward unless it keeps the output.
    keep : {"input", "output", "auto"}
        What `saved` refers to. From ``y`` the backward computes ``xh = (y - beta) / gamma``
        (Rota Bulò et al. 2018, arXiv 1712.02616), so that the memory of `x` is free, or can hold ``y``.
        ``"output"`` needs no activation, no residual, no weights and ``abs(beta) <= 3 * abs(gamma)``, gamma not 0,
        in every channel: ``y`` is rounded, and beside a larger beta too little of ``xh`` would be left.
        ``"auto"`` keeps the output where it can, else the input.
    weights : array_like, optional
        How much each value counts in the statistics: a mask of 0 and 1, or numbers of at least 0, of
        any real dtype and a shape that broadcasts to that of `x`. Read in float64 for float64 `x`, else
        in float32. With ``W = sum(w)`` of a channel, ``mean = sum(w * x) / W`` and
        ``var = sum(w * (x - mean)**2) / W``; where w is 0, `x` may be anything, NaN too. All of `x` is
        mapped, also what has no weight. A channel with W = 0 becomes ``beta`` (and NaN where `x` is not
        finite), and one in which a single value has weight counts as one value a channel.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`. Empty for an empty batch.
    saved : Saved
        What `batch_norm_backward` needs. Shows ``mean``, ``var``, ``inv_std`` (shape (C,); float32 for
        float32 `x`, float64 for float64), ``count`` (m), ``weight`` (W, or None) and more. It refers to
        `x` (``saved.keeps`` is ``"input"``) or ``y`` (``"output"``), and to weights of the dtype needed,
        without a copy, so these must keep their values until the backward.

    Raises
    ------
    TypeError
        For a dtype that bnpp does not take, and for masked and object arrays.
    ValueError
        For wrong shapes, an axis out of range, ``eps < 0``, one value a channel, weights that are
        negative or not finite, an `out` that overlaps an input other than by being `x` or `residual`, an
        output that cannot be kept.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0, 1e6], [2.0, 1e6], [3.0, 1e6 + 3]])
    >>> y, saved = bnpp.batch_norm(x, eps=0.0)
    >>> y.round(4)
    array([[-1.2247, -0.7071],
           [ 0.    , -0.7071],
           [ 1.2247,  1.4142]])
    >>> saved.mean, saved.count
    (array([2.000000e+00, 1.000001e+06]), 3)

    In place, for a backward all the same:

    >>> y, saved = bnpp.batch_norm(x, keep="output", out=x)
    >>> saved.keeps, saved.reason
    ('output', None)

    Sequences (N, C, T) that are padded with zeros:

    >>> sequences = np.array([[[1.0, 3.0, 0.0]], [[5.0, 0.0, 0.0]]])
    >>> mask = np.array([[[1, 1, 0]], [[1, 0, 0]]])
    >>> y, saved = bnpp.batch_norm(sequences, weights=mask)
    >>> saved.mean, saved.weight
    (array([3.]), array([3.]))
    """
    given = (x, gamma, beta, axis, eps, residual, activation, on_single, out, keep)
    return _core.batch_norm(*given, weights)


def batch_norm_backward(
    dy: Input,
    saved: _core.Saved,
    *,
    dmean: Input | None = None,
    dvar: Input | None = None,
    out: Array | None = None,
) -> Gradients | ResidualGradients:
    """Go back through `batch_norm`, through the batch's statistics too.

    With ``g = dy`` (0 where the ReLU was inactive), ``xh = (x - mean) * inv_std`` and m values a channel:
    ``dbeta = sum(g)``, ``dgamma = sum(g * xh)``,
    ``dx = gamma * inv_std * (g - dbeta / m - xh * dgamma / m)``, ``dresidual = g``: the chain rule of
    Ioffe & Szegedy 2015, section 3, simplified. Of a loss that uses ``saved.mean`` and ``saved.var``
    too: ``dx += dmean / m + 2 * dvar * (x - mean) / m``. With weights, ``w / W`` takes the place of
    ``1 / m`` throughout, and where w is 0 and `x` is not finite, ``g * xh`` has no part in dgamma.

    Parameters
    ----------
    dy : array_like
        Gradient of ``y``; same shape and dtype.
    saved : Saved
        What the forward returned. It can be used any number of times.
    dmean, dvar : array_like, shape (C,), optional
        Gradients of ``saved.mean`` and of the biased ``saved.var``, of any dtype; 0 where not given.
    out : numpy.ndarray, optional
        Where to put ``dx``; it may be `dy` itself.

    Returns
    -------
    Gradients or ResidualGradients
        Named tuple ``(dx, dgamma, dbeta)``, with ``dresidual`` at the end when there was a residual.
        Zeros for an empty batch.

    Raises
    ------
    TypeError
        For a dtype other than that of ``y``, and for a `saved` that is none.
    ValueError
        For a wrong shape, an `out` that overlaps otherwise, and a `saved` that cannot serve: of
        `batch_norm_inference`, or of a call that overwrote its own `x` (``saved.reason`` says so).

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0], [2.0], [4.0]])
    >>> y, saved = bnpp.batch_norm(x, eps=0.0)
    >>> grads = bnpp.batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), saved)
    >>> grads.dbeta, grads.dgamma.round(4)
    (array([1.]), array([-1.069]))
    >>> bool(abs(grads.dx.sum()) < 1e-15)  # adding a constant to x changes nothing
    True
    >>> bnpp.batch_norm_backward(np.zeros((3, 1)), saved, dmean=[3.0]).dx.ravel()
    array([1., 1., 1.])
    """
    dx, dgamma, dbeta, dresidual = _core.batch_norm_backward(dy, saved, dmean, dvar, out)
    if dresidual is None:
        return Gradients(dx, dgamma, dbeta)
    return ResidualGradients(dx, dgamma, dbeta, dresidual)


@overload
def batch_norm_inference(
    x: Input,
    gamma: Input | None,
    beta: Input | None,
    mean: Input,
    var: Input,
    *,
    axis: int = ...,
    eps: float = ...,
    residual: Input | None = ...,
    activation: Activation = ...,
    out: Array | None = ...,
    save: Literal[False] = ...,
) -> Array: ...
@overload
def batch_norm_inference(
    x: Input,
    gamma: Input | None,
    beta: Input | None,
    mean: Input,
    var: Input,
    *,
    axis: int = ...,
    eps: float = ...,
    residual: Input | None = ...,
    activation: Activation = ...,
    out: Array | None = ...,
    save: Literal[True],
) -> tuple[Array, _core.Saved]: ...
def batch_norm_inference(
    x: Input,
    gamma: Input | None,
    beta: Input | None,
    mean: Input,
    var: Input,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    residual: Input | None = None,
    activation: Activation = None,
    out: Array | None = None,
    save: bool = False,
) -> Array | tuple[Array, _core.Saved]:
    """Normalize each channel by given statistics (inference mode).

    ``y = act(gamma * (x - mean) / sqrt(var + eps) + beta + residual)``: Ioffe & Szegedy 2015,
    Algorithm 2. Sums are float64; see docs/numerics.md for the bounds.

    Parameters
    ----------
    x : array_like, 2 to 8 dimensions
        A dtype `batch_norm` takes, any strides; C channels along `axis`.
    gamma, beta : array_like, shape (C,), or None
        Scale and shift, of any such dtype; None is 1 and 0.
    mean, var : array_like, shape (C,)
        The statistics, of any such dtype; no variance is negative.
    axis, eps, residual, activation, out
        As in `batch_norm`.
    save : bool
        Whether to return also what `batch_norm_inference_backward` needs.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`.
    saved : Saved
        Only with ``save=True``.

    Raises
    ------
    TypeError
        For a dtype that bnpp does not take, and for masked and object arrays.
    ValueError
        For wrong shapes, an axis out of range, ``eps < 0``, a negative variance, an `out` that overlaps
        an input other than by being `x` or `residual`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> bnpp.batch_norm_inference(x, None, None, [2.0, 10.0], [1.0, 100.0], eps=0.0)
    array([[-1.,  0.],
           [ 1.,  2.]])
    """
    return _core.batch_norm_inference(
        x, gamma, beta, mean, var, axis, eps, residual, activation, out, bool(save)
    )


def batch_norm_inference_backward(
    dy: Input, saved: _core.Saved, *, out: Array | None = None
) -> FrozenGradients | FrozenResidualGradients:
    """Go back through `batch_norm_inference`, whose statistics are inputs like the others.

    With ``g = dy`` (0 where the ReLU was inactive), ``xh = (x - mean) * inv_std``:
    ``dx = gamma * inv_std * g``, ``dgamma = sum(g * xh)``, ``dbeta = sum(g)``,
    ``dmean = -gamma * inv_std * dbeta``, ``dvar = -gamma * inv_std**2 * dgamma / 2``,
    ``dresidual = g``: the chain rule on Algorithm 2 of Ioffe & Szegedy 2015.

    Parameters
    ----------
    dy : array_like
        Gradient of ``y``; same shape and dtype.
    saved : Saved
        What the forward returned with ``save=True``. It can be used any number of times.
    out : numpy.ndarray, optional
        Where to put ``dx``; it may be `dy` itself.

    Returns
    -------
    FrozenGradients or FrozenResidualGradients
        Named tuple ``(dx, dgamma, dbeta, dmean, dvar)``, with ``dresidual`` at the end when there was a
        residual.

    Raises
    ------
    TypeError
        For a dtype other than that of ``y``, and for a `saved` that is none.
    ValueError
        For a wrong shape, an `out` that overlaps otherwise, and a `saved` that cannot serve: of
        `batch_norm`, or of a call that overwrote its own `x` (``saved.reason`` says so).

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0], [3.0]])
    >>> y, saved = bnpp.batch_norm_inference(x, None, None, [2.0], [4.0], eps=0.0, save=True)
    >>> grads = bnpp.batch_norm_inference_backward(np.ones((2, 1)), saved)
    >>> grads.dx.ravel(), grads.dmean
    (array([0.5, 0.5]), array([-1.]))
    """
    dx, dgamma, dbeta, dmean, dvar, dresidual = _core.batch_norm_inference_backward(dy, saved, out)
    if dresidual is None:
        return FrozenGradients(dx, dgamma, dbeta, dmean, dvar)
    return FrozenResidualGradients(dx, dgamma, dbeta, dmean, dvar, dresidual)
