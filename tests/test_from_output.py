"""The backward from y alone: `keep="output"`, after which x's memory is free."""

import gc
import tracemalloc

import bnpp
import numpy as np
import pytest
from helpers.bits import same
from helpers.reference import along, backward, forward, reduced
from helpers.settings import THREADS, agree
from helpers.shapes import BITS, CASES, ORDERS, Case, cases, data

UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
LEAST = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}


def parameters(channels, dtype):
    """gamma of both signs, and beta up to three times as large; channel 0 is all but there."""
    rng = np.random.default_rng(5)
    gamma = rng.uniform(0.3, 2, channels) * rng.choice([-1, 1], channels)
    beta = 2.99 * rng.uniform(-1, 1, channels) * gamma
    gamma[:1], beta[:1] = -0.5, 1.5 - 2.0**-13
    return gamma.astype(dtype), beta.astype(dtype)


def assert_within(got, expected, size, dtype, name):
    """The documented bound: four roundings of y's dtype of the terms."""
    off = np.abs(np.asarray(got).astype(expected.dtype) - expected)
    wrong = ~(off <= 4 * UNIT[dtype.name] * size + LEAST[dtype.name] * UNIT[dtype.name])
    assert not wrong.any(), f"{name}: {(off / size)[wrong].max() / UNIT[dtype.name]} roundings"


def check(case, dtype, mean=3.0, order="c"):
    """y into x where that can be, and the gradients against a wider type, within the bound."""
    dtype = np.dtype(dtype)
    x, _, _, _, dy = data(case, dtype, mean=mean)
    x, dy = ORDERS[order](x), ORDERS[order](dy)
    wide = np.dtype(np.float32 if dtype.itemsize == 2 else dtype)
    gamma, beta = parameters(case.shape[case.axis], wide)
    dmean, dvar = beta.astype(wide), gamma.astype(wide)
    f = forward(x.astype(wide), gamma, beta, axis=case.axis)
    expected = backward(dy.astype(wide), f, gamma, axis=case.axis)
    keywords = {"axis": case.axis, "on_single": "biased"}
    plain = bnpp.batch_norm(x.copy(order="K"), gamma, beta, **keywords)[1]
    into = x if x.flags.writeable else None
    y, saved = bnpp.batch_norm(x, gamma, beta, **keywords, keep="output", out=into)
    assert (y is x) == (into is not None)
    assert (saved.keeps, saved.reason) == ("output", None)
    got = bnpp.batch_norm_backward(dy, saved, dmean=dmean, dvar=dvar)
    assert np.array_equal(got.dbeta, bnpp.batch_norm_backward(dy, plain).dbeta)

    def spread(values):
        return along(values, dy, case.axis)

    m = max(saved.count, 1)
    g, xh = np.abs(dy.astype(f.y.dtype)), np.abs(f.centred * spread(f.inv_std))
    sums = (g * (1 + xh)).sum(reduced(dy, case.axis))
    assert_within(got.dgamma, expected.dgamma, sums, dtype, "dgamma")
    terms = [spread(dmean) / m, 2 * spread(dvar) * f.centred / m]
    size = spread(np.abs(gamma) * f.inv_std) * (g + (1 + xh) * spread(sums / m))
    std = spread(np.sqrt(f.var + 1e-5))
    size = size + np.abs(terms[0]) + 2 * np.abs(spread(dvar)) * std * (1 + xh) / m
    assert_within(got.dx, expected.dx + sum(terms), size, dtype, "dx")


@cases(CASES)
def test_shared_shapes(case, dtype):
    check(case, dtype)


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_memory_orders(order, dtype):
    check(Case((4, 6, 5, 7), 1, ""), dtype, order=order)


@pytest.mark.parametrize("shape", [(4, 3, 1111), (4444, 3)], ids=str)
@pytest.mark.parametrize("mean", [1e2, 1e4, 1e6])
def test_any_mean(mean, shape, dtype):
    check(Case(shape, 1, ""), dtype, mean)


@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (37, 21), (5, 40, 7, 7)], ids=str)
def test_halves(half, shape):
    check(Case(shape, 1, ""), half)


@pytest.mark.parametrize("outlier", [1e3, 1e6])
def test_an_outlier_keeps_the_bound(outlier):
    """One value stands sqrt(m) deviations away, where errors of the sums count most."""
    case = Case((40000, 2), 1, "")
    x, _, _, _, dy = data(case)
    x[7] = outlier
    dy[7] = 0
    gamma, beta = parameters(2, np.float32)
    f = forward(x, gamma, beta)
    expected = backward(dy, f, gamma)
    got = bnpp.batch_norm_backward(dy, bnpp.batch_norm(x, gamma, beta, keep="output")[1])
    g, xh = np.abs(dy.astype(np.float64)), np.abs(f.centred * f.inv_std)
    sums = (g * (1 + xh)).sum(0)
    assert_within(got.dgamma, expected.dgamma, sums, np.dtype("f4"), "dgamma")
    size = np.abs(gamma) * f.inv_std * (g + (1 + xh) * sums / len(x))
    assert_within(got.dx, expected.dx, size, np.dtype("f4"), "dx")


def test_a_beta_between_two_float32_numbers():
    """All of it counts: else every xh would be off by the same, which sums up."""
    x = np.random.default_rng(1).standard_normal((40000, 2)).astype(np.float32)
    saved = bnpp.batch_norm(x, None, np.full(2, 1.5 + 2.0**-25), keep="output")[1]
    dgamma = bnpp.batch_norm_backward(np.ones_like(x), saved).dgamma
    assert np.abs(dgamma).max() < len(x) * 2.0**-26


@cases(BITS)
def test_every_setting_and_out_give_the_same_bits(case, dtype):
    x, _, _, _, dy = data(case, dtype)
    gamma, beta = parameters(case.shape[case.axis], dtype)

    def call(given, out):
        y, saved = bnpp.batch_norm(given, gamma, beta, axis=case.axis, keep="output", out=out)
        return y, bnpp.batch_norm_backward(dy, saved)

    expected = agree(lambda: call(x, None), THREADS)
    for out in (x.copy(), np.empty(x.shape[::-1], dtype).T):
        same(expected, agree(lambda out=out: call(x, out)), f"out with strides {out.strides}")
    twin = x.copy()
    y, _ = found = call(twin, twin)
    same(expected, found, "out=x")
    plain = bnpp.batch_norm(x, gamma, beta, axis=case.axis)[0]
    assert np.array_equal(y, plain), "y does not depend on what is kept"


def test_the_other_derivatives_work_from_y_too():
    x, _, _, _, dy = data(Case((6, 5, 7, 7), 1, ""), np.float64, mean=1e3)
    v = data(Case((6, 5, 7, 7), 1, ""), np.float64, seed=1)[4]
    gamma, beta = parameters(5, np.float64)
    dots = np.random.default_rng(2).standard_normal((2, 5))
    results = []
    for keep in ("input", "output"):
        saved = bnpp.batch_norm(x, gamma, beta, keep=keep)[1]
        tangents = bnpp.batch_norm_jvp(saved, v, *dots)
        results.append((*tangents, *bnpp.batch_norm_double_backward(saved, dy, v, *dots)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_constant_channel(dtype):
    x = np.full((4, 3, 5), 7, dtype)
    dy = np.random.default_rng(0).standard_normal(x.shape).astype(dtype)
    for eps in (0.0, 1e-5):
        saved = bnpp.batch_norm(x, None, np.full(3, 2, dtype), keep="output", eps=eps)[1]
        found = bnpp.batch_norm_backward(dy, saved)
        plain = bnpp.batch_norm_backward(dy, bnpp.batch_norm(x, eps=eps)[1])
        for a, b in zip(found, plain, strict=True):
            assert np.array_equal(a, b)


X = np.random.default_rng(0).standard_normal((5, 13, 7)).astype(np.float32)
ONES = np.ones(13, np.float32)


def at_5(value):
    """Ones, but for channel 5."""
    return np.where(np.arange(13) == 5, value, 1).astype(np.float64)


REFUSED = {
    "relu": ({"activation": "relu"}, "activation"),
    "residual": ({"residual": X}, "residual"),
    "gamma 0": ({"gamma": at_5(0)}, "channel 5 has gamma 0"),
    "gamma tiny": ({"gamma": at_5(1e-39), "beta": 0 * ONES}, "channel 5 has gamma 1e-39"),
    "gamma NaN": ({"gamma": at_5(np.nan)}, "channel 5 has gamma nan"),
    "beta NaN": ({"beta": at_5(np.nan)}, "channel 5 .* beta nan"),
    "beta large": ({"beta": at_5(3.01)}, r"channel 5 .* beta 3.01.*<= 3 \* \|gamma\|"),
    "beta low": ({"beta": at_5(-3.01)}, "channel 5 .* beta -3.01"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_before_anything_is_changed(what):
    more, words = REFUSED[what]
    x, out = X.copy(), np.full_like(X, 7)
    given = {"gamma": ONES, "beta": ONES} | more
    for into in (out, x):
        with pytest.raises(ValueError, match=f"^batch_norm: keep is 'output', but .*{words}") as e:
            bnpp.batch_norm(x, **given, keep="output", out=into)
        assert "\n" not in str(e.value)
    assert (out == 7).all()
    assert np.array_equal(x, X)
    y, saved = bnpp.batch_norm(x, **given, keep="auto", out=out)
    assert saved.keeps == "input"
    assert np.array_equal(y, bnpp.batch_norm(x, **given)[0], equal_nan=True)
    assert "x was overwritten" in bnpp.batch_norm(x, **given, keep="auto", out=x)[1].reason


def test_what_auto_can_keep():
    assert bnpp.batch_norm(X, ONES, 2 * ONES, keep="auto")[1].keeps == "output"
    assert bnpp.batch_norm(X, ONES, 2 * ONES)[1].keeps == "input"
    assert "of y" in repr(bnpp.batch_norm(X, keep="output")[1])
    for wrong in ("both", None, 1):
        with pytest.raises(
            ValueError, match=r"^batch_norm: keep is .*'input' or 'output' or 'auto'"
        ):
            bnpp.batch_norm(X, keep=wrong)


def test_dx_may_not_lie_on_y():
    y, saved = bnpp.batch_norm(X, keep="output")
    with pytest.raises(ValueError, match="out shares memory with saved's y"):
        bnpp.batch_norm_backward(X, saved, out=y)


def held(keep, layers=6, shape=(4, 8, 32, 32)):
    """Bytes of arrays alive between forward and backward of a chain of layers with tanh between."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    x, tape = np.ones(shape, np.float32), []
    for _ in range(layers):
        z = np.multiply(x, np.float32(1.5))  # a new array, as a convolution makes
        x, saved = bnpp.batch_norm(z, keep=keep, out=z if keep == "output" else None)
        tape.append((x, saved))  # the next layer's backward needs x, its input
        del z
    bytes_ = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return bytes_ / (layers * x.nbytes)


def test_one_array_a_layer_less_stays_alive():
    """Between forward and backward: x and y of each layer, or y alone."""
    assert held("input") == pytest.approx(2, abs=0.3)
    assert held("output") == pytest.approx(1, abs=0.3)
