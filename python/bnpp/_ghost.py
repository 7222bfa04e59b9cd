"""Ghost batch norm: the statistics of sub-batches (Hoffer, Hubara & Soudry 2017, arXiv 1705.08741)."""

from __future__ import annotations

from typing import Any, Literal, SupportsIndex

from bnpp import _parts
from bnpp._arrays import Array, Input, as_array
from bnpp._batch_norm import Activation, Gradients, ResidualGradients
from bnpp._layer import AnyGradients, BatchNorm
from bnpp._parts import SavedParts
from bnpp._settings import Settings


def ghost_batch_norm(
    x: Input,
    gamma: Input | None = None,
    beta: Input | None = None,
    *,
    size: SupportsIndex,
    axis: int = 1,
    eps: float = 1e-5,
    residual: Input | None = None,
    activation: Activation = None,
    on_single: Literal["error", "biased"] = "error",
    out: Array | None = None,
    weights: Input | None = None,
) -> tuple[Array, SavedParts]:
    """Normalize each sub-batch of `size` samples by its own statistics.

    `batch_norm` of ``x[0:size]``, ``x[size:2 * size]`` and so on, with one gamma and beta: Hoffer, Hubara &
    Soudry 2017 (arXiv 1705.08741), Algorithm 1. Large batches then keep the noise of small ones in their
    statistics. One sub-batch is `batch_norm` bit for bit.

    Parameters
    ----------
    x : array_like, 2 to 8 dimensions
        As in `batch_norm`, with samples along axis 0.
    gamma, beta : array_like, shape (C,), optional
        Scale and shift; 1 and 0 if not given.
    size : int
        Samples of a sub-batch, at least 1. The last one is smaller if `size` does not divide the batch.
    axis, eps, residual, activation
        As in `batch_norm`; `axis` is not 0.
    on_single : {"error", "biased"}
        What to do when a sub-batch has one value a channel, as the last one of a matrix may: refuse before
        anything is computed, or use the variance 0.
    out : numpy.ndarray, optional
        Where to put ``y``, as in `batch_norm`.
    weights : array_like, optional
        As in `batch_norm`: a mask, or how much each value counts in the statistics of its sub-batch. They
        broadcast to the shape of `x`.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`.
    saved : SavedParts
        What `ghost_batch_norm_backward` needs. Shows ``mean``, ``var`` and ``inv_std``, of shape (P, C) for
        P sub-batches, and ``parts``, the `Saved` of each.

    Raises
    ------
    TypeError
        As `batch_norm`, and for a `size` that is no integer.
    ValueError
        As `batch_norm`, for ``size < 1``, and for channels along axis 0.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0], [3.0], [10.0], [30.0]])
    >>> y, saved = bnpp.ghost_batch_norm(x, size=2, eps=0.0)
    >>> y.ravel(), saved.mean.ravel()
    (array([-1.,  1., -1.,  1.]), array([ 2., 20.]))
    """
    name = "ghost_batch_norm"
    array = as_array(x, "x", name)
    cut = _parts.Cut(0, Settings(name).channels(size, "size"), "sub-batch")
    axis = _parts.axis_of(name, "axis", axis, array)
    if axis == 0:
        raise ValueError(
            f"{name}: axis is 0, where the samples lie, but the channels need another axis"
        )
    rest = (residual, activation, on_single, out)
    return _parts.forward(name, array, gamma, beta, cut, axis, eps, *rest, weights=weights)


def ghost_batch_norm_backward(
    dy: Input, saved: SavedParts, *, out: Array | None = None
) -> Gradients | ResidualGradients:
    """Go back through `ghost_batch_norm`.

    ``dx`` of each sub-batch is that of `batch_norm_backward`; ``dgamma`` and ``dbeta`` are the sums over the
    sub-batches, added in float64 in a fixed order and rounded once.

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
    >>> y, saved = bnpp.ghost_batch_norm([[1.0], [3.0], [10.0], [30.0]], size=2, eps=0.0)
    >>> bnpp.ghost_batch_norm_backward(np.array([[0.0], [1.0], [0.0], [1.0]]), saved).dgamma
    array([2.])
    """
    name = "ghost_batch_norm_backward"
    gradients = _parts.backward(name, dy, saved, out, "ghost_batch_norm")
    assert isinstance(gradients, (Gradients, ResidualGradients))
    return gradients


class GhostBatchNorm(BatchNorm):
    """`BatchNorm` whose training normalizes by the statistics of sub-batches.

    A call in training is `ghost_batch_norm`. The running statistics move once a call, towards the moments
    of the whole batch: those of the sub-batches, merged (`Moments.merge`). In evaluation it is `BatchNorm`.

    Parameters
    ----------
    channels : int
        Number of channels, C.
    size : int
        Samples of a sub-batch, at least 1; the last one may be smaller.
    **settings
        Those of `BatchNorm`. ``on_single="inference"`` concerns a batch with one value a channel; a
        sub-batch with one is refused then.

    Raises
    ------
    TypeError, ValueError
        As `BatchNorm`, for a `size` that is no integer or below 1, and for channels along axis 0.

    Notes
    -----
    Hoffer, Hubara & Soudry 2017 (arXiv 1705.08741) move the running statistics towards each sub-batch's in
    turn; merged moments make an update that does not depend on their order and also knows how far their
    means lie apart.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> layer = bnpp.GhostBatchNorm(1, size=2, momentum=1.0)
    >>> layer(np.array([[1.0], [3.0], [10.0], [30.0]])).ravel().round(3)
    array([-1.,  1., -1.,  1.])
    >>> layer.running_mean, layer.count
    (array([11.]), 1)
    """

    def __init__(self, channels: SupportsIndex, *, size: SupportsIndex, **settings: Any) -> None:
        super().__init__(channels, **settings)
        self.size = Settings("GhostBatchNorm").channels(size, "size")
        if self.axis == 0:
            raise ValueError(
                "GhostBatchNorm: axis is 0, where the samples lie, but the channels need another axis"
            )

    def _normalized(
        self,
        x: Array,
        residual: Input | None,
        activation: Activation,
        out: Array | None,
        weights: Input | None = None,
    ) -> tuple[Array, Any]:
        on_single: Any = "biased" if self.on_single == "biased" else "error"
        return ghost_batch_norm(
            x,
            self.gamma,
            self.beta,
            size=self.size,
            axis=self.axis,
            eps=self.eps,
            residual=residual,
            activation=activation,
            on_single=on_single,
            out=out,
            weights=weights,
        )

    def backward(self, dy: Input, out: Array | None = None) -> AnyGradients:
        """Go back through the last call; see `BatchNorm.backward`."""
        saved: object = self._state.saved
        if isinstance(saved, SavedParts):
            return ghost_batch_norm_backward(dy, saved, out=out)
        return super().backward(dy, out)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, size={self.size})"
