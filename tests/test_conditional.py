"""Conditional batch norm: the statistics of the batch, the scale and shift of each sample."""

import bnpp
import numpy as np
import pytest
from helpers.addresses import unaligned
from helpers.bits import same
from helpers.reference import WIDE, along, assert_exact, forward, reduced
from helpers.settings import THREADS, agree
from helpers.shapes import BITS, CASES, ORDERS, cases, data
from helpers.shapes import Case as Shape
from helpers.slopes import assert_slopes

IMAGES = [c for c in CASES if c.axis % len(c.shape) != 0 and np.prod(c.shape) < 10**5]


def rows(case, dtype, seed=1):
    """A gamma and a beta for each sample, some of them negative."""
    rng = np.random.default_rng([seed, *case.shape])
    return rng.uniform(-2, 2, (2, case.shape[0], case.shape[case.axis])).astype(dtype)


def spread(matrix, x, axis):
    """Shape (N, C) values so that they broadcast against x."""
    shape = [1] * x.ndim
    shape[0], shape[axis] = matrix.shape
    return matrix.reshape(shape)


def reference(x, gamma, beta, residual, dy, axis, mean=None, var=None):
    """The forward with a ReLU, its backward, and the sizes of what each adds up, in a wider type."""
    wide = WIDE[x.dtype]
    f = forward(x, axis=axis, mean=mean, var=var)
    r = along(f.inv_std, x, axis)
    xh = f.centred * r
    scale, shift = (spread(v.astype(wide), x, axis) for v in (gamma, beta))
    terms = [scale * xh, shift + 0 * xh, residual.astype(wide)]
    z = sum(terms)
    size = sum(np.abs(t) for t in terms) + np.abs(scale)  # as `forward` for float64
    g = np.where(z > 0, dy.astype(wide), 0)
    own = tuple(a for a in range(1, x.ndim) if a != axis % x.ndim)
    over, m = reduced(x, axis), max(x.size // max(x.shape[axis], 1), 1)
    h = scale * g
    sums = [along(v.sum(over), x, axis) for v in (h, h * xh)]
    sizes = [along(np.abs(v).sum(over), x, axis) for v in (h, h * xh)]
    dx, dx_size = r * h, np.abs(r * h)
    if mean is None:
        dx = r * (h - sums[0] / m - xh * sums[1] / m)
        dx_size = np.abs(r) * (np.abs(h) + sizes[0] / m + np.abs(xh) * sizes[1] / m)
    return {
        "y": (np.maximum(z, 0), size),
        "dx": (dx, dx_size),
        # Few terms a sum, so here too the mean's rounding counts: a part of one deviation.
        "dgamma": ((g * xh).sum(own), (np.abs(g * xh) + np.abs(g)).sum(own)),
        "dbeta": (g.sum(own), np.abs(g).sum(own)),
        "dresidual": (g, np.abs(g)),
        "dmean": ((-r * sums[0]).reshape(-1), (r * sizes[0]).reshape(-1)),
        "dvar": ((-(r**2) * sums[1] / 2).reshape(-1), (r**2 * sizes[1]).reshape(-1)),
    }


@pytest.mark.parametrize("mean", [3.0, 1e6])
@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
@cases(IMAGES)
def test_reference(case, frozen, mean, dtype):
    x, positive, about, residual, dy = data(case, dtype, mean=mean)
    gamma, beta = rows(case, dtype)
    keywords = {"axis": case.axis, "residual": residual, "activation": "relu"}
    given = ((about + dtype.type(mean)).astype(dtype), positive**2) if frozen else ()
    if frozen:
        y, saved = bnpp.conditional_batch_norm_inference(
            x, gamma, beta, *given, save=True, **keywords
        )
        again = bnpp.conditional_batch_norm_inference(x, gamma, beta, *given, **keywords)
        assert np.array_equal(y, again)
    else:
        y, saved = bnpp.conditional_batch_norm(x, gamma, beta, on_single="biased", **keywords)
    got = bnpp.conditional_batch_norm_backward(dy, saved)
    names = ("dx", "dgamma", "dbeta") + ("dmean", "dvar") * frozen + ("dresidual",)
    assert got._fields == names
    expected = reference(x, gamma, beta, residual, dy, case.axis, *given)
    for name, value in [("y", y), *got._asdict().items()]:
        assert_exact(value, *expected[name], dtype, name)


@pytest.mark.parametrize("activation", [None, "relu"])
@cases([c for c in BITS if c.axis == 1])
def test_equal_rows_are_batch_norm(case, activation, dtype):
    x, gamma, beta, residual, dy = data(case, dtype, mean=1e3)
    keywords = {"residual": residual, "activation": activation}
    same = [np.broadcast_to(v, (x.shape[0], len(v))) for v in (gamma, beta)]
    y, saved = bnpp.conditional_batch_norm(x, *same, **keywords)
    z, plain = bnpp.batch_norm(x, gamma, beta, **keywords)
    assert np.array_equal(y, z)
    assert np.array_equal([saved.mean, saved.var], [plain.mean, plain.var])
    got, expected = (
        bnpp.conditional_batch_norm_backward(dy, saved),
        bnpp.batch_norm_backward(dy, plain),
    )
    assert np.array_equal(got.dresidual, expected.dresidual)
    if dtype == np.float32:
        # The sums are added in another order, which a rounding to float32 shows now and then.
        assert (np.abs(got.dx - expected.dx) <= np.spacing(np.abs(expected.dx))).all()
    else:
        largest = np.abs(expected.dx).max()
        np.testing.assert_allclose(got.dx, expected.dx, rtol=1e-14, atol=1e-15 * largest)
    # Without a gradient of the batch's statistics it is the same, bit for bit.
    frozen = bnpp.conditional_batch_norm_inference(x, *same, beta, gamma, save=True, **keywords)
    other = bnpp.batch_norm_inference(x, gamma, beta, beta, gamma, save=True, **keywords)
    assert np.array_equal(frozen[0], other[0])
    assert np.array_equal(
        bnpp.conditional_batch_norm_backward(dy, frozen[1]).dx,
        bnpp.batch_norm_inference_backward(dy, other[1]).dx,
    )


@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("shape", [(3, 2, 4), (5, 3)])
def test_central_differences(shape, activation, frozen):
    rng = np.random.default_rng(11)
    n, channels = shape[:2]
    inputs = {
        "x": rng.standard_normal(shape) + 0.5,
        "gamma": rng.uniform(-2, 2, (n, channels)),
        "beta": rng.standard_normal((n, channels)),
        "residual": rng.standard_normal(shape),
    }
    if frozen:
        inputs |= {"mean": rng.standard_normal(channels), "var": rng.uniform(0.5, 2, channels)}
    w = rng.standard_normal(shape)
    more = {"save": True} if frozen else {}
    function = bnpp.conditional_batch_norm_inference if frozen else bnpp.conditional_batch_norm

    def run(values):
        return function(**values, eps=1e-3, activation=activation, **more)

    y, saved = run(inputs)
    assert np.abs(y[y != 0]).min() > 1e-4, "no value may stand at the kink of the ReLU"
    got = bnpp.conditional_batch_norm_backward(w, saved)
    assert_slopes(got, lambda v: np.sum(w * run(v)[0]), inputs, 1e-6, 1e-6, 1e-7)


@cases([c for c in BITS if c.axis == 1])
def test_every_setting_and_out(case, dtype):
    x, _, _, residual, dy = data(case, dtype, mean=1e3)
    gamma, beta = rows(case, dtype)
    keywords = {"residual": residual, "activation": "relu"}
    out, dx = unaligned(x), unaligned(x)

    def call(out, dx):
        y, saved = bnpp.conditional_batch_norm(x, gamma, beta, **keywords, out=out)
        got = bnpp.conditional_batch_norm_backward(dy, saved, out=dx)
        return y, saved.mean, saved.var, got

    same(call(None, None), agree(lambda: call(out, dx), THREADS), "without out and with")


@pytest.mark.parametrize("order", [name for name in ORDERS if name != "c"])
def test_memory_orders(order, dtype):
    case = Shape((5, 3, 4, 6), 1, "")
    x, _, _, residual, dy = data(case, dtype)
    gamma, beta = (ORDERS[order](a) for a in rows(case, dtype))
    x, residual, dy = (ORDERS[order](a) for a in (x, residual, dy))
    y, saved = bnpp.conditional_batch_norm(x, gamma, beta, residual=residual, activation="relu")
    got = bnpp.conditional_batch_norm_backward(dy, saved)
    for name, expected in reference(x, gamma, beta, residual, dy, 1).items():
        if name not in ("dmean", "dvar"):
            assert_exact(y if name == "y" else getattr(got, name), *expected, dtype, name)


def test_half(half):
    case = Shape((4, 3, 5, 6), 1, "")
    x, _, _, residual, dy = (a.astype(half) for a in data(case))
    gamma, beta = rows(case, np.float32)
    y, saved = bnpp.conditional_batch_norm(x, gamma, beta, residual=residual)
    wide = [a.astype(np.float32) for a in (x, residual, dy)]
    z, plain = bnpp.conditional_batch_norm(wide[0], gamma, beta, residual=wide[1])
    assert np.array_equal(y, z.astype(half))
    got = bnpp.conditional_batch_norm_backward(dy, saved)
    expected = bnpp.conditional_batch_norm_backward(wide[2], plain)
    assert np.array_equal(got.dx, expected.dx.astype(half))
    assert np.array_equal(got.dgamma, expected.dgamma)
    assert got.dgamma.dtype == np.float32


def test_in_place_and_parameters_that_are_not_given(dtype):
    case = Shape((4, 3, 5, 6), 1, "")
    x, _, _, residual, dy = data(case, dtype)
    ones, zeros = np.ones((4, 3)), np.zeros((4, 3))
    y, saved = bnpp.conditional_batch_norm(x, residual=residual)
    assert np.array_equal(y, bnpp.conditional_batch_norm(x, ones, zeros, residual=residual)[0])
    before = dy.copy()
    expected = bnpp.conditional_batch_norm_backward(dy, saved)
    assert expected.dresidual is dy
    got = bnpp.conditional_batch_norm_backward(dy, saved, out=dy)
    assert got.dx is dy
    assert np.array_equal(got.dresidual, before)
    assert np.array_equal(got.dx, expected.dx)
    z, saved = bnpp.conditional_batch_norm(x, residual=residual, out=x)
    assert z is x
    assert np.array_equal(z, y)
    with pytest.raises(ValueError, match="conditional_batch_norm_backward: x was overwritten"):
        bnpp.conditional_batch_norm_backward(dy, saved)


def test_one_nan_stays_in_its_channel(dtype):
    case = Shape((4, 3, 6), 1, "")
    x, *_, dy = data(case, dtype)
    gamma, beta = rows(case, dtype)
    clean, saved = bnpp.conditional_batch_norm(x, gamma, beta)
    dx = bnpp.conditional_batch_norm_backward(dy, saved).dx
    x[2, 1, 3] = np.nan
    y, saved = bnpp.conditional_batch_norm(x, gamma, beta)
    got = bnpp.conditional_batch_norm_backward(dy, saved)
    assert np.isnan(y[:, 1]).all()
    assert np.isnan(got.dgamma[:, 1]).all()
    for c in (0, 2):
        assert np.array_equal(y[:, c], clean[:, c])
        assert np.array_equal(got.dx[:, c], dx[:, c])


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"gamma": np.ones(3)}, ValueError, r"gamma has shape \(3,\), but it needs \(4, 3\)"),
        ({"beta": np.ones((3, 4))}, ValueError, r"beta has shape \(3, 4\), but it needs \(4, 3\)"),
        ({"gamma": np.ones((4, 3), int)}, TypeError, "gamma has dtype int64"),
        ({"axis": 0}, ValueError, "axis is 0, where the samples lie"),
        ({"axis": 2}, ValueError, "axis is 2, but x has 2 dimensions"),
        ({"eps": -1.0}, ValueError, "eps is -1"),
        ({"x": np.ones((1, 3))}, ValueError, "x has one value a channel"),
        ({"residual": np.ones((4, 4))}, ValueError, r"residual has shape \(4, 4\)"),
        ({"out": np.ones((4, 4))}, ValueError, r"out has shape \(4, 4\)"),
        ({"on_single": "inference"}, ValueError, "on_single is 'inference'"),
    ],
)
def test_bad_input(change, kind, sentence):
    given = {"x": np.arange(12.0).reshape(4, 3)} | change
    with pytest.raises(kind, match=f"^conditional_batch_norm: {sentence}"):
        bnpp.conditional_batch_norm(**given)


def test_bad_statistics_and_saved():
    x = np.arange(12.0).reshape(4, 3)
    name = "^conditional_batch_norm_inference: "
    with pytest.raises(ValueError, match=name + r"var\[0\] is -1"):
        bnpp.conditional_batch_norm_inference(x, None, None, np.ones(3), -np.ones(3))
    with pytest.raises(ValueError, match=name + "mean has 2 values"):
        bnpp.conditional_batch_norm_inference(x, None, None, np.ones(2), np.ones(3))
    name = "^conditional_batch_norm_backward: "
    with pytest.raises(TypeError, match=name + "saved is of type Saved"):
        bnpp.conditional_batch_norm_backward(x, bnpp.batch_norm(x)[1])
    _, saved = bnpp.conditional_batch_norm(x)
    with pytest.raises(ValueError, match=name + r"dy has shape \(3, 4\)"):
        bnpp.conditional_batch_norm_backward(x.T, saved)
    assert repr(saved) == "ConditionalBatchNormSaved(shape=(4, 3), axis=1, count=4)"
