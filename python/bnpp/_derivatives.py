"""More derivatives of batch normalization: Jacobian times vector, and the backward of the backward.

As in ``_batch_norm``, everything is computed and checked by ``_core``. Formulas with their derivations are
in docs/derivatives.md.
"""

from __future__ import annotations

from typing import NamedTuple

from bnpp import _core
from bnpp._arrays import Array, Input


class Tangents(NamedTuple):
    """Directional derivatives of what a forward call gives.

    Attributes
    ----------
    y_dot : numpy.ndarray
        Tangent of ``y``; shape, dtype and memory order of the input.
    mean_dot, var_dot : numpy.ndarray, shape (C,)
        Tangents of the mean and the biased variance that were used: those of the batch, or the given
        ones. float64 for float64 input, else float32.
    """

    y_dot: Array
    mean_dot: Array
    var_dot: Array


class DoubleGradients(NamedTuple):
    """Gradients of a loss of what `batch_norm_backward` returned.

    Attributes
    ----------
    d_dy, d_x : numpy.ndarray
        Gradients of ``dy`` and of ``x``; shape, dtype and memory order of the input.
    d_gamma : numpy.ndarray, shape (C,)
        Gradient of ``gamma``; float64 for float64 input, else float32.
    """

    d_dy: Array
    d_x: Array
    d_gamma: Array


class FrozenDoubleGradients(NamedTuple):
    """Gradients of a loss of what `batch_norm_inference_backward` returned.

    Attributes
    ----------
    d_dy, d_x, d_gamma : numpy.ndarray
        As in `DoubleGradients`.
    d_mean, d_var : numpy.ndarray, shape (C,)
        Gradients of the given mean and variance.
    """

    d_dy: Array
    d_x: Array
    d_gamma: Array
    d_mean: Array
    d_var: Array


def batch_norm_jvp(
    saved: _core.Saved,
    x_dot: Input | None,
    gamma_dot: Input | None = None,
    beta_dot: Input | None = None,
    *,
    mean_dot: Input | None = None,
    var_dot: Input | None = None,
    residual_dot: Input | None = None,
    out: Array | None = None,
) -> Tangents:
    """Differentiate the forward along one direction of its inputs (forward mode).

    With ``r = inv_std``, ``xh = (x - mean) * r`` and ``<.>`` the mean over a channel,
    ``y_dot = gamma * r * (x_dot - <x_dot> - xh * <xh * x_dot>) + gamma_dot * xh + beta_dot + residual_dot``,
    and 0 where the ReLU was inactive; with given (frozen) statistics
    ``gamma * r * (x_dot - mean_dot - (x - mean) * r**2 * var_dot / 2)`` in place of the first term. It is
    the transpose of the backward: ``sum(y_dot * dy) == sum(x_dot * dx) + sum(gamma_dot * dgamma) + ...``.

    Parameters
    ----------
    saved : Saved
        What `batch_norm`, or `batch_norm_inference` with ``save=True``, returned.
    x_dot : array_like or None
        Tangent of ``x``; same shape and dtype. None, here and below, is zeros.
    gamma_dot, beta_dot : array_like, shape (C,), optional
        Tangents of the parameters, of any dtype.
    mean_dot, var_dot : array_like, shape (C,), optional
        Tangents of the statistics where these were given, of any dtype.
    residual_dot : array_like, optional
        Tangent of the residual where there was one; same shape and dtype as ``x``.
    out : numpy.ndarray, optional
        Where to put ``y_dot``; it may be `x_dot` or `residual_dot` itself.

    Returns
    -------
    Tangents
        Named tuple ``(y_dot, mean_dot, var_dot)``.

    Raises
    ------
    TypeError
        For a dtype other than that of ``x``, and for a `saved` that is none.
    ValueError
        For a wrong shape, a tangent of what the forward did not have, an `out` that overlaps otherwise,
        and a `saved` of a call that overwrote its own `x` (``saved.reason`` says so).

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0], [2.0], [3.0]])
    >>> y, saved = bnpp.batch_norm(x, eps=0.0)
    >>> tangents = bnpp.batch_norm_jvp(saved, np.array([[0.0], [3.0], [0.0]]))
    >>> tangents.y_dot.ravel().round(4), tangents.mean_dot, tangents.var_dot
    (array([-1.2247,  2.4495, -1.2247]), array([1.]), array([0.]))
    """
    return Tangents(
        *_core.batch_norm_jvp(
            saved, x_dot, gamma_dot, beta_dot, mean_dot, var_dot, residual_dot, out
        )
    )


def batch_norm_double_backward(
    saved: _core.Saved,
    dy: Input,
    ddx: Input | None,
    ddgamma: Input | None = None,
    ddbeta: Input | None = None,
    *,
    ddmean: Input | None = None,
    ddvar: Input | None = None,
    ddresidual: Input | None = None,
    dvar: Input | None = None,
) -> DoubleGradients | FrozenDoubleGradients:
    """Go back through the backward pass, as losses of gradients need it (second order).

    For ``L = sum(ddx * dx) + sum(ddgamma * dgamma) + sum(ddbeta * dbeta) + sum(ddresidual * dresidual)``,
    where the gradients are those of the backward at `dy`, gives the gradients of L. With
    ``g = dy`` (0 where the ReLU was inactive), ``v = ddx``, ``r = inv_std``, ``xh = (x - mean) * r``, ``<.>`` the
    mean over a channel of m values, ``A = <v * xh>`` and ``B = <g * xh>``:
    ``S = sum(g * v) - m * <g> * <v> - m * A * B``, ``d_gamma = r * S``,
    ``w = (ddgamma - gamma * r * A) * g - gamma * r * B * v``,
    ``d_x = r * (w - <w> - xh * <w * xh>) - gamma * r**2 * xh * S / m``, and ``d_dy`` is `batch_norm_jvp` of
    the dd's. The ReLU has no second derivative. Third order is not offered.

    Parameters
    ----------
    saved : Saved
        What `batch_norm`, or `batch_norm_inference` with ``save=True``, returned.
    dy : array_like
        What the backward was given; same shape and dtype as ``y``.
    ddx : array_like or None
        Gradient of L with respect to ``dx``; same shape and dtype. None, here and below, is zeros.
    ddgamma, ddbeta : array_like, shape (C,), optional
        Gradients of L with respect to ``dgamma`` and ``dbeta``, of any dtype.
    ddmean, ddvar : array_like, shape (C,), optional
        The same of the ``dmean`` and ``dvar`` that `batch_norm_inference_backward` returned.
    ddresidual : array_like, optional
        The same of ``dresidual`` where there was a residual; same shape and dtype as ``x``.
    dvar : array_like, shape (C,), optional
        What `batch_norm_backward` was given as `dvar`; it adds ``2 * dvar * (ddx - <ddx>) / m`` to ``d_x``.

    Returns
    -------
    DoubleGradients or FrozenDoubleGradients
        Named tuple ``(d_dy, d_x, d_gamma)``, with given statistics ``(d_dy, d_x, d_gamma, d_mean, d_var)``;
        the gradients of ``beta`` and of the residual are 0.

    Raises
    ------
    TypeError
        For a dtype other than that of ``x``, and for a `saved` that is none.
    ValueError
        For a wrong shape, a gradient of what the backward did not return, and a `saved` of a call that
        overwrote its own `x` (``saved.reason`` says so).

    Examples
    --------
    The square of ``dx`` as a penalty: its gradient with respect to ``dy``.

    >>> import numpy as np, bnpp
    >>> x, dy = np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [0.0], [0.0]])
    >>> y, saved = bnpp.batch_norm(x)
    >>> dx = bnpp.batch_norm_backward(dy, saved).dx
    >>> second = bnpp.batch_norm_double_backward(saved, dy, 2 * dx)
    >>> bool(np.isclose(np.sum(second.d_dy * dy), 2 * np.sum(dx**2)))  # dx is linear in dy
    True
    """
    d_dy, d_x, d_gamma, d_mean, d_var = _core.batch_norm_double_backward(
        saved, dy, ddx, ddgamma, ddbeta, ddmean, ddvar, ddresidual, dvar
    )
    if d_mean is None or d_var is None:
        return DoubleGradients(d_dy, d_x, d_gamma)
    return FrozenDoubleGradients(d_dy, d_x, d_gamma, d_mean, d_var)
