"""The formulas of batch and group normalization with weights, in a wider type than the data."""

import numpy as np

from helpers.group_reference import from_rows, rows_of
from helpers.reference import WIDE, along, inverse_root, reduced


def weighted(x, w, gamma, beta, dy, *, axis=1, groups=None, eps=1e-5, dtype=None):
    """Every result as (value, size of its terms); x counts only where w > 0.

    A column of a matrix is what shares statistics: a channel, or with `groups` a group of a sample,
    which is a row of `rows_of`.
    """
    wide, channels = dtype or WIDE[x.dtype], x.shape[axis]
    shape = (channels,) if groups is None else (x.shape[0], groups)
    if groups is None:
        moved = np.moveaxis(x, axis, -1).shape

    def columns(a):
        a = np.broadcast_to(a, x.shape).astype(wide)
        if groups is None:
            return np.moveaxis(a, axis, -1).reshape(int(np.prod(moved[:-1])), channels)
        return rows_of(a, groups, axis).T

    def back(a):
        if groups is None:
            return np.moveaxis(a.reshape(moved), -1, axis)
        return from_rows(np.ascontiguousarray(a.T), x.shape, axis)

    w_of, rest = columns(w), columns(x)
    total = w_of.sum(0)
    some = np.where(total > 0, total, 1)
    mean = np.zeros(rest.shape[1], wide)
    for _ in range(3):
        left = (w_of * np.where(w_of > 0, rest, 0)).sum(0) / some
        mean, rest = mean + left, rest - left
    m2 = (w_of * np.where(w_of > 0, rest, 0) ** 2).sum(0)
    var = m2 / some
    r = np.where(total > 0, inverse_root(var, eps), 0)
    with np.errstate(invalid="ignore"):
        xh = rest * r
    of_gamma, of_beta = (columns(along(a.astype(wide), x, axis)) for a in (gamma, beta))
    g = columns(dy)
    y, h = of_gamma * xh + of_beta, of_gamma * g
    kept = np.where((w_of == 0) & ~np.isfinite(xh), 0, xh)
    share, seen = w_of / some, np.where(w_of > 0, xh, 0)
    dx = r * (h - share * (h.sum(0) + seen * (h * kept).sum(0)))
    size = np.abs(h) + share * (np.abs(h).sum(0) + np.abs(seen) * np.abs(h * kept).sum(0))
    over = reduced(x, axis)
    sum_g, sum_gxh = np.abs(g), np.abs(g * kept)
    vectors = {
        "mean": (mean, np.abs(mean) + np.sqrt(var)),
        "var": (var, var),
        "m2": (m2, m2),
        "weight": (total, total),
    }
    return {
        "y": (back(y), back(np.abs(of_gamma) * (np.abs(xh) + 1) + np.abs(of_beta))),
        "dx": (back(dx), back(r * size)),
        "dgamma": (back(g * kept).sum(over), back(sum_gxh + sum_g * (r > 0)).sum(over)),
        "dbeta": (back(g).sum(over), back(sum_g).sum(over)),
    } | {name: tuple(v.reshape(shape) for v in both) for name, both in vectors.items()}
