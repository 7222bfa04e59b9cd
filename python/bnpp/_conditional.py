"""Conditional batch norm: scale and shift of each sample (Dumoulin et al. 2017, arXiv 1610.07629)."""

from __future__ import annotations

from typing import Literal, overload

from bnpp import _core
from bnpp._arrays import Array, Input
from bnpp._batch_norm import (
    Activation,
    FrozenGradients,
    FrozenResidualGradients,
    Gradients,
    ResidualGradients,
)


def conditional_batch_norm(
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
) -> tuple[Array, _core.ConditionalBatchNormSaved]:
    """Normalize each channel by the batch's statistics, then scale and shift each sample by its own.

    ``y[n] = act(gamma[n] * (x[n] - mean) / sqrt(var + eps) + beta[n] + residual[n])`` with the mean and
    variance of the whole batch: Dumoulin, Shlens & Kudlur 2017 (arXiv 1610.07629), section 2.2, and de Vries
    et al. 2017 (arXiv 1707.00683), where gamma and beta follow from a style or a sentence.

    Parameters
    ----------
    x : array_like, 2 to 8 dimensions
        As in `batch_norm`, with N samples along axis 0 and C channels along `axis`.
    gamma, beta : array_like, shape (N, C), optional
        Scale and shift of each sample, of any dtype bnpp takes; 1 and 0 if not given.
    axis, eps, residual, activation, on_single, out
        As in `batch_norm`; `axis` is not 0.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`.
    saved : ConditionalBatchNormSaved
        What `conditional_batch_norm_backward` needs. Shows ``mean``, ``var``, ``inv_std`` (shape (C,)) and
        ``count``, and refers to `x` as that of `batch_norm` does.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm`, for channels along axis 0, and for a `gamma` or `beta` that is not (N, C).

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0], [3.0]])
    >>> y, saved = bnpp.conditional_batch_norm(x, [[1.0], [5.0]], [[0.0], [2.0]], eps=0.0)
    >>> y.ravel(), saved.mean
    (array([-1.,  7.]), array([2.]))
    """
    return _core.conditional_batch_norm(
        x, gamma, beta, axis, eps, residual, activation, on_single, out
    )


@overload
def conditional_batch_norm_inference(
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
def conditional_batch_norm_inference(
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
) -> tuple[Array, _core.ConditionalBatchNormSaved]: ...
def conditional_batch_norm_inference(
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
) -> Array | tuple[Array, _core.ConditionalBatchNormSaved]:
    """Normalize each channel by given statistics, then scale and shift each sample by its own.

    ``y[n] = act(gamma[n] * (x[n] - mean) / sqrt(var + eps) + beta[n] + residual[n])``: Dumoulin, Shlens &
    Kudlur 2017 (arXiv 1610.07629), section 2.2, with running statistics in place of the batch's.

    Parameters
    ----------
    x, gamma, beta, axis, eps, residual, activation, out
        As in `conditional_batch_norm`.
    mean, var : array_like, shape (C,)
        The statistics, as in `batch_norm_inference`.
    save : bool
        Whether to return also what `conditional_batch_norm_backward` needs.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`.
    saved : ConditionalBatchNormSaved
        Only with ``save=True``.

    Raises
    ------
    TypeError, ValueError
        As `conditional_batch_norm` and `batch_norm_inference`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0], [3.0]])
    >>> bnpp.conditional_batch_norm_inference(x, [[1.0], [5.0]], None, [2.0], [1.0], eps=0.0)
    array([[-1.],
           [ 5.]])
    """
    y, saved = _core.conditional_batch_norm_inference(
        x, gamma, beta, mean, var, axis, eps, residual, activation, out, bool(save)
    )
    return (y, saved) if save else y


def conditional_batch_norm_backward(
    dy: Input, saved: _core.ConditionalBatchNormSaved, *, out: Array | None = None
) -> Gradients | ResidualGradients | FrozenGradients | FrozenResidualGradients:
    """Go back through `conditional_batch_norm` or `conditional_batch_norm_inference`.

    With ``g = dy`` (0 where the ReLU was inactive), ``xh = (x - mean) * inv_std``, ``h = gamma[n] * g``, the
    mean <> over the whole batch and sums over one sample: ``dbeta[n] = sum(g)``, ``dgamma[n] = sum(g * xh)``,
    ``dx = inv_std * (h - <h> - xh * <h * xh>)``, ``dresidual = g``: the chain rule of Ioffe & Szegedy 2015,
    section 3, with the samples' own gamma. With given statistics ``dx = inv_std * h``, and `dmean`, `dvar` as
    in `batch_norm_inference_backward`.

    Parameters
    ----------
    dy : array_like
        Gradient of ``y``; same shape and dtype.
    saved : ConditionalBatchNormSaved
        What the forward returned. It can be used any number of times.
    out : numpy.ndarray, optional
        Where to put ``dx``; it may be `dy` itself.

    Returns
    -------
    Gradients, ResidualGradients, FrozenGradients or FrozenResidualGradients
        As of `batch_norm_backward` or `batch_norm_inference_backward`, with ``dgamma`` and ``dbeta`` of shape
        (N, C).

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_backward`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> y, saved = bnpp.conditional_batch_norm(np.array([[1.0], [3.0]]), eps=0.0)
    >>> bnpp.conditional_batch_norm_backward(np.array([[2.0], [1.0]]), saved).dgamma
    array([[-2.],
           [ 1.]])
    """
    dx, dgamma, dbeta, dmean, dvar, dresidual = _core.conditional_batch_norm_backward(
        dy, saved, out
    )
    if saved.frozen:
        if dresidual is None:
            return FrozenGradients(dx, dgamma, dbeta, dmean, dvar)
        return FrozenResidualGradients(dx, dgamma, dbeta, dmean, dvar, dresidual)
    if dresidual is None:
        return Gradients(dx, dgamma, dbeta)
    return ResidualGradients(dx, dgamma, dbeta, dresidual)
