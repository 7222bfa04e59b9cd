"""Layers of a small network: each goes forward, keeps what its backward needs, and goes back.

A layer's parameters and their gradients are two dictionaries with the same names. ``backward`` takes the
gradient of the loss with respect to what the last training ``forward`` returned, stores the gradients of
the parameters and returns that of the input. Images are (N, C, H, W), rows of features are (N, C).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

import bnpp

#: float32 in all that trains; inference takes float64 images too.
Array = NDArray[np.floating[Any]]


class Layer:
    """The base of all layers, which returns its input."""

    def __init__(self) -> None:
        self.parameters: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}

    def forward(self, x: Array, training: bool) -> Array:  # noqa: ARG002
        """Return the layer's output; only with `training` keep what the backward needs."""
        return x

    def backward(self, dy: Array) -> Array:
        """Return the gradient of the input of the last forward in training."""
        return dy


class Linear(Layer):
    """``y = x W^T + b`` on rows; W has the shape (outputs, inputs)."""

    def __init__(self, weight: Array, bias: Array | None) -> None:
        super().__init__()
        self.parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}

    def forward(self, x: Array, training: bool) -> Array:
        """Multiply by the weights and add the bias, if there is one."""
        if training:
            self.x = x
        y: Array = x @ self.parameters["weight"].T
        if "bias" in self.parameters:
            y += self.parameters["bias"]
        return y

    def backward(self, dy: Array) -> Array:
        """Take dW = dy^T x, db = the sum of dy over the rows, and return dx = dy W."""
        self.gradients["weight"] = dy.T @ self.x
        if "bias" in self.parameters:
            self.gradients["bias"] = dy.sum(axis=0)
        dx: Array = dy @ self.parameters["weight"]
        return dx


class Convolution(Layer):
    """A convolution with stride 1 that keeps the size of the image: zeros around it, odd kernels.

    W has the shape (outputs, inputs, k, k). Every window of the image becomes a column, and the
    convolution is then one product of matrices for each image.
    """

    def __init__(self, weight: Array, bias: Array | None) -> None:
        super().__init__()
        self.parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}

    def forward(self, x: Array, training: bool) -> Array:
        """Take the product of the kernels with each window, and add the bias, if there is one."""
        weight = self.parameters["weight"]
        n, _, height, width = x.shape
        columns = _columns(x, weight.shape[-1])
        if training:
            self.columns, self.shape = columns, x.shape
        y: Array = (weight.reshape(len(weight), -1) @ columns).reshape(n, -1, height, width)
        if "bias" in self.parameters:
            y += self.parameters["bias"][:, None, None]
        return y

    def backward(self, dy: Array) -> Array:
        """As for `Linear`, with each column's gradient added where its window was."""
        weight = self.parameters["weight"]
        n, outputs, _, _ = dy.shape
        rows = dy.reshape(n, outputs, -1)
        dweight = (rows @ self.columns.transpose(0, 2, 1)).sum(axis=0)
        self.gradients["weight"] = dweight.reshape(weight.shape)
        if "bias" in self.parameters:
            self.gradients["bias"] = dy.sum(axis=(0, 2, 3))
        return _images(weight.reshape(outputs, -1).T @ rows, self.shape, weight.shape[-1])


def _columns(x: Array, kernel: int) -> Array:
    """(N, C, H, W) to (N, C*k*k, H*W): the windows around each position, copied from a strided view."""
    pad = kernel // 2
    n, channels, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))  # (N, C, H, W, k, k)
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, channels * kernel**2, height * width)


def _images(columns: Array, shape: tuple[int, ...], kernel: int) -> Array:
    """Add every value where `_columns` took it from: its transpose."""
    pad = kernel // 2
    n, channels, height, width = shape
    windows = columns.reshape(n, channels, kernel, kernel, height, width)
    padded = np.zeros((n, channels, height + 2 * pad, width + 2 * pad), columns.dtype)
    for i in range(kernel):
        for j in range(kernel):
            padded[:, :, i : i + height, j : j + width] += windows[:, :, i, j]
    return padded[:, :, pad : pad + height, pad : pad + width]


class Normalize(Layer):
    """Batch normalization of rows or feature maps, for training and inference.

    The example of how `bnpp.batch_norm` and `bnpp.batch_norm_backward` are used. (`bnpp.BatchNorm` is
    the same in one object.) ``mean`` and ``var`` are the statistics for inference: in training a moving
    average of those of the batches, later whatever `bnpp.moments` says of the whole training set.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.parameters = {
            "gamma": np.ones(channels, np.float32),
            "beta": np.zeros(channels, np.float32),
        }
        self.mean, self.var = np.zeros(channels), np.ones(channels)
        self.saved: bnpp.Saved | None = None

    def forward(self, x: Array, training: bool) -> Array:
        """Normalize by the batch in training (Algorithm 1), by ``mean`` and ``var`` otherwise."""
        gamma, beta = self.parameters["gamma"], self.parameters["beta"]
        if not training:
            return bnpp.batch_norm_inference(x, gamma, beta, self.mean, self.var, eps=self.eps)
        y, self.saved = bnpp.batch_norm(x, gamma, beta, eps=self.eps)
        return y

    def backward(self, dy: Array) -> Array:
        """Go back through the statistics too: `bnpp.batch_norm_backward` knows them from ``saved``."""
        assert self.saved is not None, "forward in training comes first"
        dx, dgamma, dbeta = bnpp.batch_norm_backward(dy, self.saved)[:3]
        self.gradients = {"gamma": dgamma, "beta": dbeta}
        return dx

    def track(self) -> None:
        """Move ``mean`` and ``var`` towards those of the last batch; the variance is the unbiased one."""
        assert self.saved is not None, "forward in training comes first"
        m = self.saved.count
        self.mean = (1 - self.momentum) * self.mean + self.momentum * self.saved.mean
        self.var = (1 - self.momentum) * self.var + self.momentum * self.saved.var * (m / (m - 1))


class Sigmoid(Layer):
    """``1 / (1 + exp(-x))``."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute it by the tanh, which cannot overflow."""
        y: Array = np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5)
        if training:
            self.y = y
        return y

    def backward(self, dy: Array) -> Array:
        """Multiply by the derivative, y (1 - y)."""
        dx: Array = dy * self.y * (1 - self.y)
        return dx


class ReLU(Layer):
    """``max(x, 0)``."""

    def forward(self, x: Array, training: bool) -> Array:
        """Cut off what is negative."""
        y = np.maximum(x, np.float32(0))
        if training:
            self.positive = y > 0
        return y

    def backward(self, dy: Array) -> Array:
        """Let the gradient pass where the output was positive."""
        dx: Array = dy * self.positive
        return dx


class MaxPool(Layer):
    """The largest value of each 2 x 2 square; the image's sides are even."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compare the four corners of all squares at once."""
        y: Array = np.maximum.reduce([x[corner] for corner in _CORNERS])
        if training:
            self.x, self.y = x, y
        return y

    def backward(self, dy: Array) -> Array:
        """Give the gradient to the first of the largest values."""
        dx = np.empty_like(self.x)
        free = np.ones(dy.shape, bool)
        for corner in _CORNERS:
            largest = free & (self.x[corner] == self.y)
            dx[corner] = dy * largest
            free &= ~largest
        return dx


class AveragePool(Layer):
    """The mean over each image: (N, C, H, W) to (N, C)."""

    def forward(self, x: Array, training: bool) -> Array:
        """Take the mean over the two last axes."""
        if training:
            self.shape = x.shape
        y: Array = x.mean(axis=(2, 3))
        return y

    def backward(self, dy: Array) -> Array:
        """Every position has the same share."""
        share = dy / np.float32(self.shape[2] * self.shape[3])
        return np.broadcast_to(share[:, :, None, None], self.shape).copy()


_CORNERS: list[tuple[Any, ...]] = [
    (..., slice(i, None, 2), slice(j, None, 2)) for i in (0, 1) for j in (0, 1)
]


def softmax_cross_entropy(logits: Array, labels: NDArray[np.intp]) -> tuple[float, Array]:
    """Return the mean cross-entropy of the softmax of `logits`, and its gradient for `logits`.

    Parameters
    ----------
    logits : numpy.ndarray, shape (N, classes)
        What the network returned.
    labels : numpy.ndarray of integers, shape (N,)
        The right classes.

    Returns
    -------
    loss : float
        The mean over the batch of ``-log softmax(logits)[label]``.
    dlogits : numpy.ndarray, shape (N, classes)
        ``(softmax(logits) - one_hot(labels)) / N``.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 4), np.float32), np.array([2]))
    >>> round(loss, 4), dlogits
    (1.3863, array([[ 0.25,  0.25, -0.75,  0.25]], dtype=float32))
    """
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)  # so that exp cannot overflow
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(sums[:, 0]) - shifted[rows, labels]))
    dlogits: Array = exponentials / sums
    dlogits[rows, labels] -= 1
    dlogits /= np.float32(len(labels))
    return loss, dlogits
