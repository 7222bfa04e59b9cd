"""What the tests of the layer share: batches, and its state before and after."""

import numpy as np

from helpers.shapes import Case, data

BATCHES = 5


def batches(dtype=np.float32, shape=(4, 3, 5, 7)):
    """A few different batches of one shape."""
    return [data(Case(shape, 1, ""), dtype, seed, mean=seed)[0] for seed in range(BATCHES)]


def state(layer):
    """Copies of everything that a call or a load could change."""
    saved = layer.state_dict()
    return {k: v.copy() for k, v in saved.items()} | {"training": layer.training}


def assert_same(a, b):
    """Two states are equal, bit for bit."""
    assert a.keys() == b.keys()
    for key in a:
        assert np.array_equal(a[key], b[key]), key
