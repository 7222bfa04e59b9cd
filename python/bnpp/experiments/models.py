"""The networks of the experiments, with random Gaussian weights.

A layer that is followed by batch normalization has no bias: the mean is subtracted, and beta takes its
place (Ioffe & Szegedy 2015, section 3.2). With and without it a network starts from the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from bnpp.experiments.layers import (
    Array,
    AveragePool,
    Convolution,
    Layer,
    Linear,
    MaxPool,
    Normalize,
    ReLU,
    Sigmoid,
)
from bnpp.experiments.network import Network

Activation = Literal["relu", "sigmoid"]


def mlp(
    sizes: Sequence[int],
    *,
    normalize: bool,
    activation: Activation,
    rng: np.random.Generator,
    std: float | None = None,
) -> Network:
    """Make a network of fully connected layers: Wu, BN, activation in each hidden one.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden layers, classes.
    normalize : bool
        Whether the hidden layers have batch normalization.
    activation : {"relu", "sigmoid"}
        Of the hidden layers.
    rng : numpy.random.Generator
        Draws the weights.
    std : float, optional
        Standard deviation of the weights; by the number of inputs if not given, see `weight_std`.

    Returns
    -------
    Network
        Takes (N, inputs), returns logits (N, classes).

    Examples
    --------
    >>> import numpy as np
    >>> net = mlp((64, 100, 10), normalize=True, activation="relu", rng=np.random.default_rng(0))
    >>> net.forward(np.zeros((2, 64), np.float32)).shape
    (2, 10)
    """
    layers: list[Layer] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        weight = gaussian((outputs, inputs), rng, std or weight_std(inputs, activation))
        layers += [
            Linear(weight, _bias(outputs, normalize)),
            *_nonlinear(outputs, normalize, activation),
        ]
    layers.append(_classifier(sizes[-2], sizes[-1], rng, std))
    return Network(layers)


def convnet(
    channels: Sequence[int],
    classes: int,
    *,
    normalize: bool,
    activation: Activation,
    rng: np.random.Generator,
) -> Network:
    """Make a convolutional network: 3 x 3 kernels, BN over N, H and W, two halvings of the image.

    Parameters
    ----------
    channels : sequence of int
        Channels of the image and of each convolution; the first two convolutions are followed by a
        2 x 2 maximum, the last by the mean over the image.
    classes : int
        Number of classes.
    normalize, activation, rng
        As in `mlp`.

    Returns
    -------
    Network
        Takes (N, channels[0], H, W) with H and W divisible by 4, returns logits (N, classes).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> net = convnet((1, 4, 8, 8), 10, normalize=True, activation="relu", rng=rng)
    >>> net.forward(np.zeros((2, 1, 8, 8), np.float32)).shape
    (2, 10)
    """
    layers: list[Layer] = []
    for i, (inputs, outputs) in enumerate(pairwise(channels)):
        weight = gaussian((outputs, inputs, 3, 3), rng, weight_std(9 * inputs, activation))
        layers.append(Convolution(weight, _bias(outputs, normalize)))
        layers += _nonlinear(outputs, normalize, activation)
        if i < 2:
            layers.append(MaxPool())
    return Network([*layers, AveragePool(), _classifier(channels[-1], classes, rng, None)])


def weight_std(inputs: int, activation: Activation | None) -> float:
    """Return the usual standard deviation of initial weights, by the number of inputs.

    sqrt(2 / inputs) before a ReLU (He et al. 2015), sqrt(1 / inputs) before a sigmoid and the softmax.

    Examples
    --------
    >>> weight_std(50, "relu"), weight_std(100, "sigmoid")
    (0.2, 0.1)
    """
    return float(np.sqrt((2 if activation == "relu" else 1) / inputs))


def gaussian(shape: tuple[int, ...], rng: np.random.Generator, std: float) -> Array:
    """Draw weights from the normal distribution around 0.

    Examples
    --------
    >>> import numpy as np
    >>> gaussian((2, 3), np.random.default_rng(0), 0.1).dtype
    dtype('float32')
    """
    return rng.normal(0.0, std, shape).astype(np.float32)


def _bias(outputs: int, normalize: bool) -> Array | None:
    return None if normalize else np.zeros(outputs, np.float32)


def _nonlinear(channels: int, normalize: bool, activation: Activation) -> list[Layer]:
    nonlinearity = ReLU() if activation == "relu" else Sigmoid()
    return [Normalize(channels), nonlinearity] if normalize else [nonlinearity]


def _classifier(inputs: int, classes: int, rng: np.random.Generator, std: float | None) -> Linear:
    weight = gaussian((classes, inputs), rng, std or weight_std(inputs, None))
    return Linear(weight, np.zeros(classes, np.float32))
