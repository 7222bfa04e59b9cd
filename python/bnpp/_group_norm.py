"""Group and instance normalization as pure functions, forward and backward.

As in `_batch_norm`, everything is computed and checked by ``_core``.
"""

from __future__ import annotations

from typing import Literal

from bnpp import _core
from bnpp._arrays import Array, Input
from bnpp._batch_norm import Activation, Gradients, ResidualGradients


def group_norm(
    x: Input,
    groups: int,
    gamma: Input | None = None,
    beta: Input | None = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    residual: Input | None = None,
    activation: Activation = None,
    on_single: Literal["error", "biased"] = "error",
    out: Array | None = None,
    weights: Input | None = None,
) -> tuple[Array, _core.GroupNormSaved]:
    """Normalize each group of channels of each sample by its own statistics.

    ``y = act(gamma * (x - mean) / sqrt(var + eps) + beta + residual)``, where mean and (biased)
    variance are taken over the channels of a group and all positions of one sample: Wu & He 2018,
    arXiv 1803.08494, equations 1, 2, 6 and 7. Sums are float64; see docs/numerics.md for the bounds. With as many groups
    as channels it is `instance_norm`, with one it is layer normalization over all axes but 0.

    Parameters
    ----------
    x : array_like, 2 to 8 dimensions
        float16, bfloat16 (of ml_dtypes), float32 or float64, any strides; N samples along axis 0, C
        channels along `axis`.
    groups : int
        Number of groups, a divisor of C; each is C / groups channels in a row.
    gamma, beta : array_like, shape (C,), optional
        Scale and shift, of any such dtype; 1 and 0 where not given.
    axis : int
        The channels' axis, which is not 0; negative ones count from the end.
    eps : float
        Added to the variance, at least 0. With ``var == eps == 0`` a group becomes ``beta``.
    residual : array_like, optional
        Added before the activation; same shape and dtype as `x`.
    activation : {None, "relu"}
        ``"relu"`` gives ``max(z, 0)``.
    on_single : {"error", "biased"}
        What to do with one value a group, where no variance can be told: refuse, or use 0 (``y`` is
        then ``beta``, plus the residual), as in `batch_norm`.
    out : numpy.ndarray, optional
        Where to put ``y``: same shape and dtype as `x`. It may be `x` itself, and `saved` can then not
        serve a backward.
    weights : array_like, optional
        How much each value counts in the statistics: a mask of 0 and 1, or numbers of at least 0, of
        any real dtype and a shape that broadcasts to that of `x`. Read in float64 for float64 `x`, else
        in float32. With ``W = sum(w)`` of a group of a sample, ``mean = sum(w * x) / W`` and
        ``var = sum(w * (x - mean)**2) / W``; where w is 0, `x` may be anything, NaN too. All of `x` is
        mapped, also what has no weight. A group with W = 0 becomes ``beta`` (and NaN where `x` is not
        finite), and one in which a single value has weight counts as one value a group.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`.
    saved : GroupNormSaved
        What `group_norm_backward` needs. Shows ``mean``, ``var``, ``inv_std`` (shape (N, groups);
        float32 for float32 `x`, float64 for float64), ``count`` (values a group), ``weight`` (W, or
        None), ``groups`` and more. It refers to `x`, and to weights of the dtype needed, without a copy,
        so these must keep their values until the backward.

    Raises
    ------
    TypeError
        For a dtype that bnpp does not take, for masked and object arrays, for `groups` that is no
        integer.
    ValueError
        For wrong shapes, `groups` that does not divide C, an axis out of range or 0, ``eps < 0``, one
        value a group, weights that are negative or not finite, an `out` that overlaps an input other
        than by being `x` or `residual`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0, 3.0, 1e6, 1e6 + 2], [0.0, 0.0, 5.0, -5.0]])
    >>> y, saved = bnpp.group_norm(x, 2, eps=0.0)
    >>> y
    array([[-1.,  1., -1.,  1.],
           [ 0.,  0.,  1., -1.]])
    >>> saved.mean, saved.count
    (array([[2.000000e+00, 1.000001e+06],
           [0.000000e+00, 0.000000e+00]]), 2)

    Of sequences that are padded, only what is there counts:

    >>> sequences = np.array([[[1.0, 3.0, np.nan]], [[2.0, 4.0, 9.0]]])
    >>> mask = np.array([[[1, 1, 0]], [[1, 1, 1]]])
    >>> y, saved = bnpp.group_norm(sequences, 1, weights=mask)
    >>> saved.mean, saved.weight
    (array([[2.],
           [5.]]), array([[2.],
           [3.]]))
    """
    given = (x, groups, gamma, beta, axis, eps, residual, activation, on_single, out)
    return _core.group_norm(*given, weights)


def group_norm_backward(
    dy: Input, saved: _core.GroupNormSaved, *, out: Array | None = None
) -> Gradients | ResidualGradients:
    """Go back through `group_norm`, through the groups' statistics too.

    With ``g = dy`` (0 where the ReLU was inactive), ``xh = (x - mean) * inv_std`` and m values a group:
    ``dbeta = sum(g)`` and ``dgamma = sum(g * xh)`` over samples and positions,
    ``dx = inv_std * (gamma * g - sum(gamma * g) / m - xh * sum(gamma * g * xh) / m)`` with sums over a
    group of a sample, ``dresidual = g``: the chain rule on Wu & He 2018, equations 1, 2, 6 and 7. With
    weights, ``w / W`` takes the place of ``1 / m`` throughout, and where w is 0 and `x` is not finite,
    ``g * xh`` has no part in dgamma.

    Parameters
    ----------
    dy : array_like
        Gradient of ``y``; same shape and dtype.
    saved : GroupNormSaved
        What the forward returned. It can be used any number of times.
    out : numpy.ndarray, optional
        Where to put ``dx``; it may be `dy` itself.

    Returns
    -------
    Gradients or ResidualGradients
        Named tuple ``(dx, dgamma, dbeta)``, with ``dresidual`` at the end when there was a residual.

    Raises
    ------
    TypeError
        For a dtype other than that of ``y``, and for a `saved` that is none.
    ValueError
        For a wrong shape, an `out` that overlaps otherwise, and a `saved` of a call that overwrote its
        own `x` (``saved.reason`` says so).

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0, 2.0, 4.0]])
    >>> y, saved = bnpp.group_norm(x, 1, eps=0.0)
    >>> grads = bnpp.group_norm_backward(np.array([[1.0, 0.0, 0.0]]), saved)
    >>> grads.dbeta, grads.dgamma.round(4)
    (array([1., 0., 0.]), array([-1.069,  0.   ,  0.   ]))
    >>> bool(abs(grads.dx.sum()) < 1e-15)  # adding a constant to x changes nothing
    True
    """
    return _named(_core.group_norm_backward(dy, saved, out))


def instance_norm(
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
    weights: Input | None = None,
) -> tuple[Array, _core.GroupNormSaved]:
    """Normalize each channel of each sample by its own statistics.

    ``y = act(gamma * (x - mean) / sqrt(var + eps) + beta + residual)``, where mean and (biased)
    variance are taken over all positions of one channel of one sample: Ulyanov, Vedaldi & Lempitsky
    2016, arXiv 1607.08022, equation 3. Sums are float64; see docs/numerics.md for the bounds. A batch of one sample gets
    the very bits of `batch_norm`.

    Parameters
    ----------
    x : array_like, 2 to 8 dimensions
        float16, bfloat16 (of ml_dtypes), float32 or float64, any strides; N samples along axis 0, C
        channels along `axis`.
    gamma, beta : array_like, shape (C,), optional
        Scale and shift, of any such dtype; 1 and 0 where not given.
    axis, eps, residual, activation, out, weights
        As in `group_norm`, with each channel as a group.
    on_single : {"error", "biased"}
        What to do with one position a sample: refuse, or use the variance 0, as in `group_norm`.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`.
    saved : GroupNormSaved
        What `instance_norm_backward` needs: as in `group_norm`, with statistics of shape (N, C).

    Raises
    ------
    TypeError
        For a dtype that bnpp does not take, and for masked and object arrays.
    ValueError
        For wrong shapes, an axis out of range or 0, ``eps < 0``, one position a sample, weights that are
        negative or not finite, an `out` that overlaps an input other than by being `x` or `residual`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[[1.0, 3.0], [1e6, 1e6 + 2]]])
    >>> y, saved = bnpp.instance_norm(x, eps=0.0)
    >>> y
    array([[[-1.,  1.],
            [-1.,  1.]]])
    >>> saved.var
    array([[1., 1.]])
    """
    given = (x, gamma, beta, axis, eps, residual, activation, on_single, out)
    return _core.instance_norm(*given, weights)


def instance_norm_backward(
    dy: Input, saved: _core.GroupNormSaved, *, out: Array | None = None
) -> Gradients | ResidualGradients:
    """Go back through `instance_norm`, through the statistics too.

    With ``g = dy`` (0 where the ReLU was inactive), ``xh = (x - mean) * inv_std`` and m positions:
    ``dbeta = sum(g)`` and ``dgamma = sum(g * xh)`` over samples and positions,
    ``dx = gamma * inv_std * (g - sum(g) / m - xh * sum(g * xh) / m)`` with sums over the positions of a
    sample's channel, ``dresidual = g``: `group_norm_backward` with one channel a group, with weights too.

    Parameters
    ----------
    dy : array_like
        Gradient of ``y``; same shape and dtype.
    saved : GroupNormSaved
        What the forward returned. It can be used any number of times.
    out : numpy.ndarray, optional
        Where to put ``dx``; it may be `dy` itself.

    Returns
    -------
    Gradients or ResidualGradients
        Named tuple ``(dx, dgamma, dbeta)``, with ``dresidual`` at the end when there was a residual.

    Raises
    ------
    TypeError, ValueError
        As `group_norm_backward`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[[1.0, 2.0, 4.0]], [[3.0, 3.0, 3.0]]])
    >>> y, saved = bnpp.instance_norm(x)
    >>> grads = bnpp.instance_norm_backward(np.ones((2, 1, 3)), saved)
    >>> grads.dbeta, grads.dx.shape
    (array([6.]), (2, 1, 3))
    """
    return _named(_core.instance_norm_backward(dy, saved, out))


def _named(
    gradients: tuple[Array, Array, Array, Array | None],
) -> Gradients | ResidualGradients:
    dx, dgamma, dbeta, dresidual = gradients
    if dresidual is None:
        return Gradients(dx, dgamma, dbeta)
    return ResidualGradients(dx, dgamma, dbeta, dresidual)
