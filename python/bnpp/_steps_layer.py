"""The layer with statistics of each step of a sequence, and its memory between calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from bnpp import _core, _parts
from bnpp._arrays import Array, Input, as_array
from bnpp._batch_norm import (
    Activation,
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_inference_backward,
)
from bnpp._layer import AnyGradients, BatchNorm, _new_state, _State
from bnpp._modes import TwoModes
from bnpp._parts import SavedParts
from bnpp._settings import Settings
from bnpp._steps import cut_into_steps


class _Memory(NamedTuple):
    """What calls change: each step's running statistics, what the last calls saved."""

    steps: tuple[_State, ...]
    sequence: SavedParts | None = None
    single: Mapping[int, _core.Saved] = {}


class StepBatchNorm(TwoModes):
    """Batch normalization of sequences: running statistics of each step, one gamma and beta.

    A call takes a whole sequence, `step` one step of it inside a recurrent loop. In training each step is
    normalized by the batch's statistics at that step, which are taken into that step's running ones; in
    evaluation by the running ones. A step later than any seen in training uses those of the last one seen
    (Cooijmans et al. 2016, arXiv 1603.09025, section 3).

    Parameters
    ----------
    channels : int
        Number of channels, C.
    step_axis, axis : int
        The steps' and the channels' axis of sequences. The defaults are those of (T, N, C).
    **settings
        `eps`, `momentum`, `decay`, `affine`, `running_var`, `update_guard`, `on_single` ("error" or
        "biased") and `dtype` of `BatchNorm`.

    Attributes
    ----------
    gamma, beta : numpy.ndarray or None
        Shape (C,). Yours to change, in place or by assignment. The paper starts with gamma at 0.1.
    training : bool
        Whether calls use the batch's statistics; True at first. See `train` and `eval`.

    Raises
    ------
    TypeError, ValueError
        As `BatchNorm`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> layer = bnpp.StepBatchNorm(1, momentum=1.0, running_var="biased")
    >>> x = np.array([[[1.0], [3.0]], [[10.0], [30.0]]])
    >>> y = layer(x)
    >>> layer.running_mean.ravel(), layer.running_var.ravel()
    (array([ 2., 20.]), array([  1., 100.]))
    >>> layer.eval().step(np.array([[20.0], [40.0]]), 7).ravel().round(
    ...     3
    ... )  # as at the last step seen
    array([0., 2.])
    """

    def __init__(
        self, channels: SupportsIndex, *, step_axis: int = 0, axis: int = -1, **settings: Any
    ) -> None:
        # Settings, parameters and the update are those of a BatchNorm.
        with _parts.speaking_as("StepBatchNorm"):
            self._norm = BatchNorm(channels, axis=axis, **settings)
        if self._norm.on_single == "inference":
            raise ValueError(
                "StepBatchNorm: on_single is 'inference', but 'error' or 'biased' is needed"
            )
        self.step_axis = Settings("StepBatchNorm").integer("step_axis", step_axis)
        self.training = True
        self._memory = _Memory(())

    @property
    def channels(self) -> int:
        """Number of channels, C."""
        return self._norm.channels

    @property
    def axis(self) -> int:
        """The channels' axis of sequences."""
        return self._norm.axis

    @property
    def gamma(self) -> Array | None:
        """Scale; shape (C,)."""
        return self._norm.gamma

    @gamma.setter
    def gamma(self, values: Array | None) -> None:
        self._norm.gamma = values

    @property
    def beta(self) -> Array | None:
        """Shift; shape (C,)."""
        return self._norm.beta

    @beta.setter
    def beta(self, values: Array | None) -> None:
        self._norm.beta = values

    @property
    def running_mean(self) -> NDArray[np.float64]:
        """Running mean of each step seen; float64, shape (T, C), a copy."""
        return self._rows([state.mean for state in self._memory.steps])

    @property
    def running_var(self) -> NDArray[np.float64]:
        """Running variance of each step seen; float64, shape (T, C), a copy."""
        return self._rows([state.var for state in self._memory.steps])

    @property
    def count(self) -> NDArray[np.int64]:
        """Batches taken into the statistics of each step seen; shape (T,)."""
        return np.array([state.batches for state in self._memory.steps], np.int64)

    def __call__(
        self,
        x: Input,
        residual: Input | None = None,
        activation: Activation = None,
        out: Array | None = None,
        *,
        weights: Input | None = None,
    ) -> Array:
        """Normalize a whole sequence, its steps counted from 0.

        Parameters
        ----------
        x : array_like, 2 to 8 dimensions
            Steps along the layer's `step_axis`, its channels along `axis`.
        residual, activation, out
            As in `batch_norm`.
        weights : array_like, optional
            As in `step_batch_norm`; not looked at in evaluation.

        Returns
        -------
        numpy.ndarray
            Same shape, dtype and memory order as `x`.

        Raises
        ------
        TypeError, ValueError
            As `step_batch_norm`, and for another number of channels. The layer is then unchanged.
        """
        name = "StepBatchNorm"
        array = Settings(name).with_channels(x, self.axis, self.channels)
        cut, channels = cut_into_steps(array, self.step_axis, self.axis, name)
        given = None
        if not self.training:
            states = [self._statistics(t) for t in range(len(cut.of(array)))]
            given = [(state.mean, state.var) for state in states]
        rest = (residual, activation, self._norm.on_single, out, given)
        y, saved = _parts.forward(
            name,
            array,
            self.gamma,
            self.beta,
            cut,
            channels,
            self._norm.eps,
            *rest,
            weights=weights,
        )
        steps = self._memory.steps
        if self.training and saved.count > 0:
            for t, part in enumerate(saved.parts):
                steps = self._moved(steps, t, part)
        self._memory = _Memory(steps, sequence=saved)  # the one store that changes the layer
        return y

    def step(
        self,
        x: Input,
        t: SupportsIndex,
        residual: Input | None = None,
        activation: Activation = None,
        out: Array | None = None,
        *,
        weights: Input | None = None,
    ) -> Array:
        """Normalize step `t` of a sequence, inside a recurrent loop.

        Parameters
        ----------
        x : array_like, 2 to 8 dimensions
            A sequence's slice at one step, without the steps' axis: (N, C) of (T, N, C).
        t : int
            The step, from 0. In training the first after those seen is a new one.
        residual, activation, out
            As in `batch_norm`.
        weights : array_like, optional
            As in `step_batch_norm`; not looked at in evaluation.

        Returns
        -------
        numpy.ndarray
            Same shape, dtype and memory order as `x`. Step 0 lets go of what was saved before.

        Raises
        ------
        TypeError, ValueError
            As `batch_norm`, for another number of channels and a step out of range. The layer is then
            unchanged.

        Examples
        --------
        >>> import numpy as np, bnpp
        >>> layer = bnpp.StepBatchNorm(1)
        >>> for t, x in enumerate(np.array([[[1.0], [3.0]], [[10.0], [30.0]]])):
        ...     h = layer.step(x, t, activation="relu")
        >>> (
        ...     layer.backward_step(np.ones((2, 1)), 1).dbeta,
        ...     layer.backward_step(np.ones((2, 1)), 0).dbeta,
        ... )
        (array([1.]), array([1.]))
        """
        name = "StepBatchNorm.step"
        step, memory = _checked_step(t, name), self._memory
        if self.training and step > len(memory.steps):
            raise ValueError(
                f"{name}: t is {step}, but training has seen {len(memory.steps)} steps: "
                f"at most {len(memory.steps)} is needed"
            )
        axis = self._axis_of_step(as_array(x, "x", name).ndim + 1)
        array = Settings(name).with_channels(x, axis, self.channels)
        steps, parameters = memory.steps, (self.gamma, self.beta)
        more: dict[str, Any] = {"axis": axis, "eps": self._norm.eps, "activation": activation}
        more |= {"residual": residual, "out": out}
        with _parts.speaking_as(name):
            if self.training:
                on_single = self._norm.on_single
                if weights is not None:
                    more["weights"] = weights
                y, saved = batch_norm(array, *parameters, on_single=on_single, **more)
                steps = self._moved(steps, step, saved) if saved.count > 0 else steps
            else:
                state = self._statistics(step)
                given = (*parameters, state.mean, state.var)
                y, saved = batch_norm_inference(array, *given, save=True, **more)
        single = {step: saved} if step == 0 else {**memory.single, step: saved}
        self._memory = _Memory(steps, single=single)  # the one store that changes the layer
        return y

    def backward(self, dy: Input, out: Array | None = None) -> AnyGradients:
        """Go back through the last call on a whole sequence.

        Parameters
        ----------
        dy : array_like
            Gradient of what the call returned; same shape and dtype.
        out : numpy.ndarray, optional
            Where to put ``dx``; it may be `dy` itself.

        Returns
        -------
        named tuple
            As of `BatchNorm.backward`; ``dmean`` and ``dvar`` have shape (T, C).

        Raises
        ------
        RuntimeError
            If nothing is saved: before the first call, after one of `step`, in a copy.
        TypeError, ValueError
            As `batch_norm_backward`.

        Examples
        --------
        >>> import numpy as np, bnpp
        >>> layer = bnpp.StepBatchNorm(1)
        >>> y = layer(np.array([[[1.0], [3.0]], [[10.0], [30.0]]]))
        >>> layer.backward(np.ones((2, 2, 1))).dbeta
        array([4.])
        """
        if self._memory.sequence is None:
            raise RuntimeError(
                "StepBatchNorm.backward: nothing is saved, "
                "but a call of the layer on a sequence before it is needed"
            )
        return _parts.backward(
            "StepBatchNorm.backward", dy, self._memory.sequence, out, "a call of the layer"
        )

    def backward_step(self, dy: Input, t: SupportsIndex, out: Array | None = None) -> AnyGradients:
        """Go back through the last `step` with this `t`.

        Parameters
        ----------
        dy : array_like
            Gradient of what it returned; same shape and dtype.
        t : int
            The step.
        out : numpy.ndarray, optional
            Where to put ``dx``; it may be `dy` itself.

        Returns
        -------
        named tuple
            As of `BatchNorm.backward`, of this step alone: gradients of gamma and beta are to be added up
            over the steps.

        Raises
        ------
        RuntimeError
            If nothing is saved of this step.
        TypeError, ValueError
            As `batch_norm_backward`.

        Examples
        --------
        See `step`.
        """
        name = "StepBatchNorm.backward_step"
        step = _checked_step(t, name)
        saved = self._memory.single.get(step)
        if saved is None:
            raise RuntimeError(
                f"{name}: nothing is saved of step {step}, but a call of step before it is needed"
            )
        if saved.frozen:
            return batch_norm_inference_backward(dy, saved, out=out)
        return batch_norm_backward(dy, saved, out=out)

    def reset_running_stats(self) -> None:
        """Forget all steps' running statistics, and let go of what is saved.

        Examples
        --------
        >>> import bnpp
        >>> layer = bnpp.StepBatchNorm(1)
        >>> y = layer([[[1.0], [2.0]]])
        >>> layer.reset_running_stats()
        >>> layer.running_mean.shape
        (0, 1)
        """
        self._memory = _Memory(())

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return copies of parameters and running statistics.

        Returns
        -------
        dict of numpy.ndarray
            ``gamma``, ``beta`` (not without them), ``running_mean`` and ``running_var``, shape (T, C), and
            ``count``, shape (T,).

        Examples
        --------
        >>> import bnpp
        >>> {name: values.shape for name, values in bnpp.StepBatchNorm(2).state_dict().items()}
        {'gamma': (2,), 'beta': (2,), 'running_mean': (0, 2), 'running_var': (0, 2), 'count': (0,)}
        """
        state: dict[str, NDArray[Any]] = {}
        if self.gamma is not None and self.beta is not None:
            state = {"gamma": self.gamma.copy(), "beta": self.beta.copy()}
        more = {"running_mean": self.running_mean, "running_var": self.running_var}
        return {**state, **more, "count": self.count}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over parameters and running statistics.

        Parameters
        ----------
        state : mapping
            As `state_dict` returns it.

        Raises
        ------
        TypeError, ValueError
            For missing and unexpected names, wrong shapes and dtypes, a negative variance or count. The
            layer is unchanged after any error.

        Examples
        --------
        >>> import bnpp
        >>> layer, other = bnpp.StepBatchNorm(1), bnpp.StepBatchNorm(1)
        >>> y = layer([[[1.0], [2.0]]])
        >>> other.load_state_dict(layer.state_dict())
        >>> other.running_mean
        array([[0.15]])
        """
        name = "StepBatchNorm.load_state_dict"
        if not isinstance(state, Mapping):
            raise TypeError(f"{name}: state is a {type(state).__name__}, but a mapping is needed")
        if set(state) != set(self.state_dict()):
            found, needed = sorted(map(str, state)), sorted(self.state_dict())
            raise ValueError(f"{name}: state has the names {found}, but {needed} are needed")
        rows = {key: np.asarray(state[key]) for key in ("running_mean", "running_var", "count")}
        steps = rows["count"].shape[0] if rows["count"].ndim == 1 else 0
        for key, shape in {
            "count": (steps,),
            "running_mean": (steps, self.channels),
            "running_var": (steps, self.channels),
        }.items():
            if rows[key].shape != shape:
                raise ValueError(
                    f"{name}: {key} has shape {rows[key].shape}, but {shape} is needed"
                )
        # A BatchNorm of the same settings reads and checks each step's.
        norm = BatchNorm(self.channels, affine=self.gamma is not None, dtype=self._norm.dtype)
        parameters = {key: state[key] for key in ("gamma", "beta") if key in state}
        states = []
        first = {"running_mean": np.zeros(self.channels), "running_var": np.ones(self.channels)}
        with _parts.speaking_as(name):
            norm.load_state_dict({**parameters, **first, "count": 0}, "bnpp")
            gamma, beta = norm.gamma, norm.beta
            for t in range(steps):
                norm.load_state_dict(
                    {**parameters, **{key: values[t] for key, values in rows.items()}}, "bnpp"
                )
                states.append(norm._state)
        vars(self._norm).update(gamma=gamma, beta=beta)
        self._memory = _Memory(tuple(states))

    def _axis_of_step(self, ndim: int) -> int:
        """Return the channels' axis where the steps' is not there, for sequences of `ndim` dimensions."""
        steps, channels = (a + ndim if a < 0 else a for a in (self.step_axis, self.axis))
        return channels - (channels > steps)

    def _statistics(self, t: int) -> _State:
        """Return the running statistics of a step, or those of the last one before it seen."""
        for state in reversed(self._memory.steps[: t + 1]):
            if state.batches > 0:
                return state
        return self._norm._state

    def _moved(self, steps: tuple[_State, ...], t: int, saved: _core.Saved) -> tuple[_State, ...]:
        old = steps[t] if t < len(steps) else self._new_step()
        return (*steps[:t], self._norm._moved(old, saved), *steps[t + 1 :])

    def _new_step(self) -> _State:
        return _new_state(np.zeros(self.channels), np.ones(self.channels), 0)

    def _rows(self, rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.array(rows, np.float64).reshape(len(rows), self.channels)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_memory": _Memory(self._memory.steps)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Arrays come back writeable from a pickle.
        steps = tuple(_new_state(*step[:3]) for step in state["_memory"].steps)
        vars(self).update(state, _memory=_Memory(steps))

    def __repr__(self) -> str:
        settings = (
            repr(self._norm).partition("(")[2].replace(",", f", step_axis={self.step_axis},", 1)
        )
        return f"StepBatchNorm({settings}"


def _checked_step(t: SupportsIndex, where: str) -> int:
    step = Settings(where).integer("t", t)
    if step < 0:
        raise ValueError(f"{where}: t is {step}, but at least 0 is needed")
    return step
