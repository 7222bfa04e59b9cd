"""What the layers beside `BatchNorm` have in common: parameters, their gradients, and state by name.

Invariant, as in `BatchNorm`: a call, a backward or a load changes the layer in one step, its last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnpp import _conventions
from bnpp._arrays import Array, Input
from bnpp._settings import Settings

Convention: TypeAlias = Literal["bnpp", "torch", "keras", "onnx"]


class NormLayer(ABC):
    """A normalization with parameters, and what its next backward needs.

    Parameters
    ----------
    shape : tuple of int
        Of the parameters.
    eps : float
        Added to the variance, at least 0.
    affine : bool
        Whether there are parameters.
    dtype : dtype
        Of the parameters.
    """

    #: The names of the parameters, and what they are at first.
    _first: ClassVar[Mapping[str, float]] = {"gamma": 1.0, "beta": 0.0}

    gamma: Array | None
    beta: Array | None
    dgamma: Array | None
    dbeta: Array | None
    _saved: Any

    def __init__(self, shape: tuple[int, ...], eps: float, affine: bool, dtype: DTypeLike) -> None:
        settings = self._settings()
        self.eps = settings.eps(eps)
        self.dtype = settings.dtype(dtype)
        self._shape = shape
        for name, value in self._first.items():
            setattr(self, name, np.full(shape, value, self.dtype) if affine else None)
        self._let_go()

    @property
    def saved(self) -> Any:
        """What the last call saved for the backward; None if there is nothing."""
        return self._saved

    def backward(self, dy: Input, out: Array | None = None) -> Any:
        """Go back through the last call.

        The layer keeps the gradients of its parameters, as ``dgamma`` and ``dbeta``, until the next call
        of `backward`.

        Parameters
        ----------
        dy : array_like
            Gradient of what the call returned; same shape and dtype.
        out : numpy.ndarray, optional
            Where to put ``dx``; it may be `dy` itself.

        Returns
        -------
        named tuple
            What the function's backward returns: ``dx``, ``dgamma`` and so on.

        Raises
        ------
        RuntimeError
            If nothing is saved: before the first call, after one with ``save=False``, in a copy.
        TypeError, ValueError
            As the function's backward. The layer is then unchanged.
        """
        if self._saved is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: nothing is saved, "
                "but a call of the layer before it is needed"
            )
        gradients = self._gradients(dy, self._saved, out)
        if self.gamma is not None:
            vars(self).update({f"d{name}": getattr(gradients, f"d{name}") for name in self._first})
        return gradients

    def state_dict(self, convention: Convention = "bnpp") -> dict[str, NDArray[Any]]:
        """Return copies of the layer's values under a framework's names.

        Parameters
        ----------
        convention : {"bnpp", "torch", "keras", "onnx"}
            Whose names: ``gamma``, ``weight``, ``gamma``, ``scale`` and so on.

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
        >>> list(bnpp.GroupNorm(4, 2).state_dict("torch"))
        ['weight', 'bias']
        """
        return _conventions.to_dict(
            self._layer_state(), convention, self.dtype, type(self).__name__
        )

    def load_state_dict(
        self, state: Mapping[str, object], convention: Convention | None = None
    ) -> None:
        """Take over the layer's values, and let go of what is saved.

        Parameters
        ----------
        state : mapping
            Arrays (or tensors) of floats by name; they are copied.
        convention : {"bnpp", "torch", "keras", "onnx"}, optional
            Whose names they are; recognised by them if not given.

        Raises
        ------
        TypeError
            For a dtype that bnpp does not take, and for a `state` that is no mapping.
        ValueError
            For missing and unexpected names and wrong shapes. The layer is unchanged after any error.

        Examples
        --------
        >>> import bnpp
        >>> layer = bnpp.GroupNorm(2, 1)
        >>> layer.load_state_dict({"weight": [3.0, 4.0], "bias": [0.0, 0.0]})
        >>> layer.gamma
        array([3., 4.], dtype=float32)
        """
        fields = _conventions.fields_of(
            self._shape, self._first if self.gamma is not None else (), self._is_running()
        )
        new = _conventions.from_dict(state, convention, fields, self.dtype, type(self).__name__)
        self._take(new)

    def _is_running(self) -> bool:
        return False

    def _layer_state(self) -> _conventions.LayerState:
        return _conventions.LayerState(self.gamma, getattr(self, "beta", None))

    def _take(self, new: _conventions.LayerState, **more: object) -> None:
        values = {name: getattr(new, name) for name in self._first}
        # One step for the interpreter, so that a signal cannot part the values.
        vars(self).update(values, **more, **self._nothing_saved())

    def _nothing_saved(self) -> dict[str, None]:
        return dict.fromkeys(("_saved", *(f"d{name}" for name in self._first)))

    def _let_go(self) -> None:
        vars(self).update(self._nothing_saved())

    @abstractmethod
    def _gradients(self, dy: Input, saved: Any, out: Array | None) -> Any:
        """Call the backward of the layer's function."""

    @abstractmethod
    def _words(self) -> tuple[list[object], dict[str, tuple[object, object]]]:
        """Tell the settings that `repr` always shows, and the others with their usual values."""

    @classmethod
    def _settings(cls) -> Settings:
        return Settings(cls.__name__)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), **self._nothing_saved()}

    def __repr__(self) -> str:
        always, others = self._words()
        others |= {
            "affine": (self.gamma is not None, True),
            "dtype": (self.dtype.name, "float32"),
        }
        parts = [str(part) for part in always] + [f"eps={self.eps:g}"]
        parts += [f"{key}={value!r}" for key, (value, usual) in others.items() if value != usual]
        return f"{type(self).__name__}({', '.join(parts)})"
