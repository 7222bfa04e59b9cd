"""The formulas of group normalization in NumPy, on those of batch normalization in `reference`.

A group of a sample is a row of a matrix, and a row is normalized as a channel of a batch norm is.
"""

import numpy as np

from helpers.reference import WIDE, Backward, Forward, along, centre, inverse_root


def rows_of(x, groups, axis):
    """One row for each group of each sample, C order."""
    return np.moveaxis(x, axis, 1).reshape(x.shape[0] * groups, -1)


def from_rows(rows, shape, axis):
    """The array of a shape whose rows these are."""
    moved = [
        shape[0],
        shape[axis],
        *(n for d, n in enumerate(shape) if d not in (0, axis % len(shape))),
    ]
    return np.moveaxis(rows.reshape(moved), 1, axis)


def spread(values, x, groups, axis):
    """(N, groups) or (N * groups,) values, each in all places of its group."""
    rows = rows_of(x, groups, axis)
    column = np.reshape(values, (-1, 1))
    return from_rows(np.broadcast_to(column, rows.shape), x.shape, axis)


def sums(values, groups, axis):
    """The sum over each group of each sample, in all places of the group."""
    return spread(rows_of(values, groups, axis).sum(1), values, groups, axis)


def group_forward(
    x,
    groups,
    gamma=None,
    beta=None,
    *,
    axis=1,
    eps=1e-5,
    residual=None,
    activation=None,
    dtype=None,
):
    """Wu & He 2018, equations 1, 2, 6, 7; then residual and ReLU."""
    wide = dtype or WIDE[x.dtype]
    rows = rows_of(x, groups, axis)
    mean, centred = centre(rows, 0, wide)
    var = (centred**2).sum(1) / rows.shape[1]
    inv_std = inverse_root(var, eps)
    channels = x.shape[axis]
    gamma = along(np.ones(channels) if gamma is None else gamma.astype(wide), x, axis)
    beta = along(np.zeros(channels) if beta is None else beta.astype(wide), x, axis)
    centred = from_rows(centred, x.shape, axis)
    terms = [gamma * centred * spread(inv_std, x, groups, axis), beta + 0 * centred]
    terms += [] if residual is None else [residual.astype(wide)]
    z = sum(terms)
    bit = z > 0 if activation == "relu" else np.ones(x.shape, bool)
    y = np.maximum(z, 0) if activation == "relu" else z
    size = sum(np.abs(t) for t in terms)
    if x.dtype == np.float64:
        size = size + np.abs(gamma)  # as in `reference.forward`
    statistics = (v.reshape(x.shape[0], groups) for v in (mean, var, inv_std))
    return Forward(y, *statistics, centred, bit, size)


def group_backward(dy, f, groups, gamma=None, *, axis=1):
    """The chain rule on the same; f is the `Forward`."""
    g = np.where(f.bit, dy.astype(f.y.dtype), 0)
    over = tuple(d for d in range(g.ndim) if d != axis % g.ndim)
    gamma = along(np.ones(g.shape[axis]) if gamma is None else gamma.astype(g.dtype), g, axis)
    r = spread(f.inv_std, g, groups, axis)
    xh = f.centred * r
    m = g.size // f.mean.size
    dx = (
        r
        / m
        * (m * gamma * g - sums(gamma * g, groups, axis) - xh * sums(gamma * g * xh, groups, axis))
    )
    size_g, size_gxh = np.abs(gamma * g), np.abs(gamma * g * xh)
    terms = m * size_g + sums(size_g, groups, axis) + np.abs(xh) * sums(size_gxh, groups, axis)
    sizes = {"dgamma": np.abs(g * xh).sum(over), "dbeta": np.abs(g).sum(over)}
    if dy.dtype == np.float64:
        sizes["dgamma"] = sizes["dgamma"] + sizes["dbeta"]  # the mean is off, as in `group_forward`
    sizes |= {"dresidual": np.abs(g), "dx": r / m * terms}
    return Backward(dx, (g * xh).sum(over), g.sum(over), g, None, None, sizes)
