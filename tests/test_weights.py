"""Weights: masks are the statistics of what they leave, weights those of repeated values."""

import bnpp
import numpy as np
import pytest
from bnpp import _core
from helpers.addresses import assert_untouched_beside, at_offset
from helpers.layers import state
from helpers.reference import along, assert_close, reduced
from helpers.settings import THREADS, agree
from helpers.shapes import CASES, ORDERS, Case, cases, data, lanes, within
from helpers.slopes import assert_slopes
from helpers.weighted_reference import weighted

SHAPES = [
    Case((4, 3, 5, 7), 1, "short planes as columns"),
    Case((6, 5, 300), 1, "runs"),
    Case((5, 7, 64), 1, "runs of columns that are tiles of their own where channels share weights"),
    Case((2, 9000, 3), 2, "many blocks of rows"),
    Case((1, 2, 33000), 1, "runs in pieces"),
    Case((40, 6), 1, "channels innermost"),
    Case((8, 30, 19), -1, "channels last"),
    Case((5, 4, 9), 0, "channels first of all"),
    Case((7, 1, 33), 1, "one channel"),
    Case((3, 40, 7, 7), 1, "many short planes"),
]


def weights_of(case, form, dtype=np.float32, seed=0):
    """Weights of a form: which axes they have in common with x, and what they are."""
    shape, kind = form
    rng = np.random.default_rng([seed, *case.shape])
    axis = case.axis % len(case.shape)
    size = {
        "full": case.shape,
        "shared": tuple(1 if i == axis else n for i, n in enumerate(case.shape)),
        "sample": (case.shape[0], *(1,) * (len(case.shape) - 1)),
        "last": case.shape[-1:],
        "channel": tuple(n if i in (0, axis) else 1 for i, n in enumerate(case.shape)),
    }[shape]
    keep = rng.random(size) < 0.6
    keep.reshape(-1)[:2] = True
    return (keep * (1 if kind == "mask" else rng.uniform(0.1, 3, size))).astype(dtype)


FORMS = [(s, k) for s in ("full", "shared", "sample", "last", "channel") for k in ("mask", "real")]
forms = pytest.mark.parametrize("form", FORMS, ids="-".join)


def run(x, w, gamma, beta, dy, axis, **more):
    y, saved = bnpp.batch_norm(x, gamma, beta, axis=axis, weights=w, on_single="biased", **more)
    g = bnpp.batch_norm_backward(dy, saved)
    found = {"y": y, "mean": saved.mean, "var": saved.var}
    return found | {"dx": g.dx, "dgamma": g.dgamma, "dbeta": g.dbeta}


@forms
@cases(SHAPES)
def test_against_the_reference(case, form, dtype):
    x, gamma, beta, _, dy = data(case, dtype, mean=3)
    w = weights_of(case, form, dtype)
    expected = weighted(x, w, gamma, beta, dy, axis=case.axis)
    assert_close(run(x, w, gamma, beta, dy, case.axis), expected)
    m = bnpp.moments(x, axis=case.axis, weights=w)
    expected = weighted(x, w, gamma, beta, dy, axis=case.axis, dtype=np.longdouble)
    assert_close({"m2": m.m2, "weight": m.count}, expected)


@cases(SHAPES[:8])
def test_means_to_a_million(case, dtype):
    for mean in (1e3, 1e6):
        x, gamma, beta, _, dy = data(case, dtype, mean=mean, std=1)
        for form in (("full", "real"), ("shared", "mask"), ("channel", "real")):
            w = weights_of(case, form, dtype)
            expected = weighted(x, w, gamma, beta, dy, axis=case.axis)
            assert_close(run(x, w, gamma, beta, dy, case.axis), expected, (form, mean))


def check_shape(case, dtype):
    """Weights of each value, and a mask that all channels share."""
    x, gamma, beta, _, dy = data(case, dtype)
    for form in (("full", "real"), ("shared", "mask")):
        w = np.ones(1, dtype) if x.size == 0 else weights_of(case, form, dtype)
        expected = weighted(x, w, gamma, beta, dy, axis=case.axis)
        assert_close(run(x, w, gamma, beta, dy, case.axis), expected, form)


@cases(CASES)
def test_shared_shapes(case, dtype):
    check_shape(case, dtype)


@lanes
def test_lengths_about_the_lane_width(lanes, dtype):
    for case in lanes:
        with within(case):
            check_shape(case, dtype)


@cases(SHAPES)
def test_ones_are_no_weights(case, dtype):
    """To one ulp; to a few in float64, whose sums are of float64 too and are taken in another order."""
    ulps = 1 if dtype == np.float32 else 4
    x, gamma, beta, _, dy = data(case, dtype, mean=100)
    plain = bnpp.batch_norm(x, gamma, beta, axis=case.axis)
    back = bnpp.batch_norm_backward(dy, plain[1])
    expected = {"y": plain[0], "mean": plain[1].mean, "dgamma": back.dgamma, "dx": back.dx}
    for w in (1, np.ones(x.shape, bool), np.ones(x.shape[-1], int)):
        got = run(x, w, gamma, beta, dy, case.axis)
        for name, value in expected.items():
            scale = np.abs(value).max() if name in ("dx", "dgamma") else np.abs(value)
            if name == "y":  # a sum of two terms
                offset = np.abs(along(beta, x, case.axis))
                scale = np.maximum(offset, np.abs(value - along(beta, x, case.axis)))
            assert np.all(np.abs(got[name] - value) <= ulps * np.spacing(scale)), name


@forms
@cases(SHAPES)
def test_padding_touches_nothing(case, form, dtype):
    """Neither statistics nor gradients of the other elements know what is under weight 0."""
    x, gamma, beta, _, dy = data(case, dtype, mean=1e4)
    w = weights_of(case, form, dtype)
    out = np.broadcast_to(w, x.shape) == 0
    clean = np.where(out, dtype.type(1e4), x)
    a = run(clean, w, gamma, beta, dy, case.axis)
    m2 = bnpp.moments(clean, axis=case.axis, weights=w).m2
    for bad in (np.nan, np.inf, 1e30):
        dirty = np.where(out, dtype.type(bad), x)
        b = run(dirty, w, gamma, beta, dy, case.axis)
        for name in ("mean", "var", "dbeta"):
            assert np.array_equal(a[name], b[name]), (name, bad)
        assert np.array_equal(a["y"][~out], b["y"][~out]), bad
        if not np.isfinite(bad):
            assert_close(b, weighted(dirty, w, gamma, beta, dy, axis=case.axis), bad)
            assert np.isfinite(b["dx"]).all(), bad
            assert np.isfinite(b["dgamma"]).all(), bad
        kept = bnpp.moments(dirty, axis=case.axis, weights=w)
        assert np.array_equal(kept.m2, m2), bad


def test_bad_values_with_weight_stay_in_their_channel(dtype):
    x, gamma, beta, _, dy = data(SHAPES[0], dtype)
    w = weights_of(SHAPES[0], ("shared", "mask"), dtype)
    good = run(x, w, gamma, beta, dy, 1)
    x[0, 1, 0, 0] = np.nan
    assert w[0, 0, 0, 0] == 1
    got = run(x, w, gamma, beta, dy, 1)
    for name, value in got.items():
        channels = [0, 2]
        pick = (slice(None), channels) if value.ndim > 1 else channels
        assert np.array_equal(value[pick], good[name][pick]), name
    assert np.isnan(got["y"][:, 1]).all()
    assert np.isnan(got["dgamma"][1])


@cases(SHAPES[:8])
def test_a_mask_is_the_compacted_array(case, dtype):
    x, gamma, beta, _, _ = data(case, dtype, mean=50)
    w = weights_of(case, ("shared", "mask"), dtype)
    y, saved = bnpp.batch_norm(x, gamma, beta, axis=case.axis, weights=w)
    rows = np.moveaxis(x, case.axis, -1)[np.moveaxis(w, case.axis, -1)[..., 0] == 1]
    expected, _ = bnpp.batch_norm(rows, gamma, beta)
    got = np.moveaxis(y, case.axis, -1)[np.moveaxis(w, case.axis, -1)[..., 0] == 1]
    np.testing.assert_allclose(got, expected, rtol=0, atol=8 * np.finfo(dtype).eps)
    assert np.array_equal(saved.weight, np.full(len(gamma), len(rows)))
    a, b = bnpp.moments(x, axis=case.axis, weights=w), bnpp.moments(rows)
    assert np.array_equal(a.count, b.count)
    assert np.array_equal(a.squared_weights, b.squared_weights)
    np.testing.assert_allclose(a.m2, b.m2, rtol=4e-16)
    np.testing.assert_allclose(a.var(unbiased=True), b.var(unbiased=True), rtol=4e-16)


def test_weight_2_is_a_repeated_sample(dtype):
    x, gamma, beta, _, dy = data(Case((9, 4, 6), 1, ""), dtype)
    w = np.array([1, 2, 1, 3, 0, 1, 2, 2, 1])
    again = np.repeat(x, w, axis=0)
    y, saved = bnpp.batch_norm(x, gamma, beta, weights=w[:, None, None])
    expected, plain = bnpp.batch_norm(again, gamma, beta)
    tolerance = {"rtol": 1e-5 if dtype == np.float32 else 1e-13, "atol": 1e-6}
    np.testing.assert_allclose(np.repeat(y, w, axis=0), expected, **tolerance)
    np.testing.assert_allclose(saved.var, plain.var, **tolerance)
    # The copies of a sample share its gradient.
    dy[4] = 0
    got = bnpp.batch_norm_backward(dy, saved)
    shares = np.repeat(dy / np.maximum(w, 1)[:, None, None].astype(dtype), w, axis=0)
    back = bnpp.batch_norm_backward(shares, plain)
    at = np.concatenate([[0], np.cumsum(w)])
    for i in np.flatnonzero(w):
        np.testing.assert_allclose(got.dx[i], back.dx[at[i] : at[i + 1]].sum(0), **tolerance)
    np.testing.assert_allclose(got.dgamma, back.dgamma, **tolerance)


@pytest.mark.parametrize("form", [("full", "real"), ("shared", "mask")], ids="-".join)
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("shape", [(3, 2, 4), (7, 3)])
def test_central_differences(shape, activation, form):
    """Of a loss of y, mean and variance."""
    rng = np.random.default_rng(5)
    inputs = {
        "x": rng.standard_normal(shape) + 0.5,
        "gamma": rng.uniform(0.5, 2, shape[1]),
        "beta": rng.standard_normal(shape[1]),
        "residual": rng.standard_normal(shape),
    }
    of_y = rng.standard_normal(shape)
    keywords = {"eps": 1e-3, "activation": activation}
    keywords["weights"] = weights_of(Case(shape, 1, ""), form, np.float64)

    dmean, dvar = rng.standard_normal((2, shape[1]))

    def loss(values):
        y, saved = bnpp.batch_norm(**values, **keywords)
        return np.sum(of_y * y) + dmean @ saved.mean + dvar @ saved.var

    _, saved = bnpp.batch_norm(**inputs, **keywords)
    got = bnpp.batch_norm_backward(of_y, saved, dmean=dmean, dvar=dvar)
    assert_slopes(got, loss, inputs, h=1e-6, rtol=1e-5, atol=1e-7)


@forms
@cases([*SHAPES[:3], SHAPES[5], SHAPES[6], SHAPES[9], SHAPES[4]])
def test_the_same_bits_always(case, form, dtype):
    x, gamma, beta, residual, dy = data(case, dtype, mean=1e3)
    w = weights_of(case, form, dtype)
    x[np.broadcast_to(w, x.shape) == 0] = np.nan

    def call():
        found = run(x, w, gamma, beta, dy, case.axis, residual=residual, activation="relu")
        return found | {"m2": bnpp.moments(x, axis=case.axis, weights=w).m2}

    agree(call, THREADS)


@cases(SHAPES)
def test_residual_and_relu(case, dtype):
    """The same as without, of the gradient that the ReLU lets through."""
    x, gamma, beta, residual, dy = data(case, dtype)
    for form in FORMS:
        w = weights_of(case, form, dtype)
        given = {"axis": case.axis, "weights": w, "residual": residual, "on_single": "biased"}
        z, plain = bnpp.batch_norm(x, gamma, beta, **given)
        y, saved = bnpp.batch_norm(x, gamma, beta, activation="relu", **given)
        assert np.array_equal(y, np.maximum(z, 0)), form
        g = np.where(z > 0, dy, dtype.type(0))
        got, expected = bnpp.batch_norm_backward(dy, saved), bnpp.batch_norm_backward(g, plain)
        for name, value in got._asdict().items():
            assert np.array_equal(value, getattr(expected, name)), (name, form)


@pytest.mark.parametrize("order", [*ORDERS])
def test_orders_of_x_and_weights(order, dtype):
    case = Case((4, 6, 64, 3), 1, "")
    x, gamma, beta, _, dy = data(case, dtype)
    for form in (("full", "real"), ("shared", "mask")):
        w = weights_of(case, form, dtype)
        if order == "broadcast":
            x, w, dy = (np.ascontiguousarray(ORDERS[order](a)) for a in (x, w, dy))
        expected = weighted(x, w, gamma, beta, dy)
        for moved in (
            (ORDERS[order](x), w),
            (x, ORDERS[order](w)),
            [ORDERS[order](a) for a in (x, w)],
        ):
            assert_close(run(*moved, gamma, beta, dy, 1), expected)


def test_stride_0_weights_are_the_written_out_ones(dtype):
    for case in SHAPES:
        x, gamma, beta, _, dy = data(case, dtype)
        for form in FORMS:
            w = weights_of(case, form, dtype)
            spread = np.broadcast_to(w, x.shape)
            a, b = (run(x, v, gamma, beta, dy, case.axis) for v in (w, spread))
            for name, value in a.items():
                assert np.array_equal(value, b[name]), (name, case, form)
            if "mask" not in form:  # written out, a mask is weights like any others
                expected = weighted(x, w, gamma, beta, dy, axis=case.axis)
                assert_close(run(x, spread.copy(), gamma, beta, dy, case.axis), expected, form)


@pytest.mark.parametrize("offset", [0, 3])
def test_streamed_gradients_have_the_same_bits(offset, dtype):
    for case in (Case((3, 5, 300), 1, ""), Case((9, 64), 1, ""), Case((9, 65), 1, "")):
        x, gamma, beta, _, dy = data(case, dtype)
        for form in (("full", "real"), ("shared", "mask")):
            w = weights_of(case, form, dtype)
            _, saved = bnpp.batch_norm(x, gamma, beta, weights=w)
            memory, out = at_offset(x.shape, dtype, offset)
            _core.set_stream_above(2**62)
            expected = bnpp.batch_norm_backward(dy, saved).dx
            _core.set_stream_above(0)
            found = bnpp.batch_norm_backward(dy, saved, out=out).dx
            assert np.array_equal(found, expected), (case, form)
            assert_untouched_beside(memory, out)


@pytest.mark.parametrize("case", SHAPES[:3] + SHAPES[5:7], ids=str)
def test_no_weight_in_a_channel(case, dtype):
    x, gamma, beta, _, dy = data(case, dtype)
    w = weights_of(case, ("full", "real"), dtype)
    np.moveaxis(w, case.axis, 0)[1] = 0
    got = run(x, w, gamma, beta, dy, case.axis)
    assert_close(got, weighted(x, w, gamma, beta, dy, axis=case.axis))
    assert (np.moveaxis(got["y"], case.axis, 0)[1] == beta[1]).all()
    assert not np.moveaxis(got["dx"], case.axis, 0)[1].any()
    assert got["dgamma"][1] == got["mean"][1] == got["var"][1] == 0
    assert np.array_equal(got["dbeta"], run(x, None, gamma, beta, dy, case.axis)["dbeta"])
    _, saved = bnpp.batch_norm(x, axis=case.axis, weights=w)
    assert saved.inv_std[1] == 0


@pytest.mark.parametrize("case", SHAPES[:3] + SHAPES[5:7], ids=str)
def test_no_weight_at_all(case, dtype):
    x, gamma, beta, _, dy = data(case, dtype)
    got = run(x, 0, gamma, beta, dy, case.axis)
    assert np.array_equal(got["y"], np.broadcast_to(along(beta, x, case.axis), x.shape))
    for name in ("dx", "dgamma", "mean", "var"):
        assert not got[name].any()
    m = bnpp.moments(x * np.nan, axis=case.axis, weights=0)
    assert np.array_equal([m.count, m.mean, m.m2], np.zeros((3, len(gamma))))
    assert np.isnan(m.var()).all()


def test_reliability_correction():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((40, 3)), rng.uniform(0, 5, (40, 1))
    got = bnpp.moments(x, weights=w)
    expected = np.diag(np.cov(x.T, aweights=w[:, 0]))
    np.testing.assert_allclose(got.var(unbiased=True), expected, rtol=1e-14)
    np.testing.assert_allclose(got.mean, np.average(x, axis=0, weights=w[:, 0]), rtol=1e-14)
    np.testing.assert_allclose(got.squared_weights, np.full(3, (w**2).sum()), rtol=1e-15)


@pytest.mark.parametrize("weight", [1, 0.3, 7.7])
def test_one_value_with_weight_is_one_value(weight, dtype):
    x, w = np.random.default_rng(0).standard_normal((6, 3, 4)).astype(dtype), np.ones((6, 3, 4))
    w[:, 1], w[2, 1, 3] = 0, weight
    with pytest.raises(
        ValueError, match=r"batch_norm: weights leave one value in channel 1,.*biased"
    ):
        bnpp.batch_norm(x, weights=w)
    y, saved = bnpp.batch_norm(x, weights=w, on_single="biased")
    assert saved.var[1] == 0
    assert y[2, 1, 3] == 0
    assert np.isnan(bnpp.moments(x, weights=w).var(unbiased=True)[1])
    w[:, 1] = 0
    bnpp.batch_norm(x, weights=w)


@pytest.mark.parametrize("weight", [0.25, 2.0**-4, 0.1])
def test_a_small_sum_of_weights_is_not_one_value(weight, dtype):
    """Weights that sum to 1, the commonest kind, or to less are still those of several values."""
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(dtype)
    y, saved = bnpp.batch_norm(x, weights=np.full((4, 1), weight))
    np.testing.assert_allclose(y, bnpp.batch_norm(x)[0], rtol=1e-3, atol=1e-4)
    assert np.array_equal(saved.weight, np.full(3, 4 * weight, dtype))


BAD = {
    "negative": (lambda w: w.__setitem__((1, 0, 2), -0.5), r"weights\[1, 0, 2\] is -0.5, but"),
    "nan": (lambda w: w.__setitem__((0, 0, 3), np.nan), r"weights\[0, 0, 3\] is -?nan, but"),
    "inf": (lambda w: w.__setitem__((2, 0, 0), np.inf), r"weights\[2, 0, 0\] is inf, but"),
}


@pytest.mark.parametrize("function", [bnpp.batch_norm, bnpp.moments])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("axis", [1, 2])
def test_bad_weights_are_named(bad, axis, function, dtype):
    x, w = np.ones((3, 5, 6), dtype), np.ones((3, 1, 6), dtype)
    change, message = BAD[bad]
    change(w)
    w[2, 0, 5] = -1  # not the first one
    for order in (w, np.asfortranarray(w), np.broadcast_to(w, (3, 1, 6))):
        with pytest.raises(ValueError, match=message):
            function(x, axis=axis, weights=order)


@pytest.mark.parametrize("function", [bnpp.batch_norm, bnpp.moments])
@pytest.mark.parametrize("shape", [(2,), (4, 6), (3, 5, 2), (1, 3, 5, 6), (0,), (4, 1, 1)])
def test_shapes_that_do_not_broadcast(shape, function):
    with pytest.raises(ValueError, match=r"weights has shape \(.*broadcasts to x's \(3, 5, 6\)"):
        function(np.ones((3, 5, 6)), weights=np.ones(shape))


@pytest.mark.parametrize("bad", [np.ones(6, complex), np.ma.ones(6), np.array(["a"] * 6), object()])
def test_what_is_no_weights(bad):
    with pytest.raises(TypeError, match="batch_norm: weights"):
        bnpp.batch_norm(np.ones((3, 5, 6)), weights=bad)


@pytest.mark.parametrize(
    "kind", [bool, np.int8, np.uint64, np.float16, np.float32, np.float64, list]
)
def test_dtypes_of_weights(kind, dtype):
    x = data(SHAPES[0], dtype)[0]
    w = weights_of(SHAPES[0], ("shared", "mask"), np.float64)
    expected = bnpp.batch_norm(x, weights=w)[0]
    given = w.tolist() if kind is list else w.astype(kind)
    assert np.array_equal(bnpp.batch_norm(x, weights=given)[0], expected)


def test_halves(half):
    step = np.finfo(np.float16).eps if half == np.float16 else 2.0**-7
    for case in SHAPES[:3] + SHAPES[5:7]:
        x, gamma, beta, _, dy = (np.float32(a).astype(half) for a in data(case))
        for form in FORMS:
            w = weights_of(case, form)
            wide = [np.float32(a) for a in (x, gamma, beta, dy)]
            expected = run(wide[0], w, *wide[1:], case.axis)
            got = run(x, w, gamma, beta, dy, case.axis)
            for name in ("y", "dx"):
                error = np.abs(np.float32(got[name]) - expected[name])
                assert np.all(error <= step * np.abs(expected[name]) + 1e-7), (name, case, form)
            for name in ("mean", "var"):
                np.testing.assert_allclose(got[name], expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("mean", [0, 1e6])
@pytest.mark.parametrize(
    "form", [("full", "real"), ("sample", "mask"), ("shared", "real")], ids="-".join
)
@cases([Case((60, 5, 300), 1, ""), Case((5000, 7), 1, ""), Case((64, 4, 9), 1, "")])
def test_moments_merge(case, form, mean, dtype):
    rng = np.random.default_rng(0)
    x, w = data(case, dtype, mean=mean)[0], weights_of(case, form, dtype)
    w[:7] = 0  # a part without weight
    x[:7] = np.nan
    whole = bnpp.moments(x, weights=w)
    cuts = [7, 8, 20, 21, 50]
    parts = [
        bnpp.moments(a, weights=b)
        for a, b in zip(np.split(x, cuts), np.split(w, cuts), strict=True)
    ]
    for _ in range(5):
        rng.shuffle(parts)
        m = sum(parts)
        for name in ("count", "squared_weights", "m2"):
            np.testing.assert_allclose(
                getattr(m, name), getattr(whole, name), rtol=1e-15, err_msg=name
            )
        scale = np.sqrt(whole.mean**2 + whole.var())
        assert np.all(np.abs(m.mean - whole.mean) <= 2 * np.spacing(scale))
    stream = bnpp.Moments.empty(case.shape[1])
    for a, b in zip(np.split(x, cuts), np.split(w, cuts), strict=True):
        stream.update(a, weights=b)
    np.testing.assert_allclose(stream.m2, whole.m2, rtol=1e-15)


def test_shifts_from_outliers_and_padding_cost_no_digits():
    """What the shift is taken from may be far off, or padding, or weigh next to nothing."""
    for shape in ((40000, 3), (64, 3, 1111), (500, 4, 32)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        x[:16] += 3e6
        w = np.ones((shape[0], *(1,) * (len(shape) - 1)), np.float32)
        w[:16] = 1e-6
        for first in (1e-6, 0):
            w[:16] = first
            for weights in (w, np.broadcast_to(w, shape).copy()):
                got = bnpp.moments(x, weights=weights)
                wide, v = x.astype(np.longdouble), np.broadcast_to(w, shape).astype(np.longdouble)
                over = reduced(x, 1)
                mean = (v * wide).sum(over) / v.sum(over)
                m2 = (v * (wide - along(mean, x, 1)) ** 2).sum(over)
                assert np.all(np.abs(got.m2 - m2) <= 4 * np.spacing(got.m2)), (shape, first)


@pytest.mark.parametrize("kind", ["unbiased", "biased"])
def test_running_statistics(kind, dtype):
    layer = bnpp.BatchNorm(3, running_var=kind, dtype=dtype)
    mean, var = np.zeros(3), np.ones(3)
    for seed in range(3):
        x, w = data(SHAPES[0], dtype, seed)[0], weights_of(SHAPES[0], ("full", "real"), dtype, seed)
        y = layer(x, weights=w)
        assert np.array_equal(y, bnpp.batch_norm(x, layer.gamma, layer.beta, weights=w)[0])
        m = bnpp.moments(x, weights=w)
        mean = 0.9 * mean + 0.1 * m.mean
        var = 0.9 * var + 0.1 * m.var(unbiased=kind == "unbiased")
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-14)
        np.testing.assert_allclose(layer.running_var, var, rtol=1e-14)
        dy = data(SHAPES[0], dtype, seed)[4]
        got = layer.backward(dy)
        expected = bnpp.batch_norm_backward(dy, layer.saved)
        assert np.array_equal(got.dx, expected.dx)


def test_channels_without_weight_leave_the_running_statistics(dtype):
    layer = bnpp.BatchNorm(3, dtype=dtype)
    x, w = data(SHAPES[0], dtype)[0], np.ones((1, 3, 1, 1))
    before = state(layer)
    y = layer(x, weights=0)
    assert not y.any()
    assert layer.count == 0
    assert all(np.array_equal(state(layer)[k], v) for k, v in before.items())
    w[0, 1] = 0
    layer(x, weights=w)
    assert layer.count == 1
    assert (layer.running_mean[1], layer.running_var[1]) == (0, 1)
    plain = bnpp.BatchNorm(3, dtype=dtype)
    plain(x)
    np.testing.assert_allclose(layer.running_var[[0, 2]], plain.running_var[[0, 2]], rtol=1e-14)


def test_layer_settings_of_single_values(dtype):
    x, w = data(SHAPES[0], dtype)[0], np.ones((4, 3, 5, 7))
    w[:, 2], w[0, 2, 0, 0] = 0, 1
    with pytest.raises(ValueError, match="one value in channel 2"):
        bnpp.BatchNorm(3)(x, weights=w)
    layer = bnpp.BatchNorm(3, on_single="inference", dtype=dtype)
    before = state(layer)
    y = layer(x, weights=w)
    assert np.array_equal(y, layer.eval()(x))
    assert np.array_equal(state(layer)["running_mean"], before["running_mean"])
    layer.train()(x, weights=1)
    assert layer.count == 1
    biased = bnpp.BatchNorm(3, on_single="biased", momentum=1.0, dtype=dtype)
    biased(x, weights=w)
    assert (biased.running_mean[2], biased.running_var[2]) == (x[0, 2, 0, 0], 0)


def test_evaluation_looks_at_no_weights(dtype):
    layer = bnpp.BatchNorm(3, dtype=dtype).eval()
    x = data(SHAPES[0], dtype)[0]
    assert np.array_equal(layer(x, weights=0), layer(x))


def test_saved_keeps_the_weights(dtype):
    x, gamma, beta, _, dy = data(SHAPES[0], dtype)
    w = weights_of(SHAPES[0], ("full", "real"), dtype)
    _, saved = bnpp.batch_norm(x, gamma, beta, weights=w)
    expected = bnpp.batch_norm_backward(dy, saved)
    assert "weights" in repr(saved)
    _, again = bnpp.batch_norm(x, gamma, beta, weights=w.copy())
    for a, b in zip(bnpp.batch_norm_backward(dy, again), expected, strict=True):
        assert np.array_equal(a, b)
    with pytest.raises(ValueError, match="out shares memory with saved's weights"):
        bnpp.batch_norm_backward(dy, saved, out=w)
    with pytest.raises(ValueError, match="out shares memory with weights"):
        bnpp.batch_norm(x, weights=w, out=w)
    assert bnpp.batch_norm(x)[1].weight is None


def test_what_needs_all_of_x_takes_no_weights(dtype):
    x, w = data(SHAPES[0], dtype)[0], weights_of(SHAPES[0], ("full", "mask"), dtype)
    with pytest.raises(ValueError, match=r"keep is 'output', but with weights .* weights None"):
        bnpp.batch_norm(x, weights=w, keep="output")
    _, saved = bnpp.batch_norm(x, weights=w, keep="auto")
    assert saved.keeps == "input"
    with pytest.raises(
        ValueError, match="batch_norm_jvp: saved comes from a forward call with weights"
    ):
        bnpp.batch_norm_jvp(saved, x)
    with pytest.raises(ValueError, match="double_backward: saved comes from a forward call with"):
        bnpp.batch_norm_double_backward(saved, x, ddx=x)


def test_batch_renorm_takes_no_weights(dtype):
    x, layer = data(SHAPES[0], dtype)[0], bnpp.BatchRenorm(3)
    before = state(layer)
    with pytest.raises(TypeError, match="BatchRenorm: weights are given, but it takes none"):
        layer(x, weights=1)
    assert all(np.array_equal(state(layer)[k], v) for k, v in before.items())
