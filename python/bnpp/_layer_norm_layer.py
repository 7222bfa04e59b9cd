"""The layers of layer and root mean square normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike

from bnpp import _core
from bnpp._arrays import Array, Input, as_array
from bnpp._layer_norm import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward
from bnpp._norm_layer import NormLayer


class _FeatureNorm(NormLayer):
    """What both layers share: parameters of the features' shape, and where the features lie."""

    def __init__(
        self,
        shape: SupportsIndex | Sequence[SupportsIndex],
        axis: SupportsIndex | Sequence[SupportsIndex] | None,
        eps: float,
        affine: bool,
        dtype: DTypeLike,
    ) -> None:
        settings = self._settings()
        sizes = shape if isinstance(shape, Sequence) else (shape,)
        self.shape = tuple(settings.channels(size, "shape") for size in sizes)
        if not self.shape:
            raise ValueError(f"{settings.layer}: shape is (), but at least one size is needed")
        if axis is None:
            self.axis = tuple(range(-len(self.shape), 0))
        else:
            axes = axis if isinstance(axis, Sequence) else (axis,)
            self.axis = tuple(settings.integer("axis", a) for a in axes)
        if len(self.axis) != len(self.shape):
            raise ValueError(
                f"{settings.layer}: axis has {len(self.axis)} axes, "
                f"but one for each of the {len(self.shape)} sizes in shape is needed"
            )
        super().__init__(self.shape, eps, affine, dtype)

    def _checked(self, x: Input) -> Array:
        """Read x and compare its features, which nothing else does for a layer that is not affine."""
        name = type(self).__name__
        array = x if type(x) is np.ndarray else as_array(x, "x", name)
        axes = sorted(a + array.ndim if a < 0 else a for a in self.axis)
        if axes[0] < 0 or axes[-1] >= array.ndim:
            return array  # refused with the right reason by what comes next
        found = tuple(array.shape[a] for a in axes)
        if found != self.shape:
            raise ValueError(
                f"{name}: x has features of shape {found} along axis {self.axis}, "
                f"but the layer has {self.shape}"
            )
        return array

    def _words(self) -> tuple[list[object], dict[str, tuple[object, object]]]:
        shape = self.shape if len(self.shape) > 1 else self.shape[0]
        return [shape], {"axis": (self.axis, tuple(range(-len(self.shape), 0)))}


class LayerNorm(_FeatureNorm):
    """Layer normalization with parameters.

    Every sample is normalized by the mean and variance of its own features (Ba, Kiros & Hinton 2016,
    arXiv 1607.06450), so that training and evaluation are the same.

    Parameters
    ----------
    shape : int or sequence of int
        Sizes of the features' axes, in their order in the inputs.
    axis : int or sequence of int, optional
        The features' axes; the last ones if not given. Negative ones count from the end.
    eps : float
        Added to the variance, at least 0.
    affine : bool
        Whether there are gamma (ones at first) and beta (zeros).
    dtype : dtype
        Of gamma and beta: any the functions take. Inputs may be of any other.

    Attributes
    ----------
    gamma, beta : numpy.ndarray or None
        Of the features' shape. Yours to change, in place or by assignment.
    dgamma, dbeta : numpy.ndarray or None
        Their gradients from the last `backward`; None before.

    Raises
    ------
    TypeError
        If a size or an axis is no integer, or `dtype` is another one.
    ValueError
        For values out of range, and another number of axes than sizes.

    Notes
    -----
    Copies and pickles hold everything but what the last call saved and its gradients.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> layer = bnpp.LayerNorm(2)
    >>> layer(np.array([[1.0, 3.0], [10.0, 30.0]])).round(3)
    array([[-1.,  1.],
           [-1.,  1.]])
    >>> layer.backward(np.ones((2, 2))).dbeta
    array([2., 2.])
    >>> layer
    LayerNorm(2, eps=1e-05)
    """

    def __init__(
        self,
        shape: SupportsIndex | Sequence[SupportsIndex],
        *,
        axis: SupportsIndex | Sequence[SupportsIndex] | None = None,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(shape, axis, eps, affine, dtype)

    def __call__(
        self,
        x: Input,
        out: Array | None = None,
        *,
        weights: Input | None = None,
        save: bool = True,
    ) -> Array:
        """Normalize a batch.

        Parameters
        ----------
        x : array_like
            Any dtype the functions take, with the layer's features along its axes.
        out, weights
            As in `layer_norm`.
        save : bool
            Whether to keep what `backward` needs, which refers to `x`. False also lets go of what the
            call before saved.

        Returns
        -------
        numpy.ndarray
            Same shape, dtype and memory order as `x`.

        Raises
        ------
        TypeError, ValueError
            As `layer_norm`, and for features of another shape. The layer is then unchanged.
        """
        given = (self._checked(x), self.gamma, self.beta)
        y, saved = layer_norm(*given, axis=self.axis, eps=self.eps, weights=weights, out=out)
        self._saved = saved if save else None
        return y

    def _gradients(self, dy: Input, saved: _core.LayerNormSaved, out: Array | None) -> Any:
        return layer_norm_backward(dy, saved, out=out)


class RMSNorm(_FeatureNorm):
    """Root mean square normalization with a parameter.

    Every sample is divided by the root mean square of its own features (Zhang & Sennrich 2019, arXiv
    1910.07467), so that training and evaluation are the same.

    Parameters
    ----------
    shape : int or sequence of int
        Sizes of the features' axes, in their order in the inputs.
    axis : int or sequence of int, optional
        The features' axes; the last ones if not given. Negative ones count from the end.
    eps : float
        Added to the mean square, at least 0.
    affine : bool
        Whether there is gamma (ones at first).
    dtype : dtype
        Of gamma: any the functions take. Inputs may be of any other.

    Attributes
    ----------
    gamma : numpy.ndarray or None
        Of the features' shape. Yours to change, in place or by assignment.
    dgamma : numpy.ndarray or None
        Its gradient from the last `backward`; None before.

    Raises
    ------
    TypeError
        If a size or an axis is no integer, or `dtype` is another one.
    ValueError
        For values out of range, and another number of axes than sizes.

    Notes
    -----
    Copies and pickles hold everything but what the last call saved and its gradient.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> layer = bnpp.RMSNorm(2, eps=0.0)
    >>> layer(np.array([[1.0, 7.0]]))
    array([[0.2, 1.4]])
    >>> list(layer.state_dict("torch"))
    ['weight']
    """

    _first: ClassVar[Mapping[str, float]] = {"gamma": 1.0}

    def __init__(
        self,
        shape: SupportsIndex | Sequence[SupportsIndex],
        *,
        axis: SupportsIndex | Sequence[SupportsIndex] | None = None,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(shape, axis, eps, affine, dtype)

    def __call__(
        self,
        x: Input,
        out: Array | None = None,
        *,
        weights: Input | None = None,
        save: bool = True,
    ) -> Array:
        """Normalize a batch.

        Parameters
        ----------
        x : array_like
            Any dtype the functions take, with the layer's features along its axes.
        out, weights
            As in `rms_norm`.
        save : bool
            Whether to keep what `backward` needs, which refers to `x`. False also lets go of what the
            call before saved.

        Returns
        -------
        numpy.ndarray
            Same shape, dtype and memory order as `x`.

        Raises
        ------
        TypeError, ValueError
            As `rms_norm`, and for features of another shape. The layer is then unchanged.
        """
        y, saved = rms_norm(
            self._checked(x),
            self.gamma,
            axis=self.axis,
            eps=self.eps,
            weights=weights,
            out=out,
        )
        self._saved = saved if save else None
        return y

    def _gradients(self, dy: Input, saved: _core.LayerNormSaved, out: Array | None) -> Any:
        return rms_norm_backward(dy, saved, out=out)
