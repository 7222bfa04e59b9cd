"""The formulas of group normalization in NumPy, on those of batch normalization in `reference`.

A group of a sample is a row of a matrix, and a row is normalized as a channel of a batch norm is.
"""

import numpy as np
from reference import WIDE, Backward, Forward, along, centre, inverse_root


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


def weighted(x, w, groups, gamma, beta, dy, *, axis=1, eps=1e-5, dtype=None):
    """Every result with weights, as (value, size of its terms); x counts only where w > 0.

    The columns of a matrix are the groups of the samples: `rows_of`, transposed.
    """
    wide = dtype or WIDE[x.dtype]
    shape = (x.shape[0], groups)

    def columns(a):
        return rows_of(np.broadcast_to(a, x.shape), groups, axis).T.astype(wide)

    def back(a):
        return from_rows(np.ascontiguousarray(a.T), x.shape, axis)

    x_of, w_of = columns(x), columns(w)
    total = w_of.sum(0)
    some = np.where(total > 0, total, 1)
    rest, mean = x_of, np.zeros(x_of.shape[1], wide)
    for _ in range(3):
        left = (w_of * np.where(w_of > 0, rest, 0)).sum(0) / some
        mean, rest = mean + left, rest - left
    var = (w_of * np.where(w_of > 0, rest, 0) ** 2).sum(0) / some
    r = np.where(total > 0, inverse_root(var, eps), 0)
    with np.errstate(invalid="ignore"):
        xh = rest * r
    g, of_gamma, of_beta = (
        columns(a)
        for a in (dy, along(gamma.astype(wide), x, axis), along(beta.astype(wide), x, axis))
    )
    y, h = of_gamma * xh + of_beta, of_gamma * g
    kept = np.where((w_of == 0) & ~np.isfinite(xh), 0, xh)
    share, seen = w_of / some, np.where(w_of > 0, xh, 0)
    dx = r * (h - share * (h.sum(0) + seen * (h * kept).sum(0)))
    size = np.abs(h) + share * (np.abs(h).sum(0) + np.abs(seen) * np.abs(h * kept).sum(0))
    over = tuple(d for d in range(x.ndim) if d != axis % x.ndim)
    sum_g, sum_gxh = np.abs(g), np.abs(g * kept)
    return {
        "y": (back(y), back(np.abs(of_gamma) * (np.abs(xh) + 1) + np.abs(of_beta))),
        "mean": (mean.reshape(shape), (np.abs(mean) + np.sqrt(var)).reshape(shape)),
        "var": (var.reshape(shape), var.reshape(shape)),
        "weight": (total.reshape(shape), total.reshape(shape)),
        "dx": (back(dx), back(r * size)),
        "dgamma": (back(g * kept).sum(over), back(sum_gxh + sum_g * (r > 0)).sum(over)),
        "dbeta": (back(g).sum(over), back(sum_g).sum(over)),
    }
