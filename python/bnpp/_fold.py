"""Folding affine maps into the linear layers beside them, and the way back for gradients.

Everything is computed by ``_core``, in float64 and rounded once; docs/folding.md has the derivations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from bnpp import _core
from bnpp._affine import Affine, AffineGradients, Vector, map_of
from bnpp._arrays import Array, Input
from bnpp._fold_report import FoldReport

#: The border that a convolution adds: widths, how they follow from the shape, or what it holds.
Padding: TypeAlias = (
    int | Sequence[int] | Sequence[Sequence[int]] | Literal["valid", "same", "pad_value"]
)


class Folded(NamedTuple):
    """A folded layer.

    Attributes
    ----------
    weight : numpy.ndarray
        Shape, dtype and memory order of the weight that came.
    bias : numpy.ndarray, shape (Cout,)
        Dtype of the bias that came, of the weight where none came.
    report : FoldReport
        What changed.
    pad_value : numpy.ndarray, shape (Cin,), or None
        With ``padding="pad_value"``: what the border of each input channel must hold, float64.
    """

    weight: Array
    bias: Array
    report: FoldReport
    pad_value: Vector | None


class FoldGradients(NamedTuple):
    """Gradients of what went into a fold.

    Attributes
    ----------
    dweight : numpy.ndarray
        Gradient of the weight; its shape, dtype and memory order.
    dbias : numpy.ndarray, shape (Cout,)
        Gradient of the bias, also where none was given (then at 0).
    dafter, dbefore : AffineGradients or None
        Gradients ``(dscale, dshift)`` of the maps; `affine_backward` goes on from there.
    """

    dweight: Array
    dbias: Array
    dafter: AffineGradients | None
    dbefore: AffineGradients | None


def fold_linear(
    weight: Input,
    bias: Input | None = None,
    *,
    after: Affine | None = None,
    before: Affine | None = None,
    layout: Literal["OI", "IO"] = "OI",
) -> Folded:
    """Fold affine maps into a linear layer ``y = W x + b``.

    With `before` (``x * s_in + t_in``) ahead of the layer and `after` (``y * s + t``) behind it:
    ``W' = s W s_in``, ``b' = s (b + sum(W t_in)) + t``. Computed in float64 and rounded once.

    Parameters
    ----------
    weight : array_like, 2 dimensions
        Of any dtype that `batch_norm` takes, any strides. It is not changed.
    bias : array_like, shape (Cout,), optional
        Of any such dtype; none is zeros, and the folded layer has one.
    after : Affine, optional
        The map that follows the layer, on its Cout output channels.
    before : Affine, optional
        The map ahead of the layer, on its Cin input channels. At least one of the two is needed.
    layout : {"OI", "IO"}
        Which axis of `weight` is the output's: ``"OI"`` is PyTorch's and Gemm's with transB, ``"IO"``
        that of Keras, of MatMul and of ``x @ weight``.

    Returns
    -------
    Folded
        Named tuple ``(weight, bias, report, pad_value)``.

    Raises
    ------
    TypeError
        For a dtype that `batch_norm` does not take, and for maps that are no `Affine`.
    ValueError
        For wrong shapes and layouts, where no map is given, and where a folded value is too large for
        its dtype.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> weight, bn = np.array([[1.0, 2.0]]), bnpp.affine([3.0], [1.0], [2.0], [9.0], eps=0.0)
    >>> folded = bnpp.fold_linear(weight, after=bn)
    >>> folded.weight, folded.bias
    (array([[1., 2.]]), array([-1.]))
    >>> ahead = bnpp.Affine([2.0, 1.0], [1.0, 0.0])
    >>> bnpp.fold_linear(weight, before=ahead)[:2]
    (array([[2., 2.]]), array([1.]))
    """
    name = "fold_linear"
    return _folded(
        *_core.fold(
            False, weight, bias, _map(name, "after", after), _map(name, "before", before), layout, 1,
            False, "none",
        )
    )  # fmt: skip


def fold_conv(
    weight: Input,
    bias: Input | None = None,
    *,
    after: Affine | None = None,
    before: Affine | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
    padding: Padding = 0,
) -> Folded:
    """Fold affine maps into a convolution, in 1 to 3 dimensions, grouped, depthwise or transposed.

    With `before` (``x * s_in + t_in``) ahead of the layer and `after` (``y * s + t``) behind it:
    ``W' = s W s_in``, ``b' = s (b + sum(W t_in)) + t``, the sum over input channels and kernel
    positions. Computed in float64 and rounded once. Strides and dilations do not matter.

    Parameters
    ----------
    weight : array_like, 3 to 6 dimensions
        Of any dtype that `batch_norm` takes, any strides. It is not changed.
    bias : array_like, shape (Cout,), optional
        Of any such dtype; none is zeros, and the folded layer has one.
    after : Affine, optional
        The map that follows the layer, on its Cout output channels.
    before : Affine, optional
        The map ahead of the layer, on its Cin input channels. At least one of the two is needed.
    layout : str, optional
        What each axis of `weight` is, a letter an axis: O output channels, I input channels, D, H, W
        kernel positions. By default that of PyTorch and ONNX: ``"OIW"``, ``"OIHW"``, ``"OIDHW"``, and
        where transposed ``"IOW"``, ``"IOHW"``, ``"IODHW"``. Keras has ``"HWIO"`` and transposed
        ``"HWOI"``. Of G groups, the axis I holds the inputs of one (transposed: O its outputs), as in
        every framework. With a letter G the groups have an axis of their own, O and I are those of
        one group, and may be left out where they are 1: a depthwise kernel of Keras, (H, W, C,
        multiplier), is ``"HWGO"``.
    groups : int
        Number of groups; not needed with a G in `layout`.
    transposed : bool
        Whether it is a transposed convolution.
    padding : int, sequence of int, "valid", "same" or "pad_value"
        Whether the layer adds a border of zeros to its input; only `before` asks. 0, zeros and
        ``"valid"``: no, and so for a border that repeats values of x. Other numbers and ``"same"``: yes,
        and a `before` that shifts cannot be folded, as the zeros would have to be shifted too.
        ``"pad_value"``: the caller will pad with ``pad_value`` instead of zeros, which makes it exact.

    Returns
    -------
    Folded
        Named tuple ``(weight, bias, report, pad_value)``.

    Raises
    ------
    TypeError
        For a dtype that `batch_norm` does not take, and for maps that are no `Affine`.
    ValueError
        For wrong shapes, layouts and groups, where no map is given, where a folded value is too large
        for its dtype, and for a `before` with a shift that no constant bias can replace: with a
        border of zeros, in a transposed convolution, and with ``"pad_value"`` in a channel of scale 0.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> weight = np.ones((2, 1, 3, 3), np.float32)  # depthwise: 2 groups of one channel
    >>> bn = bnpp.affine([3.0, 1.0], [1.0, 0.0], [2.0, 5.0], [9.0, 4.0], eps=0.0)
    >>> folded = bnpp.fold_conv(weight, after=bn, groups=2)
    >>> folded.weight[:, 0, 0, 0], folded.bias
    (array([1. , 0.5], dtype=float32), array([-1. , -2.5], dtype=float32))
    >>> bnpp.fold_conv(weight, before=bn, groups=2, padding=1)
    Traceback (most recent call last):
    ValueError: fold_conv: before has shift -1 in channel 0, which the zeros of the padding ...
    >>> folded = bnpp.fold_conv(weight, before=bn, groups=2, padding="pad_value")
    >>> folded.pad_value, folded.bias
    (array([1., 5.]), array([ -9. , -22.5], dtype=float32))
    """
    name = "fold_conv"
    return _folded(
        *_core.fold(
            True, weight, bias, _map(name, "after", after), _map(name, "before", before), layout,
            groups, bool(transposed), _border(name, padding),
        )
    )  # fmt: skip


def fold_linear_backward(
    dweight: Input,
    dbias: Input | None,
    weight: Input,
    bias: Input | None = None,
    *,
    after: Affine | None = None,
    before: Affine | None = None,
    layout: Literal["OI", "IO"] = "OI",
) -> FoldGradients:
    """Go back through `fold_linear`, to the layer and to the maps beside it.

    ``dW = s (dW' s_in + db' t_in)``, ``db = s db'``, ``dscale = sum(dW' W s_in) + db' (b + sum(W t_in))``,
    ``dshift = db'``, and for the map before ``dscale_in = sum(s dW' W)``, ``dshift_in = sum(s db' W)``.

    Parameters
    ----------
    dweight : array_like
        Gradient of the folded weight; shape and dtype of `weight`.
    dbias : array_like, shape (Cout,), or None
        Gradient of the folded bias; None is zeros.
    weight, bias, after, before, layout
        What `fold_linear` got.

    Returns
    -------
    FoldGradients
        Named tuple ``(dweight, dbias, dafter, dbefore)``.

    Raises
    ------
    TypeError, ValueError
        As `fold_linear`.

    Examples
    --------
    >>> import bnpp
    >>> bn = bnpp.affine([3.0], None, [2.0], [9.0], eps=0.0)
    >>> grads = bnpp.fold_linear_backward([[1.0, 0.0]], [1.0], [[5.0, 7.0]], after=bn)
    >>> grads.dweight, grads.dafter.dscale
    (array([[1., 0.]]), array([5.]))
    >>> bnpp.affine_backward(grads.dafter, [3.0], [2.0], [9.0], eps=0.0).dgamma
    array([1.])
    """
    name = "fold_linear_backward"
    return _gradients(
        *_core.fold_backward(
            False, dweight, dbias, weight, bias, _map(name, "after", after),
            _map(name, "before", before), layout, 1, False, "none",
        )
    )  # fmt: skip


def fold_conv_backward(
    dweight: Input,
    dbias: Input | None,
    weight: Input,
    bias: Input | None = None,
    *,
    after: Affine | None = None,
    before: Affine | None = None,
    layout: str | None = None,
    groups: int = 1,
    transposed: bool = False,
    padding: Padding = 0,
) -> FoldGradients:
    """Go back through `fold_conv`, to the layer and to the maps beside it.

    The formulas are those of `fold_linear_backward`, with sums over kernel positions too.

    Parameters
    ----------
    dweight : array_like
        Gradient of the folded weight; shape and dtype of `weight`.
    dbias : array_like, shape (Cout,), or None
        Gradient of the folded bias; None is zeros.
    weight, bias, after, before, layout, groups, transposed, padding
        What `fold_conv` got.

    Returns
    -------
    FoldGradients
        Named tuple ``(dweight, dbias, dafter, dbefore)``.

    Raises
    ------
    TypeError, ValueError
        As `fold_conv`.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> weight, bn = np.ones((1, 1, 3)), bnpp.Affine([2.0], [1.0])
    >>> grads = bnpp.fold_conv_backward(np.ones((1, 1, 3)), [1.0], weight, before=bn)
    >>> grads.dweight.ravel(), grads.dbefore.dshift
    (array([3., 3., 3.]), array([3.]))
    """
    name = "fold_conv_backward"
    return _gradients(
        *_core.fold_backward(
            True, dweight, dbias, weight, bias, _map(name, "after", after),
            _map(name, "before", before), layout, groups, bool(transposed), _border(name, padding),
        )
    )  # fmt: skip


def _map(where: str, name: str, value: Affine | None) -> _core.AffineMap | None:
    return None if value is None else map_of(value, where, name)


def _border(where: str, padding: object) -> str:
    """Say what a border holds: nothing, zeros or the pad value."""
    if isinstance(padding, str):
        try:
            return {"valid": "none", "same": "zeros", "pad_value": "pad_value"}[padding]
        except KeyError:
            raise ValueError(
                f"{where}: padding is {padding!r}, but 'valid', 'same', 'pad_value' or numbers are needed"
            ) from None
    try:
        widths = np.asarray(padding)
    except ValueError:  # nested unevenly
        widths = np.asarray(None)
    if widths.size and widths.dtype.kind not in "biu":
        raise TypeError(f"{where}: padding is {padding!r}, but integers are needed")
    return "zeros" if widths.any() else "none"


def _folded(weight: Array, bias: Array, report: dict[str, object], pad: Vector | None) -> Folded:
    return Folded(weight, bias, FoldReport(**report), pad)  # type: ignore[arg-type]


def _gradients(
    dweight: Array,
    dbias: Array,
    dafter: tuple[Vector, Vector] | None,
    dbefore: tuple[Vector, Vector] | None,
) -> FoldGradients:
    def pair(grads: tuple[Vector, Vector] | None) -> AffineGradients | None:
        return None if grads is None else AffineGradients(*grads)

    return FoldGradients(dweight, dbias, pair(dafter), pair(dbefore))
