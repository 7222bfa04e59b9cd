"""Weights of layer and root mean square normalization: masks and any nonnegative numbers."""

import numpy as np
import pytest
from helpers.addresses import unaligned
from helpers.bits import same
from helpers.halves import floats
from helpers.rows import back, check, data, outputs, run
from helpers.settings import THREADS, agree
from helpers.shapes import ORDERS, within
from helpers.slopes import assert_slopes

# (shape, axis, shape of the weights), each with the reason why it is here.
CASES = {
    "each value its own": ((7, 33), -1, (7, 33)),
    "the same for all samples": ((7, 33), -1, (33,)),
    "one a sample": ((7, 33), -1, (7, 1)),
    "one for all": ((7, 33), -1, ()),
    "rows in several pieces": ((3, 20011), -1, (3, 20011)),
    "many short samples": ((500, 5), -1, (500, 5)),
    "axes apart": ((3, 4, 5, 6), (0, 2), (4, 5, 1)),
    "an axis in the middle": ((5, 19, 6), 1, (19, 6)),
    "a vector": ((9,), 0, (9,)),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def draw(shape, kind, dtype=np.float32, seed=5):
    """Weights: a mask, or numbers of which a third are 0."""
    rng = np.random.default_rng(seed)
    w = rng.random(shape) > 0.33
    return w if kind == "mask" else (w * rng.exponential(3, shape)).astype(dtype)


@pytest.mark.parametrize("kind", ["mask", "numbers"])
@cases
def test_formulas(case, kind, norm, dtype):
    shape, axis, of_weights = case
    x, gamma, beta, dy = data(shape, axis, dtype)
    check(norm, x, gamma, beta, dy, axis, w=draw(of_weights, kind, dtype))


def test_lengths_about_the_lane_width(norm, dtype):
    for n in range(1, 34):
        with within(n):
            w = draw((5, n), "numbers", dtype)
            check(norm, *data((5, n), 1, dtype), 1, w=w)


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e6])
def test_exact_at_any_mean(mean, norm, dtype):
    x, gamma, beta, dy = data((11, 777), -1, dtype, mean=mean, std=1)
    check(norm, x, gamma, beta, dy, -1, eps=0.0, w=draw(x.shape, "numbers", dtype))


@pytest.mark.parametrize("order", ORDERS)
def test_memory_orders(order, norm):
    x, gamma, beta, dy = data((6, 5, 21), (0, 2))
    w = draw(x.shape, "numbers")
    check(norm, ORDERS[order](x), gamma, beta, dy, (0, 2), w=w)
    check(norm, x, gamma, beta, dy, (0, 2), w=ORDERS[order](w))


def test_equal_weights_change_little(norm, dtype):
    """Weights of 1 give what none give, but for the last bit."""
    x, gamma, beta, dy = data((60, 99), -1, dtype, mean=100)
    plain = outputs(norm, x, gamma, beta, dy, -1)
    for w in (1, 3.0, np.float32(0.7)):
        for a, b in zip(plain, outputs(norm, x, gamma, beta, dy, -1, weights=w), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-4 if dtype == np.float32 else 1e-11)


def test_a_mask_is_the_array_without_the_masked(norm, dtype):
    x, gamma, beta, dy = data((1, 200), -1, dtype)
    mask = draw(x.shape, "mask")
    keep = mask[0]
    dirty = np.where(mask, x, np.nan).astype(dtype)
    dirty[0, np.flatnonzero(~keep)[0]] = np.inf
    y, saved = run(norm, dirty, gamma, beta, weights=mask)
    got = back(norm, dy, saved)
    short, of_short = run(norm, x[:, keep], gamma[keep], beta[keep])
    expected = back(norm, dy[:, keep], of_short)
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-12}
    for name in ("mean", "var", "inv_std"):
        np.testing.assert_allclose(getattr(saved, name), getattr(of_short, name), **close)
    np.testing.assert_allclose(y[:, keep], short, **close)
    np.testing.assert_allclose(got.dx[:, keep], expected.dx, **close)
    for mine, other in zip(got[1:], expected[1:], strict=True):
        np.testing.assert_allclose(mine[keep], other, **close)
        assert not mine[~keep].any()
    # No statistic depends on the masked, so only their own y does.
    direct = saved.inv_std[:, None] * (dy * gamma)[:, ~keep]
    np.testing.assert_allclose(got.dx[:, ~keep], direct, **close)


def test_the_affine_map_is_that_of_all_values(norm):
    """A masked value that is finite is normalized like the others, and its gradient goes through."""
    x, gamma, beta, dy = data((4, 50), -1, np.float64)
    mask = draw(x.shape, "mask")
    y, saved = run(norm, x, gamma, beta, weights=mask)
    xh = (x - saved.mean[:, None]) * saved.inv_std[:, None]
    np.testing.assert_allclose(
        y, xh * gamma + (0 if norm == "rms" else beta), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(back(norm, dy, saved).dgamma, (dy * xh).sum(0), rtol=1e-12)


def test_a_weight_of_two_is_the_value_twice(norm, dtype):
    x = data((3, 64), -1, dtype)[0]
    w = np.ones(64)
    w[::3] = 2
    times = w.astype(int)
    _, saved = run(norm, x, weights=w)
    _, repeated = run(norm, np.repeat(x, times, axis=1))
    close = {"rtol": 1e-6} if dtype == np.float32 else {"rtol": 1e-13}
    for name in ("mean", "var", "inv_std"):
        np.testing.assert_allclose(getattr(saved, name), getattr(repeated, name), **close)


@pytest.mark.parametrize("axis", [-1, (0, 2)], ids=str)
def test_central_differences(axis, norm):
    x, gamma, beta, c = data((3, 4, 5), axis, np.float64, mean=0.5, std=1)
    w = draw(x.shape, "numbers", np.float64)
    inputs = {"x": x, "gamma": gamma} | ({} if norm == "rms" else {"beta": beta})
    keywords = {"axis": axis, "eps": 1e-3, "weights": w}
    _, saved = run(norm, **inputs, **keywords)
    gradients = back(norm, c, saved)
    assert_slopes(gradients, lambda v: np.sum(c * run(norm, **v, **keywords)[0]), inputs)


@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_a_sample_without_weight_is_empty(eps, norm, dtype):
    x, gamma, beta, dy = data((3, 40), -1, dtype)
    x[1, 7] = np.nan
    w = np.ones((3, 40))
    w[1] = 0
    y, saved = run(norm, x, gamma, beta, eps=eps, weights=w)
    got = back(norm, dy, saved)
    finite = np.isfinite(x[1])
    assert np.array_equal(y[1, finite], (0 * beta if norm == "rms" else beta)[finite])
    assert (saved.mean[1], saved.var[1], saved.inv_std[1]) == (0, 0, 0)
    assert not got.dx[1].any()
    others, of_others = run(norm, x[::2], gamma, beta, eps=eps, weights=w[::2])
    assert np.array_equal(y[::2], others)
    expected = back(norm, dy[::2], of_others)
    assert np.array_equal(got.dx[::2], expected.dx)
    np.testing.assert_allclose(got.dgamma, expected.dgamma, rtol=1e-6)


def test_halves(half, norm):
    x, gamma, beta, dy = data((20, 70), -1, half)
    w = draw(x.shape, "numbers")
    y, saved = run(norm, x, gamma, beta, weights=w.astype(half))
    wide = [floats(a) for a in (x, gamma, beta, dy)]
    exact, of_wide = run(norm, *wide[:3], weights=floats(w.astype(half)))
    np.testing.assert_array_equal(floats(y), floats(exact.astype(half)))
    dx, expected = back(norm, dy, saved).dx, back(norm, wide[3], of_wide).dx
    np.testing.assert_allclose(floats(dx), floats(expected.astype(half)), rtol=8e-3, atol=1e-7)


@pytest.mark.parametrize("shape", [(37, 45), (700, 17), (5, 20011)], ids=str)
def test_every_setting_and_alignment(shape, norm, dtype):
    x, gamma, beta, dy = data(shape, -1, dtype, mean=1e3)
    w = draw(shape, "numbers", dtype)
    first = agree(lambda: outputs(norm, x, gamma, beta, dy, -1, weights=w), THREADS)
    same(first, outputs(norm, x, gamma, beta, dy, -1, weights=unaligned(w)), "unaligned")
    out, dx = np.full_like(x, 7), np.full_like(x, 7)
    same(first, outputs(norm, x, gamma, beta, dy, -1, out=out, dx=dx, weights=w), "out")


REFUSED = {
    "negative": (-1.0, ValueError, r"weights holds -1, but each needs to be finite and >= 0"),
    "NaN": (np.nan, ValueError, "weights holds nan"),
    "infinite": (np.inf, ValueError, "weights holds inf"),
    "beyond float32": (1e300, ValueError, "weights holds inf"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refused_values(case, norm):
    value, error, words = case
    x, gamma, beta, _ = data((6, 33), -1)
    before = x.copy()
    for shape in ((6, 33), (33,), (6, 1), ()):
        w = np.ones(shape)
        w[(-1,) * len(shape)] = value
        with pytest.raises(error, match=rf"^{norm}_norm: {words}"):
            run(norm, x, gamma, beta, weights=w, out=x)
        assert np.array_equal(x, before)


def test_refused_weights(norm):
    x, gamma, beta, dy = data((6, 33), -1)
    for w, error, words in (
        (np.ones(6), ValueError, r"weights has shape \(6,\), .* broadcasts to x's \(6, 33\)"),
        (np.ones((1, 6, 33)), ValueError, r"weights has shape \(1, 6, 33\)"),
        (np.ones(33) * 1j, TypeError, "weights has dtype complex128"),
        (np.ma.masked_less(np.ones(33), 0), TypeError, "weights is a masked array"),
        ("spam", TypeError, "weights has dtype <U4"),
    ):
        with pytest.raises(error, match=rf"^{norm}_norm: {words}"):
            run(norm, x, gamma, beta, weights=w)
    w = np.ones_like(x)
    with pytest.raises(ValueError, match="out shares memory with weights"):
        run(norm, x, gamma, beta, weights=w, out=w)
    _, saved = run(norm, x, gamma, beta, weights=w)
    with pytest.raises(ValueError, match="out shares memory with saved's weights"):
        back(norm, dy, saved, out=w)


@pytest.mark.parametrize("shape", [(0, 5), (4, 0)], ids=str)
def test_empty(shape, norm):
    x = np.empty(shape, np.float32)
    y, saved = run(norm, x, weights=np.ones(shape[-1]))
    assert y.shape == shape
    assert not back(norm, x, saved).dgamma.any()


def test_weights_are_read_as_they_come(norm):
    """Lists, integers, booleans and other floats are the same weights."""
    x, gamma, beta, dy = data((4, 3), -1)
    first = outputs(norm, x, gamma, beta, dy, -1, weights=np.float32([1, 0, 2]))
    for w in ([1, 0, 2], np.array([1, 0, 2]), np.array([1, 0, 2], "f8"), [1.0, 0, 2]):
        same(first, outputs(norm, x, gamma, beta, dy, -1, weights=w), w)
    lists = run(norm, x.tolist(), weights=[True, False, True])[0]
    assert np.array_equal(lists, run(norm, x.astype(float), weights=[1, 0, 1])[0])
