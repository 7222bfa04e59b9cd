"""Layer and root mean square normalization as pure functions, forward and backward.

Everything is computed by ``_core``, which also checks the arguments. These wrappers only give it
signatures, documentation and named results, because a call on a small array must stay cheap.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnpp import _core
from bnpp._arrays import Array, Input, as_array


class LayerNormGradients(NamedTuple):
    """Gradients of `layer_norm`.

    Attributes
    ----------
    dx : numpy.ndarray
        Gradient of the input; its shape, dtype and memory order.
    dgamma, dbeta : numpy.ndarray, shape of x along the features' axes
        Gradients of scale and shift, also where none was given (then at 1 and 0). float64 for float64
        input, else float32.
    """

    dx: Array
    dgamma: Array
    dbeta: Array


class RmsNormGradients(NamedTuple):
    """Gradients of `rms_norm`.

    Attributes
    ----------
    dx, dgamma : numpy.ndarray
        As in `LayerNormGradients`.
    """

    dx: Array
    dgamma: Array


def _with_weights(x: Input, weights: Input, where: str) -> tuple[Input, NDArray[Any]]:
    """Read x, and weights as the core reads them: broadcast to x's shape, in its statistics' dtype."""
    read = as_array(x, "x", where)
    given = weights if isinstance(weights, np.ndarray) else np.asarray(weights)
    if given.dtype.kind in "biu" and not isinstance(given, np.ma.MaskedArray):
        given = given.astype(np.float64)
    given = as_array(given, "weights", where)
    with np.errstate(over="ignore"):  # to Inf, which the core refuses
        given = given.astype(np.float64 if read.dtype == np.float64 else np.float32, copy=False)
    try:
        return read, np.broadcast_to(given, read.shape)
    except ValueError:
        raise ValueError(
            f"{where}: weights has shape {given.shape}, "
            f"but it needs one that broadcasts to x's {read.shape}"
        ) from None


def layer_norm(
    x: Input,
    gamma: Input | None = None,
    beta: Input | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    weights: Input | None = None,
    out: Array | None = None,
) -> tuple[Array, _core.LayerNormSaved]:
    """Normalize each sample by the mean and variance of its features.

    ``y = gamma * (x - mean) / sqrt(var + eps) + beta``, where mean and (biased) variance of a sample
    are taken over `axis`: Ba, Kiros & Hinton 2016 (arXiv 1607.06450). Computed in float64 and rounded
    once.

    Parameters
    ----------
    x : array_like, 1 to 8 dimensions
        float16, bfloat16 (of ml_dtypes), float32 or float64, any strides.
    gamma, beta : array_like, optional
        Scale and shift of the features, of any such dtype and of x's shape along `axis` (its axes in
        ascending order); 1 and 0 where not given.
    axis : int or tuple of ints
        The features' axes: any, in any order, none of them twice. Negative ones count from the end.
    eps : float
        Added to the variance, at least 0. With ``var == eps == 0`` a sample becomes ``beta``.
    weights : array_like of numbers >= 0, optional
        A weight for each value, of a shape that broadcasts to that of `x`, such as a mask of zeros and
        ones; read in float64 for float64 `x`, else in float32. With ``W = sum(w)`` over a sample,
        ``mean = sum(w * x) / W`` and ``var = sum(w * (x - mean)**2) / W``: a value of weight 0 never
        touches the statistics, even if it is NaN. ``y`` is the same map of all values. A sample with
        ``W == 0`` has ``inv_std`` 0 and becomes ``beta``. Like `x`, they must keep their values until
        the backward.
    out : numpy.ndarray, optional
        Where to put ``y``: same shape and dtype as `x`. It may be `x` itself, and `saved` can then not
        serve a backward.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`.
    saved : LayerNormSaved
        What `layer_norm_backward` needs. Shows ``mean``, ``var``, ``inv_std`` (shape of x along the
        other axes; float64 for float64 `x`, else float32), ``count`` (features a sample) and more. It
        refers to `x` without a copy, so `x` must keep its values until the backward.

    Raises
    ------
    TypeError
        For a dtype that bnpp does not take, and for masked and object arrays.
    ValueError
        For wrong shapes, an axis out of range or named twice, ``eps < 0``, a weight that is negative
        or not finite, an `out` that overlaps an input other than by being `x`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0, 2.0, 3.0], [1e6, 1e6, 1e6 + 3]])
    >>> y, saved = bnpp.layer_norm(x, eps=0.0)
    >>> y.round(4)
    array([[-1.2247,  0.    ,  1.2247],
           [-0.7071, -0.7071,  1.4142]])
    >>> saved.mean, saved.count
    (array([2.000000e+00, 1.000001e+06]), 3)

    With a mask:

    >>> x = np.array([[1.0, 3.0, np.nan], [1.0, 2.0, 6.0]])
    >>> y, saved = bnpp.layer_norm(x, eps=0.0, weights=[[1, 1, 0], [1, 1, 1]])
    >>> y.round(4)
    array([[-1.    ,  1.    ,     nan],
           [-0.9258, -0.4629,  1.3887]])
    """
    if weights is not None:
        x, weights = _with_weights(x, weights, "layer_norm")
    return _core.layer_norm(x, gamma, beta, axis, eps, weights, out)


def layer_norm_backward(
    dy: Input, saved: _core.LayerNormSaved, *, out: Array | None = None
) -> LayerNormGradients:
    """Go back through `layer_norm`, through the samples' statistics too.

    With ``h = dy * gamma``, ``xh = (x - mean) * inv_std`` and ``mean`` over the features of a sample:
    ``dx = inv_std * (h - mean(h) - xh * mean(h * xh))``; ``dgamma = sum(dy * xh)`` and
    ``dbeta = sum(dy)`` over the samples: the chain rule on equation 4 of Ba, Kiros & Hinton 2016. With
    weights ``dx = inv_std * (h - w / W * (sum(h) + xh * sum(h * xh)))``, and a value of weight 0 that is
    not finite has no part in any sum.

    Parameters
    ----------
    dy : array_like
        Gradient of ``y``; same shape and dtype.
    saved : LayerNormSaved
        What the forward returned. It can be used any number of times.
    out : numpy.ndarray, optional
        Where to put ``dx``; it may be `dy` itself.

    Returns
    -------
    LayerNormGradients
        Named tuple ``(dx, dgamma, dbeta)``; zeros where there are no samples.

    Raises
    ------
    TypeError
        For a dtype other than that of ``y``, and for a `saved` that is none.
    ValueError
        For a wrong shape, an `out` that overlaps otherwise, and a `saved` that cannot serve: of
        `rms_norm`, or of a call that overwrote its own `x` (``saved.reason`` says so).

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0, 2.0, 4.0]])
    >>> y, saved = bnpp.layer_norm(x, eps=0.0)
    >>> grads = bnpp.layer_norm_backward(np.array([[1.0, 0.0, 0.0]]), saved)
    >>> grads.dx.round(4)
    array([[ 0.2291, -0.3436,  0.1145]])
    >>> grads.dbeta
    array([1., 0., 0.])
    """
    return LayerNormGradients(*_core.layer_norm_backward(dy, saved, out))


def rms_norm(
    x: Input,
    gamma: Input | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    weights: Input | None = None,
    out: Array | None = None,
) -> tuple[Array, _core.LayerNormSaved]:
    """Divide each sample by the root mean square of its features.

    ``y = gamma * x / sqrt(mean(x**2) + eps)``, the mean taken over `axis`: Zhang & Sennrich 2019
    (arXiv 1910.07467), with an `eps` as everywhere in practice. Computed in float64 and rounded once.

    Parameters
    ----------
    x, gamma, axis, eps, weights, out
        As in `layer_norm`; with weights ``mean(x**2)`` is ``sum(w * x**2) / W``. With ``mean(x**2) == eps == 0`` a sample becomes 0.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`.
    saved : LayerNormSaved
        What `rms_norm_backward` needs, as in `layer_norm`; ``var`` is the mean square and ``mean`` 0.

    Raises
    ------
    TypeError, ValueError
        As in `layer_norm`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> y, saved = bnpp.rms_norm(np.array([[3.0, 4.0], [0.0, 2.0]]), eps=0.0)
    >>> y.round(4)
    array([[0.8485, 1.1314],
           [0.    , 1.4142]])
    >>> saved.var
    array([12.5,  2. ])
    """
    if weights is not None:
        x, weights = _with_weights(x, weights, "rms_norm")
    return _core.rms_norm(x, gamma, axis, eps, weights, out)


def rms_norm_backward(
    dy: Input, saved: _core.LayerNormSaved, *, out: Array | None = None
) -> RmsNormGradients:
    """Go back through `rms_norm`, through the samples' mean squares too.

    With ``h = dy * gamma``, ``xh = x * inv_std`` and ``mean`` over the features of a sample:
    ``dx = inv_std * (h - xh * mean(h * xh))``; ``dgamma = sum(dy * xh)`` over the samples: the chain
    rule on equation 4 of Zhang & Sennrich 2019. With weights
    ``dx = inv_std * (h - w / W * xh * sum(h * xh))``.

    Parameters
    ----------
    dy, saved, out
        As in `layer_norm_backward`.

    Returns
    -------
    RmsNormGradients
        Named tuple ``(dx, dgamma)``; zeros where there are no samples.

    Raises
    ------
    TypeError, ValueError
        As in `layer_norm_backward`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> y, saved = bnpp.rms_norm(np.array([[3.0, 4.0]]), eps=0.0)
    >>> grads = bnpp.rms_norm_backward(np.array([[1.0, 0.0]]), saved)
    >>> grads.dx.round(4), grads.dgamma.round(4)
    (array([[ 0.181 , -0.1358]]), array([0.8485, 0.    ]))
    """
    return RmsNormGradients(*_core.rms_norm_backward(dy, saved, out))
