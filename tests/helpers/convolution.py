"""Linear layers in NumPy, written as their definition: where folding's expected values come from.

Everything is computed in `np.longdouble`. Weights are in the order of PyTorch and ONNX: (Cout, Cin / groups,
kernel...), and of a transposed convolution (Cin, Cout / groups, kernel...).
"""

import itertools
from typing import Any, NamedTuple

import numpy as np

WIDE = np.longdouble


class Problem(NamedTuple):
    """A layer with an input, and maps ahead of it and behind it, or None."""

    x: Any
    weight: Any
    bias: Any
    after: Any
    before: Any
    layout: str
    groups: int = 1
    transposed: bool = False
    stride: int = 1
    dilation: int = 1
    pad: int = 0


def conv(x, weight, bias, *, groups=1, stride=1, dilation=1, pad=0, pad_value=0.0):
    """Convolve: y[o, p] = bias[o] + sum of weight[o, i, k] * x[i, stride * p + dilation * k]."""
    x, weight = x.astype(WIDE), weight.astype(WIDE)
    rank = x.ndim - 2
    x = padded(x, pad, pad_value)
    kernel = weight.shape[2:]
    size = [(x.shape[2 + d] - dilation * (kernel[d] - 1) - 1) // stride + 1 for d in range(rank)]
    x = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    weight = weight.reshape(groups, -1, *weight.shape[1:])
    y = np.zeros((x.shape[0], groups, weight.shape[1], *size), WIDE)
    for k in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(dilation * k[d], dilation * k[d] + stride * (size[d] - 1) + 1, stride)
            for d in range(rank)
        )
        y += np.einsum("ngi...,goi->ngo...", x[(..., *window)], weight[(..., *k)])
    return plus(y.reshape(y.shape[0], -1, *size), bias)


def conv_transposed(x, weight, bias, *, groups=1, stride=1, dilation=1, pad=0):
    """Spread: y[o, stride * p + dilation * k - pad] gets weight[i, o, k] * x[i, p]."""
    x, weight = x.astype(WIDE), weight.astype(WIDE)
    rank = x.ndim - 2
    kernel, sizes = weight.shape[2:], x.shape[2:]
    size = [stride * (sizes[d] - 1) + dilation * (kernel[d] - 1) + 1 for d in range(rank)]
    x = x.reshape(x.shape[0], groups, -1, *sizes)
    weight = weight.reshape(groups, -1, *weight.shape[1:])
    y = np.zeros((x.shape[0], groups, weight.shape[2], *size), WIDE)
    for k in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(dilation * k[d], dilation * k[d] + stride * (sizes[d] - 1) + 1, stride)
            for d in range(rank)
        )
        y[(..., *window)] += np.einsum("ngi...,gio->ngo...", x, weight[(..., *k)])
    inside = tuple(slice(pad, n - pad) for n in size)
    return plus(y.reshape(y.shape[0], -1, *size)[(..., *inside)], bias)


def padded(x, pad, value):
    """x with a border of `pad` values around its last axes, a value a channel."""
    border = np.broadcast_to(np.asarray(value, WIDE), x.shape[1])
    shape = x.shape[:2] + tuple(n + 2 * pad for n in x.shape[2:])
    big = np.array(np.broadcast_to(along(border, shape), shape))
    big[(..., *(slice(pad, pad + n) for n in x.shape[2:]))] = x
    return big


def along(values, shape):
    """One value a channel, so that it broadcasts against an array with channels on axis 1."""
    return np.reshape(values, (1, -1) + (1,) * (len(shape) - 2))


def plus(y, bias):
    """Add the bias, if there is one."""
    return y if bias is None else y + along(bias.astype(WIDE), y.shape)


def mapped(a, x):
    """x * scale + shift in the wide type; x itself without a map."""
    x = x.astype(WIDE)
    if a is None:
        return x
    return x * along(a.scale.astype(WIDE), x.shape) + along(a.shift.astype(WIDE), x.shape)


def layer(p, x, weight, bias, pad_value=0.0):
    """Run the layer of a problem."""
    if p.layout in ("OI", "IO"):
        weight = weight if p.layout == "OI" else weight.T
        return plus(x.astype(WIDE) @ weight.T.astype(WIDE), bias)
    weight = standard(p, weight)
    geometry = {k: getattr(p, k) for k in ("groups", "stride", "dilation", "pad")}
    if p.transposed:
        return conv_transposed(x, weight, bias, **geometry)
    return conv(x, weight, bias, pad_value=pad_value, **geometry)


def unfolded(p):
    """What the network computes before folding."""
    return mapped(p.after, layer(p, mapped(p.before, p.x), p.weight, p.bias))


def refolded(p, folded):
    """What the folded layer computes."""
    pad_value = 0.0 if folded.pad_value is None else folded.pad_value
    return layer(p, p.x, folded.weight, folded.bias, pad_value)


def standard(p, weight):
    """The weight with its axes in the order of PyTorch and ONNX."""
    letters = ("IO" if p.transposed else "OI") + "".join(k for k in p.layout if k in "DHW")
    if "G" not in p.layout:
        return np.transpose(weight, [p.layout.index(k) for k in letters])
    for letter in letters:
        if letter not in p.layout:
            weight = weight[..., None]
    layout = p.layout + "".join(k for k in letters if k not in p.layout)
    weight = np.transpose(weight, [layout.index(k) for k in "G" + letters])
    return weight.reshape(-1, *weight.shape[2:])
