"""Central differences: the slope of a loss, found without any formula of a backward."""

import numpy as np


def slope(loss, inputs, name, h=1e-5):
    """The slope of `loss(inputs)` in each element of one of the inputs, a dict of arrays."""
    value = inputs[name]
    found = np.empty_like(value)
    for i in np.ndindex(value.shape):
        step = np.zeros_like(value)
        step[i] = h
        up, down = (loss(inputs | {name: value + s}) for s in (step, -step))
        found[i] = (up - down) / (2 * h)
    return found


def assert_slopes(gradients, loss, inputs, h=1e-5, rtol=1e-6, atol=1e-8):
    """Hold the gradient of each input (dx of x, and so on) against the slope of the loss."""
    for name in inputs:
        found = slope(loss, inputs, name, h)
        np.testing.assert_allclose(
            getattr(gradients, f"d{name}"), found, rtol=rtol, atol=atol, err_msg=name
        )
