"""The layers of group and instance normalization."""

from __future__ import annotations

from typing import Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnpp import _conventions, _core
from bnpp._arrays import Array, Input
from bnpp._batch_norm import Activation, batch_norm_inference_backward
from bnpp._group_norm import group_norm_backward, instance_norm_backward
from bnpp._layer import mixed
from bnpp._modes import TwoModes
from bnpp._moments import unbiased_divisor
from bnpp._norm_layer import NormLayer

Vector = NDArray[np.float64]


class GroupNorm(NormLayer):
    """Group normalization with parameters.

    Every sample is normalized by the statistics of its own groups of channels (Wu & He 2018, arXiv
    1803.08494), so that training and evaluation are the same and the layer has no running statistics.

    Parameters
    ----------
    channels : int
        Number of channels, C.
    groups : int
        Number of groups, a divisor of C. (PyTorch takes it first.)
    axis : int
        The channels' axis in the inputs, not the samples' 0; negative ones count from the end.
    eps : float
        Added to the variance, at least 0.
    affine : bool
        Whether there are gamma (ones at first) and beta (zeros).
    on_single : {"error", "biased"}
        What to do with one value a group: refuse, or use the variance 0.
    dtype : dtype
        Of gamma and beta: any the functions take. Inputs may be of any other.

    Attributes
    ----------
    gamma, beta : numpy.ndarray or None
        Shape (C,). Yours to change, in place or by assignment.
    dgamma, dbeta : numpy.ndarray or None
        Their gradients from the last `backward`; None before.

    Raises
    ------
    TypeError
        If `channels`, `groups` or `axis` is no integer, or `dtype` is another one.
    ValueError
        For values out of range and unknown words.

    Notes
    -----
    Copies and pickles hold everything but what the last call saved and its gradients.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> layer = bnpp.GroupNorm(4, 2)
    >>> layer(np.array([[1.0, 3.0, 10.0, 30.0]])).round(3)
    array([[-1.,  1., -1.,  1.]])
    >>> grads = layer.backward(np.ones((1, 4)))
    >>> layer.beta -= 0.1 * layer.dbeta.astype(layer.dtype)
    >>> layer
    GroupNorm(4, 2, axis=1, eps=1e-05)
    """

    def __init__(
        self,
        channels: SupportsIndex,
        groups: SupportsIndex,
        *,
        axis: SupportsIndex = 1,
        eps: float = 1e-5,
        affine: bool = True,
        on_single: Literal["error", "biased"] = "error",
        dtype: DTypeLike = np.float32,
    ) -> None:
        settings = self._settings()
        self.channels = settings.channels(channels)
        self.groups = settings.channels(groups, "groups")
        if self.channels % self.groups:
            raise ValueError(
                f"{settings.layer}: groups is {groups}, but a divisor of {channels} channels is needed"
            )
        self.axis = settings.integer("axis", axis)
        self.on_single = settings.word("on_single", on_single, ("error", "biased"))
        super().__init__((self.channels,), eps, affine, dtype)

    def __call__(
        self,
        x: Input,
        residual: Input | None = None,
        activation: Activation = None,
        out: Array | None = None,
        *,
        save: bool = True,
        weights: Input | None = None,
    ) -> Array:
        """Normalize a batch.

        Parameters
        ----------
        x : array_like, 2 to 8 dimensions
            Any dtype the functions take, with the layer's channels along its axis.
        residual, activation, out
            As in `group_norm`.
        save : bool
            Whether to keep what `backward` needs, which refers to `x`. False also lets go of what the
            call before saved.
        weights : array_like, optional
            As in `group_norm`: a mask, or how much each value counts in the statistics.

        Returns
        -------
        numpy.ndarray
            Same shape, dtype and memory order as `x`.

        Raises
        ------
        TypeError, ValueError
            As `group_norm`, and for another number of channels. The layer is then unchanged.
        """
        array = self._settings().with_channels(x, self.axis, self.channels)
        given = (array, self.groups, self.gamma, self.beta, self.axis, self.eps)
        y, saved = _core.group_norm(*given, residual, activation, self.on_single, out, weights)
        self._saved = saved if save else None
        return y

    def _gradients(self, dy: Input, saved: _core.GroupNormSaved, out: Array | None) -> Any:
        return group_norm_backward(dy, saved, out=out)

    def _words(self) -> tuple[list[object], dict[str, tuple[object, object]]]:
        always = [self.channels, self.groups, f"axis={self.axis}"]
        return always, {"on_single": (self.on_single, "error")}


class InstanceNorm(TwoModes, NormLayer):
    """Instance normalization with parameters and, if asked for, running statistics.

    Every sample is normalized by the statistics of its own channels (Ulyanov, Vedaldi & Lempitsky 2016,
    arXiv 1607.08022). With ``track_running_stats=True``, as in PyTorch, training also moves running
    statistics towards the batch's, ``running = (1 - momentum) * running + momentum * batch``, where the
    batch's are the averages over its samples of their means and unbiased variances; evaluation then
    normalizes by the running ones.

    Parameters
    ----------
    channels : int
        Number of channels, C.
    axis : int
        The channels' axis in the inputs, not the samples' 0; negative ones count from the end.
    eps : float
        Added to the variance, at least 0.
    momentum : float or None
        Weight of the new value, from 0 to 1. None takes the average over all batches seen.
    track_running_stats : bool
        Whether there are running statistics. Without them evaluation is as training.
    affine : bool
        Whether there are gamma (ones at first) and beta (zeros). (PyTorch has none by default.)
    on_single : {"error", "biased"}
        What to do with one value a channel of a sample: refuse, or use the variance 0.
    dtype : dtype
        Of gamma and beta: any the functions take. Inputs may be of any other.

    Attributes
    ----------
    gamma, beta : numpy.ndarray or None
        Shape (C,). Yours to change, in place or by assignment.
    dgamma, dbeta : numpy.ndarray or None
        Their gradients from the last `backward`; None before.
    training : bool
        Whether calls use the samples' statistics; True at first. See `train` and `eval`.

    Raises
    ------
    TypeError
        If `channels` or `axis` is no integer, or `dtype` is another one.
    ValueError
        For values out of range and unknown words.

    Notes
    -----
    An empty batch, or one without weight, leaves the running statistics as they are, and so does each
    channel without weight. Copies and pickles hold everything but what
    the last call saved and its gradients.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> layer = bnpp.InstanceNorm(1, track_running_stats=True)
    >>> layer(np.array([[[1.0, 3.0]], [[10.0, 30.0]]])).round(3)
    array([[[-1.,  1.]],
    <BLANKLINE>
           [[-1.,  1.]]])
    >>> layer.running_mean, layer.running_var
    (array([1.1]), array([11.]))
    """

    running_mean: Vector | None
    running_var: Vector | None
    count: int | None

    def __init__(
        self,
        channels: SupportsIndex,
        *,
        axis: SupportsIndex = 1,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        track_running_stats: bool = False,
        affine: bool = True,
        on_single: Literal["error", "biased"] = "error",
        dtype: DTypeLike = np.float32,
    ) -> None:
        settings = self._settings()
        self.channels = settings.channels(channels)
        self.axis = settings.integer("axis", axis)
        self.momentum = settings.momentum(momentum)
        self.track_running_stats = bool(track_running_stats)
        self.on_single = settings.word("on_single", on_single, ("error", "biased"))
        self.training = True
        super().__init__((self.channels,), eps, affine, dtype)
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Set running mean, variance and count to 0, 1 and 0, and let go of what is saved.

        Without running statistics they are None.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.InstanceNorm(2, track_running_stats=True).running_var
        array([1., 1.])
        """
        new = _conventions.LayerState(None, None)
        if self.track_running_stats:
            new = new._replace(
                running_mean=np.zeros(self.channels), running_var=np.ones(self.channels), batches=0
            )
        vars(self).update(_running(new), **self._nothing_saved())

    def __call__(
        self,
        x: Input,
        residual: Input | None = None,
        activation: Activation = None,
        out: Array | None = None,
        *,
        save: bool = True,
        weights: Input | None = None,
    ) -> Array:
        """Normalize a batch and, in training, take its statistics into the running ones.

        Parameters
        ----------
        x : array_like, 2 to 8 dimensions
            Any dtype the functions take, with the layer's channels along its axis.
        residual, activation, out
            As in `instance_norm`.
        save : bool
            Whether to keep what `backward` needs, which refers to `x`. False also lets go of what the
            call before saved.
        weights : array_like, optional
            As in `instance_norm`: a mask, or how much each value counts in the statistics. The unbiased
            variance of a sample's channel is then ``M2 / (W - sum(w**2) / W)``, and the running
            statistics take the averages over the samples in which a channel has weight. In evaluation
            by running statistics, where none are taken, they are not looked at.

        Returns
        -------
        numpy.ndarray
            Same shape, dtype and memory order as `x`.

        Raises
        ------
        TypeError, ValueError
            As `instance_norm`, in evaluation with running statistics as `batch_norm_inference`, and for
            another number of channels. The layer is then unchanged.
        """
        array = self._settings().with_channels(x, self.axis, self.channels)
        more = (self.axis, self.eps, residual, activation)
        if self.track_running_stats and not self.training:
            given = (array, self.gamma, self.beta, self.running_mean, self.running_var, *more, out)
            if save:
                y, self._saved = _core.batch_norm_inference(*given, True)
            else:
                y, self._saved = _core.batch_norm_inference(*given, False), None
            return y
        own = (array, self.gamma, self.beta, *more)
        y, saved = _core.instance_norm(*own, self.on_single, out, weights)
        new = _running(self._moved(saved)) if self.track_running_stats else {}
        vars(self).update(new, _saved=saved if save else None)
        return y

    def _moved(self, saved: _core.GroupNormSaved) -> _conventions.LayerState:
        """Return the running statistics after a batch."""
        state = self._layer_state()
        if saved.count == 0 or saved.shape[0] == 0:
            return state
        old_mean, old_var, batches = state.running
        mean, var, total, squares = saved._statistics()
        m = saved.count
        weight = 1 / (batches + 1) if self.momentum is None else self.momentum
        with np.errstate(all="ignore"):  # an Inf here is the batch's own
            if total is None or squares is None:
                mean, var = mean.mean(0), var.mean(0) * (m / (m - 1) if m > 1 else 1)
                seen = np.ones(self.channels, bool)
            else:
                mean, var, seen = _averages(mean, var, total, squares)
            if not seen.any():
                return state
            return state._replace(
                running_mean=np.where(seen, mixed(old_mean, mean, weight), old_mean),
                running_var=np.where(seen, mixed(old_var, var, weight), old_var),
                batches=batches + 1,
            )

    def _gradients(
        self, dy: Input, saved: _core.GroupNormSaved | _core.Saved, out: Array | None
    ) -> Any:
        if isinstance(saved, _core.Saved):
            return batch_norm_inference_backward(dy, saved, out=out)
        return instance_norm_backward(dy, saved, out=out)

    def _is_running(self) -> bool:
        return self.track_running_stats

    def _layer_state(self) -> _conventions.LayerState:
        statistics = (self.running_mean, self.running_var, self.count)
        return _conventions.LayerState(self.gamma, self.beta, *statistics)

    def _take(self, new: _conventions.LayerState, **more: object) -> None:
        super()._take(new, **_running(new), **more)

    def _words(self) -> tuple[list[object], dict[str, tuple[object, object]]]:
        return [self.channels, f"axis={self.axis}"], {
            "momentum": (self.momentum, 0.1),
            "track_running_stats": (self.track_running_stats, False),
            "on_single": (self.on_single, "error"),
        }


def _averages(
    mean: Vector, var: Vector, total: Vector, squares: Vector
) -> tuple[Vector, Vector, NDArray[np.bool_]]:
    """Average weighted means and unbiased variances over the samples in which a channel has weight.

    The last value tells in which channels there are such samples.
    """
    some = total > 0
    divisor = unbiased_divisor(total, squares)
    unbiased = var * np.where(divisor > 0, total / divisor, 1)  # biased where one value has it all
    samples = some.sum(0)
    means, variances = (
        np.where(some, values, 0).sum(0) / np.maximum(samples, 1) for values in (mean, unbiased)
    )
    return means, variances, samples > 0


def _running(state: _conventions.LayerState) -> dict[str, Any]:
    """Return running statistics by their names in a layer, which nobody writes to."""
    for values in (state.running_mean, state.running_var):
        if values is not None:
            values.flags.writeable = False
    return {
        "running_mean": state.running_mean,
        "running_var": state.running_var,
        "count": state.batches,
    }
