"""The formulas of layer and root mean square normalization in NumPy, on a matrix of samples.

A row is a sample, a column a feature. With weights w (ones where there are none) and W = sum(w):
mean = sum(w*x)/W, var = sum(w*(x - mean)**2)/W, xh = (x - mean)/sqrt(var + eps), y = gamma*xh + beta
(rms: mean = 0), and backward with h = dy*gamma, r = 1/sqrt(var + eps):
dx = r*(h - w/W*(sum(h) + xh*sum(h*xh))) (rms: without sum(h)), dgamma = sum(dy*xh), dbeta = sum(dy).
Values of weight 0 never touch the statistics; where such an x is not finite it is in no sum at all.
"""

from typing import Any, NamedTuple

import numpy as np

from helpers.reference import WIDE, inverse_root


class Rows(NamedTuple):
    """What the formulas give, as matrices and as columns; `size` is that of the terms of y."""

    y: Any
    mean: Any
    var: Any
    inv_std: Any
    xh: Any
    size: Any


class RowGradients(NamedTuple):
    """Gradients, and for each the sum of the magnitudes of its terms."""

    dx: Any
    dgamma: Any
    dbeta: Any
    sizes: dict[str, Any]


def axes_of(axis, ndim):
    """The features' axes from 0, ascending; and the others."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    features = tuple(sorted(a % ndim for a in axes))
    return features, tuple(d for d in range(ndim) if d not in features)


def matrix(x, axis):
    """One row a sample, one column a feature, each in ascending order of its axes."""
    features, kept = axes_of(axis, x.ndim)
    rows = int(np.prod([x.shape[d] for d in kept]))
    columns = int(np.prod([x.shape[d] for d in features]))
    return np.transpose(x, kept + features).reshape(rows, columns)


def tensor(values, shape, axis):
    """The inverse of `matrix`."""
    features, kept = axes_of(axis, len(shape))
    order = kept + features
    return np.transpose(values.reshape([shape[d] for d in order]), np.argsort(order))


def shape_along(shape, axes):
    """The sizes of some axes."""
    return tuple(shape[d] for d in axes)


def weighted_centre(x, w, wide):
    """The mean of each row, and x - mean: first a value near it is subtracted, exactly."""
    total = np.where(w.sum(1, keepdims=True) > 0, w.sum(1, keepdims=True), 1)
    used = np.where(w > 0, x, 0).astype(np.float64)
    near = ((w * used).sum(1, keepdims=True) / total).astype(x.dtype).astype(wide)
    rest = x.astype(wide) - near
    for _ in range(2):
        left = (w * np.where(w > 0, rest, 0)).sum(1, keepdims=True) / total
        near, rest = near + left, rest - left
    return near, rest


def forward(x, gamma=None, beta=None, *, rms=False, eps=1e-5, w=None):
    """The forward on a matrix."""
    wide = WIDE.get(x.dtype, np.float64)
    w = np.ones(x.shape, wide) if w is None else w.astype(wide)
    total = w.sum(1, keepdims=True)
    if rms:
        mean, centred = np.zeros((x.shape[0], 1), wide), x.astype(wide)
    else:
        mean, centred = weighted_centre(x, w, wide)
    squares = (w * np.where(w > 0, centred, 0) ** 2).sum(1, keepdims=True)
    var = np.where(total > 0, squares / np.where(total > 0, total, 1), 0)
    inv_std = np.where(total > 0, inverse_root(var, eps), 0)
    gamma = np.ones(x.shape[1], wide) if gamma is None else gamma.astype(wide)
    beta = np.zeros(x.shape[1], wide) if beta is None else beta.astype(wide)
    xh = centred * inv_std
    size = np.abs(gamma * xh) + np.abs(beta)
    if x.dtype == np.float64:  # which has no wider type to sum in
        size = size + np.abs(gamma)
    return Rows(gamma * xh + beta, mean[:, 0], var[:, 0], inv_std[:, 0], xh, size)


def backward(dy, f, gamma=None, *, rms=False, w=None):
    """The backward on a matrix; f is what `forward` gave."""
    wide = f.y.dtype
    g, r = dy.astype(wide), f.inv_std[:, None]
    w = np.ones(g.shape, wide) if w is None else w.astype(wide)
    total = w.sum(1, keepdims=True)
    part = w / np.where(total > 0, total, 1)
    there = (w > 0) | np.isfinite(f.xh)
    h = g if gamma is None else g * gamma.astype(wide)
    xh = np.where(there, f.xh, 0)
    one = 0 if rms else 1
    sum_h = one * np.where(there, h, 0).sum(1, keepdims=True)
    sum_hx = np.where(there, h * xh, 0).sum(1, keepdims=True)
    dx = r * (h - part * (sum_h + xh * sum_hx))
    of_h = one * np.where(there, np.abs(h), 0).sum(1, keepdims=True)
    of_hx = np.abs(h * xh).sum(1, keepdims=True)
    used = np.where(there, g, 0)
    sizes = {
        "dx": np.abs(r) * (np.abs(h) + part * (of_h + np.abs(xh) * of_hx)),
        "dgamma": np.abs(used * xh).sum(0),
        "dbeta": np.abs(used).sum(0),
    }
    return RowGradients(dx, (used * xh).sum(0), used.sum(0), sizes)
