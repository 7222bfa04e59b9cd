"""The formulas of batch normalization in NumPy: where every expected value comes from.

They are evaluated in a wider type than the data: float64 for float32, `np.longdouble` for float64.
F1 to F7 are the forward formulas, B1 to B5 the backward ones; m is the count of values a channel is
reduced over, r = 1/sqrt(var + eps), xh = (x - mean)*r, g = dL/dy.
"""

from typing import Any, NamedTuple

import numpy as np

UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
ROUNDINGS = {np.dtype(np.float32): 4, np.dtype(np.float64): 16}
WIDE = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}


class Forward(NamedTuple):
    """What the forward formulas give; `size` is the sum of the magnitudes of the terms of y."""

    y: Any
    mean: Any
    var: Any
    inv_std: Any
    centred: Any
    bit: Any
    size: Any


class Backward(NamedTuple):
    """Gradients, and for each the sum of the magnitudes of its terms."""

    dx: Any
    dgamma: Any
    dbeta: Any
    dresidual: Any
    dmean: Any
    dvar: Any
    sizes: dict[str, Any]


def reduced(x, axis):
    """All axes but `axis`."""
    return tuple(i for i in range(x.ndim) if i != axis % x.ndim)


def along(values, x, axis):
    """Shape one value a channel so that it broadcasts against x."""
    shape = [1] * x.ndim
    shape[axis % x.ndim] = -1
    return np.reshape(values, shape)


def centre(x, axis, dtype):
    """F1, F4: the mean of each channel, and x - mean."""
    if x.size == 0:
        return np.zeros(x.shape[axis], dtype), x.astype(dtype)
    # Even the wide type has no room for the mean of values that are far from zero: subtract a value
    # near it first, which is exact, and then the mean of what is left.
    near = x.mean(reduced(x, axis), dtype=np.float64).astype(x.dtype)
    rest = x.astype(dtype) - along(near, x, axis)
    for _ in range(2):
        left = rest.mean(reduced(x, axis))
        near, rest = near + left, rest - along(left, x, axis)
    return near, rest


def moments(x, axis=1, dtype=None):
    """F1, F4: count, mean and M2 = sum((x - mean)**2) of each channel."""
    mean, centred = centre(x, axis, dtype or WIDE[x.dtype])
    return x.size // max(x.shape[axis], 1), mean, (centred**2).sum(reduced(x, axis))


def inverse_root(var, eps):
    """r = 1/sqrt(var + eps), and 0 where var = eps = 0."""
    total = var + type(var.flat[0])(eps) if var.size else var
    return np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1)), 0 * total)


def forward(
    x,
    gamma=None,
    beta=None,
    *,
    axis=1,
    eps=1e-5,
    residual=None,
    activation=None,
    mean=None,
    var=None,
    dtype=None,
):
    """F1 without mean and var, F3 with them; F7 for residual and activation."""
    wide = dtype or WIDE[x.dtype]
    batch = mean is None
    if batch:
        mean, centred = centre(x, axis, wide)
        var = (centred**2).sum(reduced(x, axis)) / max(x.size // max(x.shape[axis], 1), 1)
    else:
        mean, var = mean.astype(wide), var.astype(wide)
        centred = x.astype(wide) - along(mean, x, axis)
    gamma = np.ones_like(mean) if gamma is None else gamma.astype(wide)
    beta = np.zeros_like(mean) if beta is None else beta.astype(wide)
    inv_std = inverse_root(var, eps)
    xh = centred * along(inv_std, x, axis)
    terms = [along(gamma, x, axis) * xh, along(beta, x, axis)]
    terms += [] if residual is None else [residual.astype(wide)]
    z = sum(terms)
    bit = z > 0 if activation == "relu" else np.ones(x.shape, bool)
    y = np.maximum(z, 0) if activation == "relu" else z
    size = sum(np.abs(t) for t in terms)
    if batch and x.dtype == np.float64:
        # float64 has no wider type to sum in: its mean is a few roundings of one deviation off.
        size = size + np.abs(along(gamma, x, axis))
    return Forward(y, mean, var, inv_std, centred, bit, size)


def backward(dy, f, gamma=None, *, axis=1, frozen=False):
    """B1 for batch statistics, B2 for frozen ones, B5 for the ReLU bit; f is the `Forward`."""
    g = np.where(f.bit, dy.astype(f.y.dtype), 0)
    over = reduced(g, axis)
    m = max(g.size // max(g.shape[axis], 1), 1)
    gamma = np.ones_like(f.mean) if gamma is None else gamma.astype(g.dtype)
    r = f.inv_std
    xh = f.centred * along(r, g, axis)
    dbeta, dgamma = g.sum(over), (g * xh).sum(over)
    sum_g, sum_gxh = np.abs(g).sum(over), np.abs(g * xh).sum(over)
    sizes = {"dgamma": sum_gxh, "dbeta": sum_g, "dresidual": np.abs(g)}
    scale = along(gamma * r, g, axis)
    if frozen:
        dmean, dvar = -gamma * r * dbeta, -gamma * r**2 * dgamma / 2
        sizes |= {"dx": np.abs(scale * g)}
        sizes |= {"dmean": np.abs(gamma * r) * sum_g, "dvar": np.abs(gamma) * r**2 * sum_gxh / 2}
        return Backward(scale * g, dgamma, dbeta, g, dmean, dvar, sizes)
    dx = scale / m * (m * g - along(dbeta, g, axis) - xh * along(dgamma, g, axis))
    # The terms of dx hold sums over the channel, so the terms of these sums are what counts.
    terms = m * np.abs(g) + along(sum_g, g, axis) + np.abs(xh) * along(sum_gxh, g, axis)
    sizes |= {"dx": np.abs(scale) / m * terms}
    return Backward(dx, dgamma, dbeta, g, None, None, sizes)


def assert_exact(actual, expected, size, dtype=None, name=""):
    """Contract 1: |actual - expected| is a few roundings of the terms that were added, no more."""
    actual = np.asarray(actual)
    dtype = np.dtype(dtype or actual.dtype)
    assert actual.dtype == dtype, f"{name}: dtype {actual.dtype}, not {dtype}"
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, not {expected.shape}"
    bound = ROUNDINGS[dtype] * UNIT[dtype] * size + np.finfo(dtype).smallest_subnormal
    error = np.abs(actual.astype(expected.dtype) - expected)
    wrong = ~(error <= bound)
    if wrong.any():
        i = tuple(int(k[0]) for k in np.nonzero(wrong))
        raise AssertionError(
            f"{name}: {wrong.sum()} of {wrong.size} values are off, the first at {i}: "
            f"got {actual[i]!r}, expected {expected[i]!r}, allowed {bound[i]:.3g}"
        )


def assert_close(got, expected, where=""):
    """The same of each named result, of which `expected` has the value and its size; NaN is NaN."""
    for name, value in got.items():
        wanted, size = expected[name]
        dtype = value.dtype if value.dtype in UNIT else np.dtype(np.float32)
        bound = ROUNDINGS[dtype] * UNIT[dtype] * size + np.finfo(dtype).smallest_subnormal
        assert value.shape == wanted.shape, (name, where)
        same = (value == wanted) | (np.isnan(value) & np.isnan(wanted))
        with np.errstate(invalid="ignore"):
            wrong = ~(same | (np.abs(value - wanted) <= bound))
        assert not wrong.any(), f"{name} {where}: {value[wrong][:3]}, not {wanted[wrong][:3]}"
