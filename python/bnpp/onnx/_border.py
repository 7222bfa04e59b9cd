"""The windows of a convolution: where they leave the input, and what that does to a shift ahead of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from bnpp.onnx._field import Float64, Stays
from bnpp.onnx._proto import attribute


class Window:
    """Kernel, strides, dilations and padding of a ``Conv`` or ``ConvTranspose`` node.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    kernel : sequence of int
        The kernel's lengths, from the weights.
    """

    def __init__(self, node: NodeProto, kernel: Sequence[int]) -> None:
        n = len(kernel)
        self.node, self.kernel = node, tuple(kernel)
        self.transposed = node.op_type == "ConvTranspose"
        self.strides = list(attribute(node, "strides", None) or [1] * n)
        self.dilations = list(attribute(node, "dilations", None) or [1] * n)
        self.pads = list(attribute(node, "pads", None) or [0] * (2 * n))
        self.extra = list(attribute(node, "output_padding", None) or [0] * n)
        mode = attribute(node, "auto_pad", b"NOTSET")
        self.auto = mode.decode() if isinstance(mode, bytes) else str(mode)
        if self.auto == "VALID":
            self.pads = [0] * (2 * n)

    def uniform(self) -> bool:
        """Tell whether every position of the output reaches the same weights."""
        points = all(length == 1 for length in self.kernel)
        if self.transposed:
            steps = all(s == 1 for s in self.strides) and not any(self.extra)
            return points and steps and not any(self.pads) and self.auto in ("NOTSET", "VALID")
        if self.auto.startswith("SAME"):
            return points
        return not any(self.pads)

    def reached(self, axis: int, length: int) -> Float64:
        """Return 1 where a position of the output (rows) reaches an input by a weight (columns), else 0.

        Raises
        ------
        Stays
            For a transposed convolution that says its output's shape instead of its padding.
        """
        n = len(self.kernel)
        stride, dilation = self.strides[axis], self.dilations[axis]
        span = (self.kernel[axis] - 1) * dilation + 1
        first, last = self.pads[axis], self.pads[axis + n]
        taps = np.arange(self.kernel[axis]) * dilation
        if self.transposed:
            if self.auto.startswith("SAME") or attribute(self.node, "output_shape", None):
                raise Stays("a ConvTranspose with output_shape or SAME padding is not corrected")
            count = stride * (length - 1) + self.extra[axis] + span - first - last
            at = np.arange(count)[:, np.newaxis] + first - taps
            return _mask((at % stride == 0) & (at >= 0) & (at < length * stride))
        if self.auto.startswith("SAME"):
            total = max((-(-length // stride) - 1) * stride + span - length, 0)
            first = total // 2 if self.auto == "SAME_UPPER" else total - total // 2
            last = total - first
        count = (length + first + last - span) // stride + 1
        at = np.arange(count)[:, np.newaxis] * stride + taps - first
        return _mask((at >= 0) & (at < length))


def _mask(inside: NDArray[np.bool_]) -> Float64:
    return np.asarray(inside, np.float64)


def border(sums: Float64, window: Window, lengths: Sequence[int]) -> Float64:
    """Return what a constant input adds at each position of the output.

    Parameters
    ----------
    sums : numpy.ndarray, shape (O, k...)
        The weights times the constant, summed over the input channels.
    window : Window
        Where the weights reach.
    lengths : sequence of int
        The spatial lengths of the input.

    Returns
    -------
    numpy.ndarray, shape (O, spatial lengths of the output)
        Sums over the weights that reach an input there.
    """
    for axis, length in enumerate(lengths):
        sums = np.tensordot(sums, window.reached(axis, length), axes=([1], [1]))
    return sums
