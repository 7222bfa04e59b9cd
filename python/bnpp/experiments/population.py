"""Population statistics for inference: Algorithm 2 of Ioffe & Szegedy 2015, by `bnpp.Moments`.

Two ways to them. `algorithm_2` goes through mini-batches as in training, one pass for all layers.
`whole_set` goes layer by layer, each seeing what it will see in inference, and merges the moments of all
batches: one pass for each layer, independent of the batches.
"""

from __future__ import annotations

import numpy as np

import bnpp
from bnpp.experiments.layers import Array, Normalize
from bnpp.experiments.network import Network, batches


def algorithm_2(network: Network, x: Array, batch: int) -> None:
    """Set the statistics of every batch normalization as Algorithm 2 says.

    ``E[x]`` is the mean over mini-batches of their means, ``Var[x]`` that of their variances times
    m/(m-1), where the layers before normalize by the mini-batch as they do in training.

    Parameters
    ----------
    network : Network
        Only its statistics change.
    x : numpy.ndarray
        Images; those that fill no whole mini-batch are left out.
    batch : int
        Images in a mini-batch, at most ``len(x)``.
    """
    parts: dict[Normalize, list[bnpp.Moments]] = {layer: [] for layer in network.normalizations()}
    for images in batches(x[: len(x) - len(x) % batch], batch):
        h = images
        for layer in network.layers:
            if isinstance(layer, Normalize):
                parts[layer].append(bnpp.moments(h))
            h = layer.forward(h, training=True)
    for layer, moments in parts.items():
        layer.mean = np.mean([part.mean for part in moments], axis=0)
        layer.var = np.mean([part.var(unbiased=True) for part in moments], axis=0)


def whole_set(network: Network, x: Array) -> None:
    """Set the statistics of every batch normalization to those of all images, from the first layer on.

    Parameters
    ----------
    network : Network
        Only its statistics change.
    x : numpy.ndarray
        Images.
    """
    for i, layer in enumerate(network.layers):
        if isinstance(layer, Normalize):
            before = Network(network.layers[:i])
            moments = bnpp.Moments.empty(len(layer.mean))
            for part in batches(x):
                moments.update(before.forward(part))
            layer.mean, layer.var = moments.mean, moments.var(unbiased=True)
