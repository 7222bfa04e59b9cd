"""Contract 1: right at any mean, for constants, denormals, outliers, and beside NaN and Inf."""

import bnpp
import numpy as np
import pytest
from helpers.reference import assert_exact, backward, forward
from helpers.settings import agree

LAYOUTS = {"rows": (4, 3, 1111), "cols": (4444, 3)}


def both_ways(x, gamma, beta, dy, **keywords):
    """Forward and backward against the reference in every setting: all within contract 1."""

    def call():
        y, saved = bnpp.batch_norm(x, gamma, beta, **keywords)
        return y, bnpp.batch_norm_backward(dy, saved)

    y, got = agree(call)
    f = forward(x, gamma, beta, **keywords)
    assert_exact(y, f.y, f.size, x.dtype, "y")
    expected = backward(dy, f, gamma)
    for name, value in got._asdict().items():
        assert_exact(value, getattr(expected, name), expected.sizes[name], x.dtype, name)


def inputs(shape, dtype, seed=0):
    """Standard normal values and dy, and gamma and beta of mixed sign."""
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, *shape))
    gamma, beta = rng.uniform(-2, 2, (2, shape[1]))
    return x, gamma.astype(dtype), beta.astype(dtype), dy.astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("std", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize("stds_away", [0, 1, 1e2, 1e4, 1e6])
def test_any_mean(stds_away, std, layout, dtype):
    x, gamma, beta, dy = inputs(LAYOUTS[layout], dtype)
    both_ways((x * std + stds_away * std).astype(dtype), gamma, beta, dy)


@pytest.mark.parametrize("shape", [(3, 2, 61), (7, 5), (2, 3, 70000), (40001, 3)])
def test_a_constant_channel_gives_exactly_beta(shape, dtype, isa):
    _, gamma, beta, dy = inputs(shape, dtype)
    expected = np.broadcast_to(beta.reshape(-1, *[1] * (len(shape) - 2)), shape)
    for value in (1e-3, 0.1, 1 / 3, 1e3, 1e7, 1e10, -1e10):
        x = np.full(shape, value, dtype)
        for eps in (1e-5, 0.0):
            y, saved = bnpp.batch_norm(x, gamma, beta, eps=eps)
            assert np.array_equal(y, expected), (value, eps)
            assert np.array_equal(saved.mean, np.full(shape[1], value, dtype)), (value, eps)
            assert not saved.var.any(), (value, eps)
            assert not bnpp.batch_norm_backward(dy, saved).dgamma.any(), (value, eps)
        assert not saved.inv_std.any(), value
        m = bnpp.moments(x)
        assert np.array_equal(m.mean, np.full(shape[1], x.flat[0], np.float64)), value
        assert not m.m2.any(), value


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_stay_in_their_channel(bad, layout, dtype):
    x, gamma, beta, dy = inputs(LAYOUTS[layout], dtype)
    x = x.astype(dtype)
    clean = x.copy()
    x[2, 1, ...] = bad

    def call(values):
        y, saved = bnpp.batch_norm(values, gamma, beta)
        got = bnpp.batch_norm_backward(dy, saved)
        m = bnpp.moments(values)
        return y, got.dx, saved.mean, saved.var, got.dgamma, got.dbeta, m.mean, m.m2

    results = [agree(lambda: call(clean)), agree(lambda: call(x))]
    for good, hit in zip(*results, strict=True):
        channels_first = [np.moveaxis(a, 1, 0) if a.ndim > 1 else a for a in (good, hit)]
        assert np.array_equal(*[a[[0, 2]] for a in channels_first])
    y, dx, mean, var, dgamma, *_ = results[1]
    assert np.isnan(y[:, 1]).all()
    assert np.isnan(dx[:, 1]).all()
    assert not np.isfinite([mean[1], var[1], dgamma[1]]).any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_in_dy_stays_in_its_channel(layout, dtype):
    x, gamma, beta, dy = inputs(LAYOUTS[layout], dtype)
    _, saved = bnpp.batch_norm(x.astype(dtype), gamma, beta)
    clean = bnpp.batch_norm_backward(dy, saved).dx
    dy[1, 2, ...] = np.nan
    got = bnpp.batch_norm_backward(dy, saved)
    assert np.array_equal(got.dx[:, :2], clean[:, :2])
    assert np.isnan(got.dx[:, 2]).all()
    assert np.array_equal(np.isnan(got.dgamma), [False, False, True])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("std", "eps"), [(1e-40, 1e-5), (1e-25, 0.0), (1e-30, 1e-60)])
def test_tiny_values_are_not_lost(std, eps, layout, dtype):
    """Variances below float32's range, and values that are denormal there."""
    x, gamma, beta, dy = inputs(LAYOUTS[layout], dtype)
    both_ways((x * std).astype(dtype), gamma, beta, dy, eps=eps)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("size", [1e-35, 1e33])
def test_numbers_that_float32_arithmetic_has_no_room_for(size, activation, layout):
    """Beside a channel of ordinary ones, with all a tile may have."""
    x, gamma, beta, dy = inputs(LAYOUTS[layout], np.float32)
    x, residual = x.astype(np.float32), np.roll(dy, 1) * np.float32(size)
    gamma = gamma * np.array([1, size, -size], np.float32)
    both_ways(x, gamma, beta, dy, residual=residual, activation=activation)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_huge_values_do_not_overflow(layout):
    x, gamma, beta, dy = inputs(LAYOUTS[layout], np.float32)
    both_ways((x * 5e37).astype(np.float32), gamma, beta, dy)


ADVERSE = {
    "outlier first": lambda n: 1e8 * (n == 0),
    "outlier last": lambda n: 1e8 * (n == n[-1]),
    "outlier in the middle": lambda n: -1e8 * (n == 1234),
    "16 outliers first": lambda n: 1e6 * (n < 16),
    "one step": lambda n: 1e7 * (n > len(n) / 2),
    "two scales": lambda n: 1e7 * (n % 2),
    "ramp": lambda n: 1e3 * n,
    "sawtooth of 16": lambda n: 1e5 * (n % 16),
    "growing": lambda n: np.exp2(n / len(n) * 50),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ADVERSE)
def test_adverse_values(kind, layout, dtype):
    """What a poor choice of the shift K in F6 would show."""
    x, gamma, beta, dy = inputs(LAYOUTS[layout], dtype)
    channels_first = np.moveaxis(x, 1, 0)
    pattern = ADVERSE[kind](np.arange(channels_first[0].size)).reshape(channels_first[0].shape)
    both_ways((x + np.stack([pattern] * 3, 1)).astype(dtype), gamma, beta, dy)


def channels(values, shape):
    """Rows of C x m values as an array of the shape (N, C, ...)."""
    return np.moveaxis(values.reshape(shape[1], shape[0], *shape[2:]), 0, 1)


def exact_channels(shape, dtype, fractions):
    """oneDNN's recipe: pairs mean*(1 - f), mean*(1 + f) about a mean of 0.25*2^(c mod 7)."""
    mean = 0.25 * 2.0 ** (np.arange(shape[1]) % 7)
    n = np.arange(shape[0] * int(np.prod(shape[2:])))
    f = np.asarray(fractions)[n // 2 % len(fractions)] * (1 - 2 * (n % 2))
    return channels(mean[:, None] * (1 + f), shape).astype(dtype), mean, f


@pytest.mark.parametrize("shape", [(2, 19, 8, 16), (256, 19), (64, 9, 32, 32), (65536, 9)])
def test_exact_statistics_with_zero_tolerance(shape, dtype, isa):
    """Every sum is exact here in any order, so nothing at all may be lost."""
    x, mean, f = exact_channels(shape, dtype, [1 / 2, 1 / 4, 1 / 8, 1 / 16])
    m = bnpp.moments(x)
    _, saved = bnpp.batch_norm(x)
    assert np.array_equal(m.mean, mean)
    assert np.array_equal(m.m2, mean**2 * np.sum(f**2))
    assert np.array_equal(saved.mean, mean.astype(dtype))
    assert np.array_equal(saved.var, (mean**2 * np.mean(f**2)).astype(dtype))


@pytest.mark.parametrize("shape", [(2, 19, 8, 16), (256, 19), (64, 9, 32, 32), (65536, 9)])
def test_exact_results_with_zero_tolerance(shape, dtype, isa):
    """With f = 1/2 and eps = 0 also the root, y and the gradients are exact."""
    x, mean, f = exact_channels(shape, dtype, [1 / 2])
    gamma, beta = (np.arange(shape[1]) % 4 - 1.5).astype(dtype), np.ones(shape[1], dtype)
    # g has the pattern +1 +1 -1 -1 ...: orthogonal to 1 and to xh, so that dx = gamma*r*g.
    n = np.arange(f.size)
    g, xh = (channels(np.tile(v, (shape[1], 1)), shape) for v in (1 - n // 2 % 2 * 2, np.sign(f)))
    y, saved = bnpp.batch_norm(x, gamma, beta, eps=0.0)
    got = bnpp.batch_norm_backward((g + xh + 1).astype(dtype), saved)
    wide = gamma.reshape(-1, *[1] * (len(shape) - 2))
    assert np.array_equal(saved.inv_std, 2 / mean)
    assert np.array_equal(y, wide * xh + 1)
    assert np.array_equal(got.dx, wide * (2 / mean).reshape(wide.shape) * g)
    assert np.array_equal(got.dgamma, np.full(shape[1], f.size))
    assert np.array_equal(got.dbeta, np.full(shape[1], f.size))
