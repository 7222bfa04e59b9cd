"""Whitening by Newton's iteration: covariance, gradients, and batch norm as groups of one."""

import bnpp
import numpy as np
import pytest
from helpers.shapes import ORDERS, data
from helpers.shapes import Case as Shape
from helpers.slopes import assert_slopes


def mixed(shape, axis, dtype=np.float64, mean=0.0, seed=0):
    """Correlated channels."""
    rng = np.random.default_rng([seed, *shape])
    x = rng.standard_normal(shape)
    mix = rng.standard_normal((shape[axis], shape[axis])) + 2 * np.eye(shape[axis])
    return (np.moveaxis(np.tensordot(mix, x, (1, axis)), 0, axis) + mean).astype(dtype)


def rows_of(x, axis):
    return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


def reference(x, gamma, beta, groups, iterations, axis, eps):
    """Algorithm 1 of Huang et al. 2019 in longdouble, whose products are no BLAS."""
    rows = rows_of(x.astype(np.longdouble), axis)
    m, size = rows.shape[1], len(rows) // groups
    y = np.empty_like(rows)
    for part in (slice(g * size, (g + 1) * size) for g in range(groups)):
        first = rows[part, :1]
        centred = (rows[part] - first) - (rows[part] - first).mean(1, keepdims=True)
        s = centred @ centred.T / m + np.longdouble(eps) * np.eye(size)
        p, trace = np.eye(size, dtype=np.longdouble), np.trace(s)
        for _ in range(iterations):
            p = (3 * p - p @ p @ p @ s / trace) / 2
        y[part] = p @ centred / np.sqrt(trace) * gamma[part, None] + beta[part, None]
    shape = np.moveaxis(x, axis, 0).shape
    return np.moveaxis(y.reshape(shape), 0, axis)


@pytest.mark.parametrize("mean", [0.0, 1e6])
@pytest.mark.parametrize(
    ("shape", "axis", "groups"), [((50, 6), 1, 2), ((4, 6, 5, 3), 1, 1), ((4, 5, 8), -1, 4)]
)
def test_reference(shape, axis, groups, mean, dtype):
    x = mixed(shape, axis, dtype, mean)
    rng = np.random.default_rng(1)
    gamma, beta = rng.uniform(0.5, 2, shape[axis]), rng.standard_normal(shape[axis])
    for iterations in (0, 1, 5):
        y, saved = bnpp.iter_norm(
            x, gamma, beta, groups=groups, iterations=iterations, axis=axis, eps=1e-3
        )
        expected = reference(x, gamma, beta, groups, iterations, axis, 1e-3)
        assert y.dtype == dtype
        unit = 2.0**-24 if dtype == np.float32 else 2.0**-48
        assert np.abs(y - expected).max() <= unit * (1 + np.abs(expected).max())
    size = shape[axis] // groups
    again = bnpp.iter_norm(x, gamma, beta, group_size=size, iterations=5, axis=axis, eps=1e-3)[0]
    assert np.array_equal(y, again)
    assert saved.whitening.shape == saved.covariance.shape == (groups, size, size)


def test_enough_steps_whiten():
    x = mixed((400, 8), 1, mean=1e6)
    y, _ = bnpp.iter_norm(x, iterations=40, eps=0.0)
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(8), atol=1e-9)
    y, _ = bnpp.iter_norm(x, groups=2, iterations=40, eps=0.0)
    covariance = np.cov(y.T, bias=True)
    np.testing.assert_allclose(covariance[:4, :4], np.eye(4), atol=1e-9)
    assert np.abs(covariance[:4, 4:]).max() > 0.1  # between groups nothing happens


@pytest.mark.parametrize("iterations", [0, 5])
def test_groups_of_one_channel_are_batch_norm(iterations, dtype):
    x, gamma, beta, _, dy = data(Shape((4, 3, 5, 7), 1, ""), dtype, mean=1e6)
    y, saved = bnpp.iter_norm(x, gamma, beta, group_size=1, iterations=iterations)
    z, plain = bnpp.batch_norm(x, gamma, beta)
    tolerance = (
        {"rtol": 2.0**-22, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-13, "atol": 1e-13}
    )
    np.testing.assert_allclose(y, z, **tolerance)
    got, expected = bnpp.iter_norm_backward(dy, saved), bnpp.batch_norm_backward(dy, plain)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize(("groups", "iterations"), [(1, 5), (2, 3), (1, 0), (4, 5), (1, 30)])
def test_central_differences(groups, iterations):
    x = mixed((7, 4, 3), 1, seed=2)
    rng = np.random.default_rng(3)
    inputs = {"x": x, "gamma": rng.uniform(0.5, 2, 4), "beta": rng.standard_normal(4)}
    w = rng.standard_normal(x.shape)

    def run(values):
        return bnpp.iter_norm(**values, groups=groups, iterations=iterations, eps=1e-3)

    got = bnpp.iter_norm_backward(w, run(inputs)[1])
    assert_slopes(got, lambda v: np.sum(w * run(v)[0]), inputs, 1e-6, 1e-6, 1e-7)


# Not broadcast, whose samples are equal.
@pytest.mark.parametrize("order", [name for name in ORDERS if name != "broadcast"])
def test_memory_orders(order, dtype):
    x, dy = mixed((5, 4, 3, 6), 1, dtype), data(Shape((5, 4, 3, 6), 1, ""), dtype)[4]
    y, saved = bnpp.iter_norm(x)
    dx = bnpp.iter_norm_backward(dy, saved).dx
    other = ORDERS[order](x)
    z, saved = bnpp.iter_norm(other)
    assert z.strides == np.empty_like(other).strides
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(z, y, **close)
    np.testing.assert_allclose(bnpp.iter_norm_backward(ORDERS[order](dy), saved).dx, dx, **close)


def test_half(half):
    x = mixed((30, 4), 1).astype(half)
    y, saved = bnpp.iter_norm(x)
    wide, _ = bnpp.iter_norm(x.astype(np.float64))
    assert np.array_equal(y, wide.astype(half))
    got = bnpp.iter_norm_backward(x, saved)
    assert (got.dx.dtype, got.dgamma.dtype) == (half, np.float32)


def test_constant_and_empty(dtype):
    y, saved = bnpp.iter_norm(np.full((5, 3), 1e6, dtype), None, np.arange(3.0), eps=0.0)
    assert np.array_equal(y, np.tile(np.arange(3.0), (5, 1)))
    assert not bnpp.iter_norm_backward(y, saved).dx.any()
    for shape in ((0, 3, 4), (2, 3, 0), (2, 0, 4)):
        x = np.empty(shape, dtype)
        y, saved = bnpp.iter_norm(x)
        assert y.shape == shape
        got = bnpp.iter_norm_backward(x, saved)
        assert (got.dx.shape, got.dgamma.tolist()) == (shape, [0.0] * shape[1])


def test_nan_stays_in_its_group():
    x = mixed((50, 6), 1)
    clean = bnpp.iter_norm(x, groups=3)[0]
    x[7, 2] = np.nan
    y, saved = bnpp.iter_norm(x, groups=3)
    assert np.isnan(y[:, 2:4]).all()
    assert np.array_equal(y[:, :2], clean[:, :2])
    assert np.array_equal(y[:, 4:], clean[:, 4:])
    assert np.isfinite(bnpp.iter_norm_backward(x * 0 + 1, saved).dx[:, 4:]).all()


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"groups": 4}, ValueError, "groups is 4, but it needs to divide x's 6 channels"),
        ({"group_size": 5}, ValueError, "group_size is 5, but it needs to divide"),
        ({"group_size": 0}, ValueError, "group_size is 0, but at least 1"),
        ({"groups": 1.5}, TypeError, "groups is a float, but an integer"),
        (
            {"groups": 2, "group_size": 3},
            TypeError,
            "groups is 2 and group_size is 3, but only one",
        ),
        ({"iterations": -1}, ValueError, "iterations is -1, but at least 0"),
        ({"eps": -1.0}, ValueError, "eps is -1.0"),
        ({"eps": np.nan}, ValueError, "eps is nan"),
        ({"axis": 2}, ValueError, "axis is 2, but x has 2 dimensions"),
        ({"gamma": np.ones(5)}, ValueError, r"gamma has shape \(5,\), but it needs \(6,\)"),
        ({"beta": np.ones(6, int)}, TypeError, "beta has dtype int64"),
        ({"x": np.ones((1, 6))}, ValueError, "x has one value a channel"),
        ({"x": np.ones(6)}, ValueError, r"x has shape \(6,\), but 2 to 8 dimensions"),
    ],
)
def test_bad_input(change, kind, sentence):
    given = {"x": np.arange(24.0).reshape(4, 6)} | change
    with pytest.raises(kind, match=f"^iter_norm: {sentence}"):
        bnpp.iter_norm(**given)


def test_bad_backward():
    x = mixed((5, 3), 1)
    _, saved = bnpp.iter_norm(x)
    name = "^iter_norm_backward: "
    with pytest.raises(TypeError, match=name + "saved is of type Saved"):
        bnpp.iter_norm_backward(x, bnpp.batch_norm(x)[1])
    with pytest.raises(ValueError, match=name + r"dy has shape \(3, 5\)"):
        bnpp.iter_norm_backward(x.T, saved)
    with pytest.raises(TypeError, match=name + "dy has dtype float32"):
        bnpp.iter_norm_backward(x.astype(np.float32), saved)
