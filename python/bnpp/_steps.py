"""Batch norm with the statistics of each step of a sequence (Cooijmans et al. 2016, arXiv 1603.09025)."""

from __future__ import annotations

from typing import Literal

from bnpp import _parts
from bnpp._arrays import Array, Input, as_array
from bnpp._batch_norm import Activation, Gradients, ResidualGradients
from bnpp._parts import SavedParts


def step_batch_norm(
    x: Input,
    gamma: Input | None = None,
    beta: Input | None = None,
    *,
    step_axis: int = 0,
    axis: int = -1,
    eps: float = 1e-5,
    residual: Input | None = None,
    activation: Activation = None,
    on_single: Literal["error", "biased"] = "error",
    out: Array | None = None,
    weights: Input | None = None,
) -> tuple[Array, SavedParts]:
    """Normalize each step of a sequence by its own statistics.

    `batch_norm` of every step, with one gamma and beta: Cooijmans, Ballas, Laurent, Gulcehre & Courville
    2016 (arXiv 1603.09025), section 3. A sequence of one step is `batch_norm` bit for bit.

    Parameters
    ----------
    x : array_like, 2 to 8 dimensions
        A dtype `batch_norm` takes, any strides; T steps along `step_axis`, C channels along `axis`.
    gamma, beta : array_like, shape (C,), optional
        Scale and shift of all steps; 1 and 0 if not given.
    step_axis, axis : int
        The steps' and the channels' axis. The defaults are those of (T, N, C).
    eps, residual, activation
        As in `batch_norm`.
    on_single : {"error", "biased"}
        What to do when a step has one value a channel: refuse before anything is computed, or use the
        variance 0.
    out : numpy.ndarray, optional
        Where to put ``y``, as in `batch_norm`.
    weights : array_like, optional
        As in `batch_norm`: a mask, or how much each value counts in the statistics of its step. They
        broadcast to the shape of `x`.
        Of sequences of different lengths in (T, N, C) they are ``(t < length)[..., None]``.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`.
    saved : SavedParts
        What `step_batch_norm_backward` needs. Shows ``mean``, ``var`` and ``inv_std``, of shape (T, C), and
        ``parts``, the `Saved` of each step.

    Raises
    ------
    TypeError
        As `batch_norm`, and for a `step_axis` that is no integer.
    ValueError
        As `batch_norm`, and for a `step_axis` out of range or the channels' own.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[[1.0], [3.0]], [[10.0], [30.0]]])  # two steps of two samples
    >>> y, saved = bnpp.step_batch_norm(x, eps=0.0)
    >>> y.ravel(), saved.mean.ravel()
    (array([-1.,  1., -1.,  1.]), array([ 2., 20.]))
    """
    name = "step_batch_norm"
    array = as_array(x, "x", name)
    cut, channels = cut_into_steps(array, step_axis, axis, name)
    rest = (residual, activation, on_single, out)
    return _parts.forward(name, array, gamma, beta, cut, channels, eps, *rest, weights=weights)


def step_batch_norm_backward(
    dy: Input, saved: SavedParts, *, out: Array | None = None
) -> Gradients | ResidualGradients:
    """Go back through `step_batch_norm`.

    ``dx`` of each step is that of `batch_norm_backward`; ``dgamma`` and ``dbeta`` are the sums over the
    steps, added in float64 in a fixed order and rounded once.

    Parameters
    ----------
    dy : array_like
        Gradient of ``y``; same shape and dtype.
    saved : SavedParts
        What the forward returned.
    out : numpy.ndarray, optional
        Where to put ``dx``; it may be `dy` itself.

    Returns
    -------
    Gradients or ResidualGradients
        As of `batch_norm_backward`.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_backward`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> y, saved = bnpp.step_batch_norm(np.array([[[1.0], [3.0]], [[10.0], [30.0]]]), eps=0.0)
    >>> bnpp.step_batch_norm_backward(np.ones((2, 2, 1)), saved).dbeta
    array([4.])
    """
    gradients = _parts.backward("step_batch_norm_backward", dy, saved, out, "step_batch_norm")
    assert isinstance(gradients, (Gradients, ResidualGradients))
    return gradients


def cut_into_steps(x: Array, step_axis: int, axis: int, where: str) -> tuple[_parts.Cut, int]:
    """Return how x is cut into steps, and the channels' axis counted from 0."""
    steps = _parts.axis_of(where, "step_axis", step_axis, x)
    channels = _parts.axis_of(where, "axis", axis, x)
    if steps == channels:
        raise ValueError(
            f"{where}: step_axis is {step_axis}, which is the channels' axis, but another one is needed"
        )
    return _parts.Cut(steps, 1, "step"), channels
