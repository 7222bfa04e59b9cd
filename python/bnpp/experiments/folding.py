"""A trained network folded for inference, and a bound on how far its outputs can move.

Every batch normalization disappears into the linear layer or convolution before it (`bnpp.fold_linear`,
`bnpp.fold_conv`). The other layers stay as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import bnpp
from bnpp.experiments.layers import (
    AveragePool,
    Convolution,
    Layer,
    Linear,
    Normalize,
    Sigmoid,
)
from bnpp.experiments.network import Network

#: Half of the distance from 1 to the next number, by the type of the images.
ROUNDOFF = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}

#: How far a computed sigmoid may be from the true one, in units of `ROUNDOFF`: a tanh within 4 units in
#: the last place, halved, and the rounding of the sum.
SIGMOID_ERROR = 5


class FoldedNetwork(NamedTuple):
    """A folded network and what folding did to each of its linear layers and convolutions."""

    network: Network
    reports: list[bnpp.FoldReport]


def fold(network: Network) -> FoldedNetwork:
    """Return a network for inference without batch normalization; the given one stays as it is.

    Parameters
    ----------
    network : Network
        Each batch normalization directly follows a linear layer or a convolution.

    Returns
    -------
    FoldedNetwork

    Examples
    --------
    >>> import numpy as np
    >>> from bnpp.experiments.models import mlp
    >>> net = mlp((4, 3, 2), normalize=True, activation="relu", rng=np.random.default_rng(0))
    >>> [type(layer).__name__ for layer in fold(net).network.layers]
    ['Linear', 'ReLU', 'Linear']
    """
    layers: list[Layer] = []
    reports = []
    following = [*network.layers[1:], Layer()]
    for layer, after in zip(network.layers, following, strict=True):
        if isinstance(layer, (Linear, Convolution)):
            folded = _folded(layer, after)
            layers.append(type(layer)(folded.weight, folded.bias))
            reports.append(folded.report)
        elif not isinstance(layer, Normalize):
            layers.append(layer)
    return FoldedNetwork(Network(layers), reports)


def _folded(layer: Linear | Convolution, after: Layer) -> bnpp.Folded:
    weight, bias = layer.parameters["weight"], layer.parameters.get("bias")
    if isinstance(after, Normalize):
        gamma, beta = after.parameters["gamma"], after.parameters["beta"]
        map_ = bnpp.affine(gamma, beta, after.mean, after.var, after.eps)
    else:
        map_ = bnpp.Affine.identity(len(weight))
    fold_one = bnpp.fold_linear if isinstance(layer, Linear) else bnpp.fold_conv
    return fold_one(weight, bias, after=map_)


def fold_bound(network: Network, folded: FoldedNetwork, x: NDArray[Any]) -> NDArray[Any]:
    """Bound the difference between the logits of both networks, computed in the dtype of `x`.

    In float32 that is what a user sees, with the rounding of all sums in both networks. In float64 almost
    nothing is left but what folding did: it rounded the folded weights once, to float32.

    The bound e goes through the layers as the images do. With inputs of magnitude M or less it becomes
    ``|W'| e + report.bound(M)`` in a folded layer, and once more that bound's part from the arithmetic,
    because the folded layer works on another input. A sigmoid multiplies it by its largest slope within e,
    and adds the errors of two evaluations. Maximum and mean pass it on.

    Parameters
    ----------
    network : Network
        Before folding.
    folded : FoldedNetwork
        What `fold` made of it.
    x : numpy.ndarray of float32 or float64
        The images.

    Returns
    -------
    numpy.ndarray, shape (N, classes)
        For each logit of each image.
    """
    originals = [layer for layer in network.layers if not isinstance(layer, Normalize)]
    largest = _largest_inputs(network, x)
    unit = ROUNDOFF[x.dtype]
    reports = iter(folded.reports)
    h: NDArray[Any] = x
    e: NDArray[Any] = np.zeros(x.shape)
    for layer, original in zip(folded.network.layers, originals, strict=True):
        size = max(largest[original], float(np.abs(h).max()))
        if isinstance(layer, (Linear, Convolution)):
            e = _through_weights(layer, e, next(reports), size, unit)
        elif isinstance(layer, Sigmoid):
            nearest = np.maximum(np.abs(h.astype(np.float64)) - e, 0)
            e = e / (4 * np.cosh(nearest / 2) ** 2) + 2 * SIGMOID_ERROR * unit
        else:
            e = layer.forward(e, training=False)
        if isinstance(layer, AveragePool):
            e = e + 2 * (h.shape[2] * h.shape[3] + 1) * unit * size
        h = layer.forward(h, training=False)
    return e


def _through_weights(
    layer: Linear | Convolution, e: NDArray[Any], report: bnpp.FoldReport, size: float, unit: float
) -> NDArray[Any]:
    """Apply the same layer to e, with |W'| for the weights and its own bound for the bias."""
    whole = report.bound(size, unit_roundoff=unit)
    own = whole + (whole - report.bound(size))
    weight = np.abs(layer.parameters["weight"].astype(np.float64))
    return type(layer)(weight, own).forward(e, training=False)


def _largest_inputs(network: Network, x: NDArray[Any]) -> dict[Layer, float]:
    """Return the largest magnitude of what each layer gets."""
    sizes = {}
    for layer in network.layers:
        sizes[layer] = float(np.abs(x).max())
        x = layer.forward(x, training=False)
    return sizes
