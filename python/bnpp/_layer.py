"""The stateful layer: parameters, running statistics, and what the next backward needs.

Invariant: a call changes the layer by one attribute store, its last step. So a call that raises, or that
a signal interrupts, leaves the layer as it was, and nobody ever sees half of an update.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnpp import _conventions, _core
from bnpp._arrays import Array, Input
from bnpp._batch_norm import (
    Activation,
    FrozenGradients,
    FrozenResidualGradients,
    Gradients,
    ResidualGradients,
    batch_norm_backward,
    batch_norm_inference_backward,
)
from bnpp._modes import TwoModes
from bnpp._moments import unbiased_divisor
from bnpp._settings import Settings

Vector: TypeAlias = NDArray[np.float64]
AnyGradients: TypeAlias = Gradients | ResidualGradients | FrozenGradients | FrozenResidualGradients

#: The default of `momentum` as this very object, to tell it from a 0.1 that somebody passed.
_DEFAULT_MOMENTUM = float("0.1")

_SETTINGS = Settings("BatchNorm")


class _State(NamedTuple):
    """What calls change: running statistics (read-only float64), batches seen, the last call's saved."""

    mean: Vector
    var: Vector
    batches: int
    saved: _core.Saved | None


class BatchNorm(TwoModes):
    """Batch normalization with parameters and running statistics.

    In training, a call normalizes by the statistics of its batch and moves the running ones towards
    them: ``running = (1 - momentum) * running + momentum * batch`` (Ioffe & Szegedy 2015, Algorithm 2,
    with a moving average in place of the mean over batches). In evaluation, a call normalizes by the
    running ones.

    Parameters
    ----------
    channels : int
        Number of channels, C.
    axis : int
        The channels' axis in the inputs; negative ones count from the end.
    eps : float
        Added to the variance, at least 0.
    momentum : float or None
        Weight of the new value, from 0 to 1, as in PyTorch. None takes the average over all batches
        seen: weight ``1 / k`` for the k-th.
    decay : float, optional
        Weight of the old value, ``1 - momentum``, which Keras and ONNX call momentum. Instead of
        `momentum`.
    affine : bool
        Whether there are gamma (ones at first) and beta (zeros).
    running_var : {"unbiased", "biased"}
        Which variance is averaged: M2 / (m - 1), as in Algorithm 2 and PyTorch, or M2 / m, as in Keras
        and ONNX. Normalization always uses M2 / m.
    update_guard : {None, "finite"}
        ``"finite"``: a batch whose statistics hold an Inf or NaN is normalized, but not taken into the
        running statistics nor counted.
    on_single : {"error", "biased", "inference"}
        What training does with one value a channel: refuse; use the variance 0 (also for the running
        one); normalize by the running statistics and leave them.
    dtype : dtype
        Of gamma and beta: any the functions take. Inputs may be of any other.

    Attributes
    ----------
    gamma, beta : numpy.ndarray or None
        Shape (C,). Yours to change, in place or by assignment.
    training : bool
        Whether calls use the batch's statistics; True at first. See `train` and `eval`.

    Raises
    ------
    TypeError
        If `channels` or `axis` is no integer, `dtype` is another one, or both `momentum` and `decay` are
        given.
    ValueError
        For values out of range and unknown words.

    Notes
    -----
    An empty batch leaves the running statistics as they are, and so does, in its channels, one whose
    weights there are all 0. Copies and pickles hold everything but what
    the last call saved for the backward. Calls on one layer from several threads at once must be
    serialised by the caller: the statistics of one of them may be lost, though never torn.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> layer = bnpp.BatchNorm(2)
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> layer(x).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> layer.running_mean, layer.running_var
    (array([0.2, 2. ]), array([ 1.1, 20.9]))
    >>> grads = layer.backward(np.ones((2, 2)))
    >>> layer.beta -= 0.1 * grads.dbeta.astype(layer.dtype)
    >>> layer.eval()(x).shape
    (2, 2)
    """

    gamma: Array | None
    beta: Array | None
    _state: _State

    def __init__(
        self,
        channels: SupportsIndex,
        *,
        axis: SupportsIndex = 1,
        eps: float = 1e-5,
        momentum: float | None = _DEFAULT_MOMENTUM,
        decay: float | None = None,
        affine: bool = True,
        running_var: Literal["unbiased", "biased"] = "unbiased",
        update_guard: Literal["finite"] | None = None,
        on_single: Literal["error", "biased", "inference"] = "error",
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.channels = _SETTINGS.channels(channels)
        self.axis = _SETTINGS.integer("axis", axis)
        self.eps = _SETTINGS.eps(eps)
        self.momentum = _momentum(momentum, decay)
        self.running_var_kind = _SETTINGS.word("running_var", running_var, ("unbiased", "biased"))
        self.update_guard = _SETTINGS.word("update_guard", update_guard, (None, "finite"))
        self.on_single = _SETTINGS.word("on_single", on_single, ("error", "biased", "inference"))
        self.dtype = _SETTINGS.dtype(dtype)
        self.training = True
        self.gamma = np.ones(self.channels, self.dtype) if affine else None
        self.beta = np.zeros(self.channels, self.dtype) if affine else None
        self.reset_running_stats()

    @classmethod
    def like(
        cls,
        convention: Literal["torch", "keras", "onnx"],
        channels: SupportsIndex,
        **overrides: Any,
    ) -> BatchNorm:
        """Make a layer that behaves as that framework's layer does by default.

        Parameters
        ----------
        convention : {"torch", "keras", "onnx"}
            Decides `eps`, `momentum` or `decay`, `running_var` and `axis`.
        channels : int
            Number of channels, C.
        **overrides
            Any argument of the constructor.

        Returns
        -------
        BatchNorm

        Raises
        ------
        ValueError
            For an unknown convention, and as the constructor.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.BatchNorm.like("keras", 8)
        BatchNorm(8, axis=-1, eps=0.001, momentum=0.01, running_var='biased')
        >>> bnpp.BatchNorm.like("onnx", 8, momentum=None)
        BatchNorm(8, axis=1, eps=1e-05, momentum=None, running_var='biased')
        """
        settings = dict(_conventions.convention(convention, "BatchNorm.like").settings)
        if "momentum" in overrides or "decay" in overrides:
            settings.pop("momentum", None)
            settings.pop("decay", None)
        return cls(channels, **{**settings, **overrides})

    @property
    def running_mean(self) -> Vector:
        """Running mean; float64, shape (C,), read-only: an update makes a new array."""
        return self._state.mean

    @property
    def running_var(self) -> Vector:
        """Running variance; float64, shape (C,), read-only: an update makes a new array."""
        return self._state.var

    @property
    def count(self) -> int:
        """Batches taken into the running statistics."""
        return self._state.batches

    @property
    def saved(self) -> _core.Saved | None:
        """What the last call saved for the backward; None if there is nothing."""
        return self._state.saved

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
            As in `batch_norm`.
        save : bool
            Whether to keep what `backward` needs, which refers to `x`. False also lets go of what the
            call before saved.
        weights : array_like, optional
            As in `batch_norm`: a mask, or how much each value counts in the statistics. The unbiased
            running variance is ``M2 / (W - sum(w**2) / W)``. In evaluation, where no statistics are
            taken, they are not looked at.

        Returns
        -------
        numpy.ndarray
            Same shape, dtype and memory order as `x`.

        Raises
        ------
        TypeError, ValueError
            As `batch_norm`, in evaluation as `batch_norm_inference`, and for another number of channels.
            The layer is then unchanged.
        """
        x = _SETTINGS.with_channels(x, self.axis, self.channels)
        state = self._state
        if self.training and not (self.on_single == "inference" and self._is_single(x, weights)):
            y, saved = self._normalized(x, residual, activation, out, weights)
            state = self._moved(state, saved)
            new = state._replace(saved=saved if save else None)
        else:
            y, frozen = self._normalized_by(state, x, residual, activation, out, save)
            new = state._replace(saved=frozen)
        self._state = new  # the one store that changes the layer
        return y

    def backward(self, dy: Input, out: Array | None = None) -> AnyGradients:
        """Go back through the last call.

        Parameters
        ----------
        dy : array_like
            Gradient of what the call returned; same shape and dtype.
        out : numpy.ndarray, optional
            Where to put ``dx``; it may be `dy` itself.

        Returns
        -------
        named tuple
            ``dx, dgamma, dbeta``; ``dmean, dvar`` too if the call used the running statistics;
            ``dresidual`` at the end if there was a residual.

        Raises
        ------
        RuntimeError
            If nothing is saved: before the first call, after one with ``save=False``, in a copy.
        TypeError, ValueError
            As `batch_norm_backward`.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.BatchNorm(2).backward([[1.0, 1.0]])
        Traceback (most recent call last):
        RuntimeError: BatchNorm.backward: nothing is saved, but a call of the layer before it is needed
        """
        saved = self._state.saved
        if saved is None:
            raise RuntimeError(
                "BatchNorm.backward: nothing is saved, but a call of the layer before it is needed"
            )
        if saved.frozen:
            return batch_norm_inference_backward(dy, saved, out=out)
        return batch_norm_backward(dy, saved, out=out)

    def reset_running_stats(self) -> None:
        """Set running mean, variance and count to 0, 1 and 0, and let go of what is saved.

        Examples
        --------
        >>> import bnpp
        >>> layer = bnpp.BatchNorm(1)
        >>> y = layer([[1.0], [2.0]])
        >>> layer.reset_running_stats()
        >>> layer.running_mean, layer.running_var, layer.count
        (array([0.]), array([1.]), 0)
        """
        self._state = _new_state(np.zeros(self.channels), np.ones(self.channels), 0)

    def state_dict(
        self, convention: Literal["bnpp", "torch", "keras", "onnx"] = "bnpp"
    ) -> dict[str, NDArray[Any]]:
        """Return copies of parameters and running statistics under a framework's names.

        Parameters
        ----------
        convention : {"bnpp", "torch", "keras", "onnx"}
            ``"bnpp"`` gives float64 running statistics, the others the layer's dtype. Keras and ONNX
            have no count.

        Returns
        -------
        dict of numpy.ndarray
            Without gamma and beta if the layer has none.

        Raises
        ------
        ValueError
            For an unknown convention.

        Examples
        --------
        >>> import bnpp
        >>> list(bnpp.BatchNorm(2).state_dict("torch"))
        ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
        """
        state = self._state
        whole = _conventions.LayerState(self.gamma, self.beta, state.mean, state.var, state.batches)
        return _conventions.to_dict(whole, convention, self.dtype)

    def load_state_dict(
        self,
        state: Mapping[str, object],
        convention: Literal["bnpp", "torch", "keras", "onnx"] | None = None,
    ) -> None:
        """Take over parameters and running statistics.

        Values are copied as they are. Whether the running variance goes on as biased or unbiased, and
        with which momentum, is the layer's own setting: make it with `like` to follow the framework.

        Parameters
        ----------
        state : mapping
            Arrays (or tensors) of floats by name, one value a channel. Without a count,
            which Keras and ONNX do not have, it becomes 0: an average over all batches
            (``momentum=None``) starts anew.
        convention : {"bnpp", "torch", "keras", "onnx"}, optional
            Whose names they are; recognised by them if not given.

        Raises
        ------
        TypeError
            For a dtype that bnpp does not take, and for a `state` that is no mapping.
        ValueError
            For missing and unexpected names, wrong shapes, a negative variance or count. The layer is
            unchanged after any error.

        Examples
        --------
        >>> import bnpp
        >>> layer = bnpp.BatchNorm(1, affine=False)
        >>> layer.load_state_dict({"moving_mean": [3.0], "moving_variance": [4.0]})
        >>> layer.running_mean, layer.running_var
        (array([3.]), array([4.]))
        """
        parameters = () if self.gamma is None else ("gamma", "beta")
        fields = _conventions.fields_of((self.channels,), parameters, running=True)
        new = _conventions.from_dict(state, convention, fields, self.dtype)
        # One step for the interpreter, so that a signal cannot part gamma from the statistics.
        vars(self).update(
            gamma=new.gamma,
            beta=new.beta,
            _state=_new_state(*new.running),
        )

    def _is_single(self, x: Array, weights: Input | None) -> bool:
        """Tell whether some channel has just one value (with weight)."""
        if weights is None:
            return x.size == self.channels
        moments = _core.moments(x, self.axis, weights)
        count, squares = moments[0], moments[5]
        return bool(((count > 0) & (unbiased_divisor(count, squares) == 0)).any())

    def _normalized(
        self,
        x: Array,
        residual: Input | None,
        activation: Activation,
        out: Array | None,
        weights: Input | None,
    ) -> tuple[Array, _core.Saved]:
        on_single = "biased" if self.on_single == "biased" else "error"
        given = (x, self.gamma, self.beta, self.axis, self.eps, residual, activation)
        return _core.batch_norm(*given, on_single, out, "input", weights)

    def _normalized_by(
        self,
        state: _State,
        x: Array,
        residual: Input | None,
        activation: Activation,
        out: Array | None,
        save: bool,
    ) -> tuple[Array, _core.Saved | None]:
        given = (x, self.gamma, self.beta, state.mean, state.var, self.axis, self.eps)
        if save:
            return _core.batch_norm_inference(*given, residual, activation, out, True)
        return _core.batch_norm_inference(*given, residual, activation, out, False), None

    def _moved(self, state: _State, saved: _core.Saved) -> _State:
        """Return the running statistics after a batch: the same object if it does not count."""
        m, weighted = saved.count, saved.weight is not None
        # In float64: a mean rounded to float32 could be off by a part of the standard deviation.
        count, mean, _, m2, _, squares = saved._moments()
        if m == 0 or (weighted and not count.any()):
            return state
        if self.update_guard == "finite" and not np.isfinite([mean, m2]).all():
            return state
        weight = 1 / (state.batches + 1) if self.momentum is None else self.momentum
        unbiased = self.running_var_kind == "unbiased"
        divisor: Vector | int = m - 1 if unbiased and m > 1 else m
        if weighted:
            divisor = _weighted_divisor(count, squares, unbiased)
        with np.errstate(all="ignore"):  # an Inf here is the batch's own, or the guard's business
            mean, var = mixed(state.mean, mean, weight), mixed(state.var, m2 / divisor, weight)
        if weighted:  # where nothing has weight, there is nothing new
            mean, var = np.where(count, mean, state.mean), np.where(count, var, state.var)
        return _new_state(mean, var, state.batches + 1)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_state": self._state._replace(saved=None)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Arrays come back writeable from a pickle.
        vars(self).update(state, _state=_new_state(*state["_state"][:3]))

    def __repr__(self) -> str:
        momentum = "None" if self.momentum is None else f"{self.momentum:.12g}"
        parts = [
            str(self.channels),
            f"axis={self.axis}",
            f"eps={self.eps:g}",
            f"momentum={momentum}",
        ]
        optional = {
            "affine": (self.gamma is not None, True),
            "running_var": (self.running_var_kind, "unbiased"),
            "update_guard": (self.update_guard, None),
            "on_single": (self.on_single, "error"),
            "dtype": (self.dtype.name, "float32"),
        }
        parts += [f"{key}={value!r}" for key, (value, usual) in optional.items() if value != usual]
        return f"{type(self).__name__}({', '.join(parts)})"


def _momentum(momentum: float | None, decay: float | None) -> float | None:
    if decay is not None:
        if momentum is not _DEFAULT_MOMENTUM:
            raise TypeError(
                f"BatchNorm: momentum is {momentum} and decay is {decay}, but only one is needed"
            )
        if not 0 <= _SETTINGS.number("decay", decay) <= 1:
            raise ValueError(f"BatchNorm: decay is {decay}, but a number from 0 to 1 is needed")
        return 1.0 - float(decay)
    return _SETTINGS.momentum(momentum)


def _new_state(mean: Vector, var: Vector, batches: int) -> _State:
    mean.flags.writeable = False
    var.flags.writeable = False
    return _State(mean, var, batches, None)


def _weighted_divisor(count: Vector, squares: Vector, unbiased: bool) -> Vector:
    """Return what M2 is divided by; biased where one value has all the weight."""
    if not unbiased:
        return count
    divisor = unbiased_divisor(count, squares)
    return np.where(divisor > 0, divisor, count)


def mixed(old: Vector, new: Vector, weight: float) -> Vector:
    """Move a running statistic: ``(1 - weight) * old + weight * new``.

    Parameters
    ----------
    old, new : numpy.ndarray
        The running statistic, and that of a batch.
    weight : float
        From 0 to 1; 0 wins over an Inf in `new`, and 1 over one in `old`.

    Returns
    -------
    numpy.ndarray

    Examples
    --------
    >>> mixed(np.array([1.0]), np.array([np.inf]), 0)
    array([1.])
    """
    if weight == 0:
        return old
    return new if weight == 1 else (1 - weight) * old + weight * new
