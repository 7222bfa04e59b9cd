"""Batch renormalization: batch statistics corrected towards running ones (Ioffe 2017, arXiv 1702.03275)."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, SupportsIndex

from bnpp import _core
from bnpp._arrays import Array, Input
from bnpp._batch_norm import Activation, Gradients, ResidualGradients
from bnpp._layer import AnyGradients, BatchNorm
from bnpp._settings import Settings

_SETTINGS = Settings("BatchRenorm")


def batch_renorm(
    x: Input,
    gamma: Input | None = None,
    beta: Input | None = None,
    *,
    running_mean: Input,
    running_var: Input,
    r_max: float = 3.0,
    d_max: float = 5.0,
    axis: int = 1,
    eps: float = 1e-5,
    residual: Input | None = None,
    activation: Activation = None,
    on_single: Literal["error", "biased"] = "error",
    out: Array | None = None,
) -> tuple[Array, _core.Saved]:
    """Normalize each channel by the batch's statistics, corrected towards the running ones.

    ``y = act(gamma * (xh * r + d) + beta + residual)`` with ``xh = (x - mean) / s_B``,
    ``r = clip(s_B / s, 1 / r_max, r_max)``, ``d = clip((mean - running_mean) / s, -d_max, d_max)``,
    ``s_B = sqrt(var + eps)`` and ``s = sqrt(running_var + eps)``: Ioffe 2017 (arXiv 1702.03275),
    Algorithm 1. Where nothing is clipped this is `batch_norm_inference` with the running statistics, but
    its backward goes through the batch's. With ``r_max=1, d_max=0`` it is `batch_norm`, bit for bit.

    Parameters
    ----------
    x : array_like, 2 to 8 dimensions
        As in `batch_norm`; C channels along `axis`.
    gamma, beta : array_like, shape (C,), optional
        Scale and shift; 1 and 0 if not given.
    running_mean, running_var : array_like, shape (C,)
        The running statistics before this batch; no variance is negative.
    r_max, d_max : float
        How far the correction may go: at least 1 and at least 0. Infinity is no limit.
    axis, eps, residual, activation, on_single, out
        As in `batch_norm`.

    Returns
    -------
    y : numpy.ndarray
        Same shape, dtype and memory order as `x`.
    saved : Saved
        What `batch_renorm_backward` needs. As that of `batch_norm`, and shows ``r`` and ``d``, shape (C,).

    Raises
    ------
    TypeError, ValueError
        As `batch_norm`, for ``r_max < 1``, ``d_max < 0`` and a negative variance.

    Notes
    -----
    Where both s_B and s are 0 (constant channels with ``eps=0``), r is 1, and d is 0 if the means are equal.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0], [3.0]])
    >>> y, saved = bnpp.batch_renorm(x, running_mean=[0.0], running_var=[4.0], eps=0.0)
    >>> y.ravel(), saved.r, saved.d  # (x - 0) / 2
    (array([0.5, 1.5]), array([0.5]), array([1.]))
    """
    return _core.batch_renorm(
        x,
        gamma,
        beta,
        running_mean,
        running_var,
        r_max,
        d_max,
        axis,
        eps,
        residual,
        activation,
        on_single,
        out,
    )


def batch_renorm_backward(
    dy: Input, saved: _core.Saved, *, out: Array | None = None
) -> Gradients | ResidualGradients:
    """Go back through `batch_renorm`, of which r and d are constants.

    With ``g = dy`` (0 where the ReLU was inactive): ``dbeta = sum(g)``, ``dgamma = sum(g * (xh * r + d))``,
    ``dx = gamma * r * inv_std * (g - sum(g) / m - xh * sum(g * xh) / m)``, ``dresidual = g``: Ioffe 2017
    (arXiv 1702.03275), section 3.

    Parameters
    ----------
    dy : array_like
        Gradient of ``y``; same shape and dtype.
    saved : Saved
        What the forward returned. It can be used any number of times.
    out : numpy.ndarray, optional
        Where to put ``dx``; it may be `dy` itself.

    Returns
    -------
    Gradients or ResidualGradients
        As of `batch_norm_backward`.

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_backward`, and for a `saved` of another function.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> x = np.array([[1.0], [3.0]])
    >>> y, saved = bnpp.batch_renorm(x, running_mean=[0.0], running_var=[4.0], eps=0.0)
    >>> bnpp.batch_renorm_backward(np.array([[0.0], [1.0]]), saved).dgamma  # that sample's y
    array([1.5])
    """
    dx, dgamma, dbeta, dresidual = _core.batch_renorm_backward(dy, saved, out)
    if dresidual is None:
        return Gradients(dx, dgamma, dbeta)
    return ResidualGradients(dx, dgamma, dbeta, dresidual)


class Limits(NamedTuple):
    """How far a correction may go.

    Attributes
    ----------
    r_max, d_max : float
        As in `batch_renorm`.
    """

    r_max: float
    d_max: float


class BatchRenorm(BatchNorm):
    """`BatchNorm` whose training corrects the batch's statistics towards the running ones.

    A call in training is `batch_renorm` with the running statistics before the call, which then move as in
    `BatchNorm`. In evaluation it is `BatchNorm`. The limits of the correction follow the number of batches
    counted: none at all (plain batch norm) for the first `warmup`, then linearly to `r_max` at batch
    `r_end` and to `d_max` at batch `d_end`.

    Parameters
    ----------
    channels : int
        Number of channels, C.
    r_max, d_max : float
        The limits at the end: at least 1 and at least 0.
    warmup, r_end, d_end : int
        Batches after which the limits begin to move, and at which each has arrived; not before `warmup`.
    **settings
        Those of `BatchNorm`. The defaults are ``momentum=0.01``, the paper's, and
        ``running_var="biased"``, so that r is 1 where the batch's variance is the running one.

    Raises
    ------
    TypeError, ValueError
        As `BatchNorm`, and for limits and a schedule out of range.

    Notes
    -----
    The defaults are those of Ioffe 2017 (arXiv 1702.03275), section 4.2. The paper averages standard
    deviations; here as in `BatchNorm` it is variances.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> layer = bnpp.BatchRenorm(1, warmup=1, r_end=3, d_end=2)
    >>> x = np.array([[1.0], [3.0]])
    >>> for batch in range(4):
    ...     print(layer.limits)
    ...     y = layer(x)
    Limits(r_max=1.0, d_max=0.0)
    Limits(r_max=1.0, d_max=0.0)
    Limits(r_max=2.0, d_max=5.0)
    Limits(r_max=3.0, d_max=5.0)
    """

    def __init__(
        self,
        channels: SupportsIndex,
        *,
        r_max: float = 3.0,
        d_max: float = 5.0,
        warmup: SupportsIndex = 5000,
        r_end: SupportsIndex = 40000,
        d_end: SupportsIndex = 25000,
        **settings: Any,
    ) -> None:
        if "decay" not in settings:
            settings.setdefault("momentum", 0.01)
        settings.setdefault("running_var", "biased")
        super().__init__(channels, **settings)
        self.r_max, self.d_max = _limit("r_max", r_max, 1), _limit("d_max", d_max, 0)
        self.warmup = _batches("warmup", warmup, 0)
        self.r_end = _batches("r_end", r_end, self.warmup)
        self.d_end = _batches("d_end", d_end, self.warmup)

    @property
    def limits(self) -> Limits:
        """The limits of the next batch in training."""
        return Limits(
            1 + (self.r_max - 1) * self._progress(self.r_end),
            self.d_max * self._progress(self.d_end),
        )

    def _progress(self, end: int) -> float:
        """Return how much of the way from `warmup` to `end` lies behind, from 0 to 1."""
        done, way = self.count - self.warmup, end - self.warmup
        return min(max(done / way, 0.0), 1.0) if way > 0 else float(done >= 0)

    def _normalized(
        self,
        x: Array,
        residual: Input | None,
        activation: Activation,
        out: Array | None,
        weights: Input | None,
    ) -> tuple[Array, _core.Saved]:
        if weights is not None:
            raise TypeError("BatchRenorm: weights are given, but it takes none")
        on_single = "biased" if self.on_single == "biased" else "error"
        given = (x, self.gamma, self.beta, self.running_mean, self.running_var, *self.limits)
        rest = (self.axis, self.eps, residual, activation, on_single, out)
        return _core.batch_renorm(*given, *rest)

    def backward(self, dy: Input, out: Array | None = None) -> AnyGradients:
        """Go back through the last call; see `BatchNorm.backward`."""
        saved = self.saved
        if saved is not None and saved.r is not None and not saved.frozen:
            return batch_renorm_backward(dy, saved, out=out)
        return super().backward(dy, out)

    def __repr__(self) -> str:
        limits = f"r_max={self.r_max:g}, d_max={self.d_max:g}"
        schedule = f"warmup={self.warmup}, r_end={self.r_end}, d_end={self.d_end}"
        return f"{super().__repr__()[:-1]}, {limits}, {schedule})"


def _limit(name: str, value: float, least: int) -> float:
    number = _SETTINGS.number(name, value)
    if not least <= number < math.inf:
        raise ValueError(
            f"BatchRenorm: {name} is {value}, but a finite number of at least {least} is needed"
        )
    return number


def _batches(name: str, value: SupportsIndex, least: int) -> int:
    number = _SETTINGS.integer(name, value)
    if number < least:
        raise ValueError(f"BatchRenorm: {name} is {number}, but at least {least} is needed")
    return number
