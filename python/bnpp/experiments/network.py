"""A network is a list of layers; its state is a flat dictionary of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnpp.experiments.layers import Array, Layer, Normalize


class Network:
    """Layers one after the other.

    Parameters
    ----------
    layers : sequence of Layer
        The first gets the images, the last returns the logits.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)

    def forward(self, x: NDArray[Any], training: bool = False) -> NDArray[Any]:
        """Return the logits; float64 images are computed in float64."""
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dlogits: Array) -> None:
        """Leave in every layer the gradients of its parameters."""
        for layer in reversed(self.layers):
            dlogits = layer.backward(dlogits)

    def normalizations(self) -> list[Normalize]:
        """Return the batch normalizations in order."""
        return [layer for layer in self.layers if isinstance(layer, Normalize)]

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all parameters and statistics by name; the arrays themselves, no copies."""
        state: dict[str, NDArray[Any]] = {}
        for i, layer in enumerate(self.layers):
            state.update({f"{i}.{name}": value for name, value in layer.parameters.items()})
            if isinstance(layer, Normalize):
                state.update({f"{i}.mean": layer.mean, f"{i}.var": layer.var})
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` of the same network returned."""
        for i, layer in enumerate(self.layers):
            for name in layer.parameters:
                layer.parameters[name] = np.array(state[f"{i}.{name}"])
            if isinstance(layer, Normalize):
                layer.mean, layer.var = np.array(state[f"{i}.mean"]), np.array(state[f"{i}.var"])


def sgd(network: Network, learning_rate: float) -> None:
    """Make one step of stochastic gradient descent: ``p -= learning_rate * dp`` for all parameters."""
    rate = np.float32(learning_rate)
    for layer in network.layers:
        for name, gradient in layer.gradients.items():
            layer.parameters[name] -= rate * gradient


def batches(x: Array, size: int = 100) -> Iterator[Array]:
    """Cut the images into batches, the last of which may be smaller; 100 of them stay in the cache.

    Examples
    --------
    >>> import numpy as np
    >>> [len(batch) for batch in batches(np.zeros((5, 1), np.float32), 2)]
    [2, 2, 1]
    """
    for start in range(0, len(x), size):
        yield x[start : start + size]


def predict(network: Network, x: Array) -> NDArray[np.intp]:
    """Return the class of each image, in inference."""
    return np.concatenate([network.forward(batch).argmax(axis=1) for batch in batches(x)])


def accuracy(network: Network, x: Array, labels: NDArray[np.intp]) -> float:
    """Return the share of images whose class is right, in inference."""
    return float(np.mean(predict(network, x) == labels))
