"""Weights of group and instance normalization: masks for padding, and any nonnegative numbers."""

import itertools

import bnpp
import numpy as np
import pytest
from bnpp import _core
from helpers.bits import same
from helpers.reference import along, assert_close
from helpers.settings import THREADS, agree
from helpers.shapes import ORDERS, Case, data
from helpers.slopes import assert_slopes
from helpers.weighted_reference import weighted

# (shape, axis) and groups; the reasons say which way through the core they take.
SHAPES = [
    (Case((3, 6, 5, 7), 1, "short planes, odd"), 3),
    (Case((2, 12, 7, 7), 1, "7 x 7 planes: columns that repeat"), 4),
    (Case((2, 6, 64), 1, "runs of columns that are tiles of their own where channels share"), 2),
    (Case((2, 8, 17, 17), 1, "planes as rows"), 4),
    (Case((2, 2, 130, 127), 1, "rows in several blocks"), 1),
    (Case((1, 1, 40000), 1, "rows in pieces"), 1),
    (Case((3, 20, 9, 33), 2, "channels in the middle"), 3),
    (Case((4, 5, 6, 20), -1, "channels last"), 5),
    (Case((2, 520, 3, 8), 3, "channels last, many blocks of rows"), 1),
    (Case((70, 24), 1, "no positions: a group is a few channels in a row"), 6),
    (Case((130, 8), 1, "more samples than runs of them"), 1),
    (Case((2, 1, 9, 40), 1, "one channel"), 1),
    (Case((1, 6, 30), 1, "one sample"), 2),
]
grouped = pytest.mark.parametrize(("case", "groups"), SHAPES, ids=str)
FORMS = ["full", "positions", "last", "channels", "samples", "of one"]
main_forms = pytest.mark.parametrize("form", ["full", "positions", "channels"])


def draw(case, form, kind="numbers", dtype=np.float32):
    """Weights of a form: which axes they have in common with x; a mask, or a third of them 0."""
    axis, shape = case.axis % len(case.shape), case.shape
    size = {
        "full": shape,
        "positions": tuple(1 if d == axis else n for d, n in enumerate(shape)),
        "last": shape[-1:],
        "channels": tuple(n if d in (0, axis) else 1 for d, n in enumerate(shape)),
        "samples": (shape[0],) + (1,) * (len(shape) - 1),
        "of one": (1, *shape[1:]),
    }[form]
    rng = np.random.default_rng([7, *shape])
    w = rng.random(size) > 0.33
    return w if kind == "mask" else (w * rng.uniform(0.1, 3, size)).astype(dtype)


def run(x, w, groups, gamma, beta, dy, axis=1, **more):
    keywords = {"axis": axis, "on_single": "biased", **more}
    y, saved = bnpp.group_norm(x, groups, gamma, beta, weights=w, **keywords)
    g = bnpp.group_norm_backward(dy, saved)
    found = {"y": y, "mean": saved.mean, "var": saved.var, "weight": saved.weight}
    return found | {"dx": g.dx, "dgamma": g.dgamma, "dbeta": g.dbeta}


@grouped
def test_formulas(case, groups, dtype):
    x, gamma, beta, _, dy = data(case, dtype, mean=3)
    for form in FORMS:
        for kind, count in (("mask", groups), ("numbers", 1), ("numbers", case.shape[case.axis])):
            w = draw(case, form, kind, dtype)
            expected = weighted(x, w, gamma, beta, dy, axis=case.axis, groups=count)
            assert_close(run(x, w, count, gamma, beta, dy, case.axis), expected, (form, count))


@grouped
def test_any_mean(case, groups, dtype):
    for mean in (1e3, 1e6):
        x, gamma, beta, _, dy = data(case, dtype, mean=mean, std=1)
        for form in ("full", "positions"):
            w = draw(case, form, dtype=dtype)
            expected = weighted(x, w, gamma, beta, dy, axis=case.axis, groups=groups)
            assert_close(run(x, w, groups, gamma, beta, dy, case.axis), expected, (form, mean))


@main_forms
@grouped
def test_instance_norm_is_group_norm(case, groups, form, dtype):
    """And, sample by sample, batch norm: bit for bit but for dgamma, which is a sum over samples."""
    x, gamma, beta, residual, dy = data(case, dtype)
    channels = case.shape[case.axis]
    w = np.broadcast_to(draw(case, form, dtype=dtype), x.shape)
    more = {"axis": case.axis, "on_single": "biased", "residual": residual, "activation": "relu"}
    y, saved = bnpp.instance_norm(x, gamma, beta, weights=w, **more)
    other, grouped = bnpp.group_norm(x, channels, gamma, beta, weights=w, **more)
    got = bnpp.instance_norm_backward(dy, saved)
    same((y, got), (other, bnpp.group_norm_backward(dy, grouped)))
    for n in range(min(3, len(x))):
        one = slice(n, n + 1)
        z, alone = bnpp.batch_norm(
            x[one], gamma, beta, weights=w[one], **more | {"residual": residual[one]}
        )
        back = bnpp.batch_norm_backward(dy[one], alone)
        np.testing.assert_allclose(y[one], z, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(got.dx[one], back.dx, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(saved.mean[n], alone.mean, rtol=1e-6, atol=1e-6)


@grouped
def test_ones_are_no_weights(case, groups, dtype):
    """To a few ulps: dx has other roundings, and sums of float64 are taken in another order."""
    ulps = 4
    x, gamma, beta, _, dy = data(case, dtype, mean=100)
    y, saved = bnpp.group_norm(x, groups, gamma, beta, axis=case.axis)
    assert saved.weight is None
    back = bnpp.group_norm_backward(dy, saved)
    expected = {"mean": saved.mean, "var": saved.var, "dx": back.dx, "dgamma": back.dgamma}
    offset = along(beta, x, case.axis)
    size = np.maximum(np.abs(offset), np.abs(y - offset))
    for w in (1, np.ones(x.shape, bool), np.ones(x.shape[-1], int)):
        got = run(x, w, groups, gamma, beta, dy, case.axis)
        assert np.all(np.abs(got["y"] - y) <= ulps * np.spacing(size))
        for name, value in expected.items():
            scale = np.abs(value).max() if name in ("dx", "dgamma") else np.abs(value)
            assert np.all(np.abs(got[name] - value) <= ulps * np.spacing(scale)), name


@pytest.mark.parametrize(("case", "groups"), [s for s in SHAPES if len(s[0].shape) > 2], ids=str)
def test_a_mask_is_the_compacted_array(case, groups, dtype):
    """Of each sample the positions that are there, with NaN in the others."""
    x, gamma, beta, _, dy = data(case, dtype, mean=50)
    there = draw(case, "positions", "mask")
    x = np.where(there, x, dtype.type(np.nan))
    dy = np.where(there, dy, dtype.type(0))
    got = run(x, there, groups, gamma, beta, dy, case.axis)
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-11}
    dgamma = 0
    for n in range(len(x)):
        keep = np.moveaxis(there[n], case.axis % x.ndim - 1, 0)[0]
        kept, of_dy, of_y, of_dx = (
            np.moveaxis(a[n], case.axis % x.ndim - 1, 0)[None, :, keep]
            for a in (x, dy, got["y"], got["dx"])
        )
        y, saved = bnpp.group_norm(np.ascontiguousarray(kept), groups, gamma, beta)
        back = bnpp.group_norm_backward(np.ascontiguousarray(of_dy), saved)
        np.testing.assert_allclose(of_y, y, **close)
        np.testing.assert_allclose(of_dx, back.dx, **close)
        np.testing.assert_allclose(got["mean"][n], saved.mean[0], **close)
        np.testing.assert_allclose(got["var"][n], saved.var[0], **close)
        assert np.array_equal(got["weight"][n], np.full(groups, saved.count))
        dgamma = dgamma + back.dgamma
    np.testing.assert_allclose(got["dgamma"], dgamma, **close)
    assert np.isfinite(got["dx"]).all()


def test_weight_2_is_a_repeated_value(dtype):
    x, gamma, beta, _, dy = data(Case((3, 4, 9), 1, ""), dtype)
    times = np.array([1, 2, 1, 3, 0, 1, 2, 2, 1])
    again = np.repeat(x, times, axis=2)
    dy[..., 4] = 0
    got = run(x, times, 2, gamma, beta, dy)
    y, saved = bnpp.group_norm(again, 2, gamma, beta)
    shares = np.repeat(dy / np.maximum(times, 1).astype(dtype), times, axis=2)
    back = bnpp.group_norm_backward(shares, saved)
    close = {"rtol": 1e-5 if dtype == np.float32 else 1e-12, "atol": 1e-6}
    np.testing.assert_allclose(np.repeat(got["y"], times, axis=2), y, **close)
    np.testing.assert_allclose(got["var"], saved.var, **close)
    np.testing.assert_allclose(got["dgamma"], back.dgamma, **close)
    at = np.concatenate([[0], np.cumsum(times)])
    for i in np.flatnonzero(times):
        expected = back.dx[..., at[i] : at[i + 1]].sum(-1)
        np.testing.assert_allclose(got["dx"][..., i], expected, **close)


@grouped
def test_padding_touches_nothing(case, groups, dtype):
    x, gamma, beta, _, dy = data(case, dtype, mean=1e4)
    for form in ("full", "positions"):
        w = draw(case, form, dtype=dtype)
        out = np.broadcast_to(w, x.shape) == 0
        a = run(np.where(out, dtype.type(1e4), x), w, groups, gamma, beta, dy, case.axis)
        for bad in (np.nan, np.inf, 1e30):
            dirty = np.where(out, dtype.type(bad), x)
            b = run(dirty, w, groups, gamma, beta, dy, case.axis)
            for name in ("mean", "var", "dbeta"):
                assert np.array_equal(a[name], b[name]), (name, form, bad)
            assert np.array_equal(a["y"][~out], b["y"][~out]), (form, bad)
            if not np.isfinite(bad):
                assert np.isfinite(b["dx"]).all(), (form, bad)
                expected = weighted(dirty, w, gamma, beta, dy, axis=case.axis, groups=groups)
                assert_close(b, expected, (form, bad))


def test_bad_values_with_weight_stay_in_their_group(dtype):
    case, groups = SHAPES[0]
    x, gamma, beta, _, dy = data(case, dtype)
    w = draw(case, "positions", "mask")
    w[1, 0, 0, 0] = True
    good = run(x, w, groups, gamma, beta, dy)
    x[1, 2, 0, 0] = np.nan
    got = run(x, w, groups, gamma, beta, dy)
    there = np.zeros(x.shape, bool)
    there[1, 2:4] = True
    for name in ("y", "dx"):
        assert np.array_equal(got[name][~there], good[name][~there])
        assert np.isnan(got[name][there & np.broadcast_to(w, x.shape)]).all()
    assert np.isnan(got["dgamma"][2:4]).all()
    assert np.array_equal(got["dgamma"][[0, 1, 4, 5]], good["dgamma"][[0, 1, 4, 5]])


@grouped
def test_no_weight_in_a_group_and_in_a_sample(case, groups, dtype):
    x, gamma, beta, _, dy = data(case, dtype)
    w = draw(case, "full", dtype=dtype)
    channels = case.shape[case.axis] // groups
    empty = np.zeros(x.shape, bool)
    np.moveaxis(empty, case.axis, 1)[-1, -channels:] = True
    empty[0] = True
    w[empty] = 0
    offset = np.broadcast_to(along(beta, x, case.axis), x.shape)
    plain = run(x, None, groups, gamma, beta, dy, case.axis)
    for eps in (0.0, 1e-5):
        got = run(x, w, groups, gamma, beta, dy, case.axis, eps=eps)
        expected = weighted(x, w, gamma, beta, dy, axis=case.axis, groups=groups, eps=eps)
        assert_close(got, expected, eps)
        assert np.array_equal(got["y"][empty], offset[empty]), eps
        assert not got["dx"][empty].any(), eps
        for name in ("mean", "var", "weight"):
            assert not got[name][0].any(), (name, eps)
            assert got[name][-1, -1] == 0, (name, eps)
        assert np.array_equal(got["dbeta"], plain["dbeta"]), eps
    saved = bnpp.group_norm(x, groups, axis=case.axis, weights=0)[1]
    assert not saved.inv_std.any()


@main_forms
@grouped
def test_the_same_bits_always(case, groups, form, dtype):
    x, gamma, beta, residual, dy = data(case, dtype, mean=1e3)
    w = draw(case, form, dtype=dtype)
    x[np.broadcast_to(w, x.shape) == 0] = np.nan
    outs = itertools.cycle([None, np.empty_like(x)])  # of both kinds in turn

    def call():
        more = {"residual": residual, "activation": "relu", "out": next(outs)}
        return run(x, w, groups, gamma, beta, dy, case.axis, **more)

    agree(call, THREADS)


@grouped
def test_residual_and_relu(case, groups, dtype):
    """The same as without, of the gradient that the ReLU lets through."""
    x, gamma, beta, residual, dy = data(case, dtype)
    for form in ("full", "positions", "channels"):
        given = {"axis": case.axis, "on_single": "biased", "residual": residual}
        given["weights"] = draw(case, form, dtype=dtype)
        z, plain = bnpp.group_norm(x, groups, gamma, beta, **given)
        y, saved = bnpp.group_norm(x, groups, gamma, beta, activation="relu", **given)
        assert np.array_equal(y, np.maximum(z, 0)), form
        g = np.where(z > 0, dy, dtype.type(0))
        got, expected = bnpp.group_norm_backward(dy, saved), bnpp.group_norm_backward(g, plain)
        for name, value in got._asdict().items():
            assert np.array_equal(value, getattr(expected, name)), (name, form)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("shape", "groups"), [((3, 6, 5, 7), 3), ((2, 4, 17, 19), 2)], ids=str)
def test_orders_of_x_and_weights(order, shape, groups, dtype):
    case, turn = Case(shape, 1, ""), ORDERS[order]
    x, gamma, beta, _, dy = data(case, dtype)
    for form in ("full", "positions", "last"):
        w = draw(case, form, dtype=dtype)
        if order == "broadcast":
            x, dy = (np.ascontiguousarray(turn(a)) for a in (x, dy))
            w = np.ascontiguousarray(turn(np.broadcast_to(w, shape)))
        expected = weighted(x, w, gamma, beta, dy, groups=groups)
        turned = w if w.ndim == 1 else turn(w)
        for a, b, c in ((turn(x), w, dy), (x, turned, dy), (turn(x), turned, turn(dy))):
            assert_close(run(a, b, groups, gamma, beta, c), expected, form)


def test_written_out_weights_are_the_same(dtype):
    for case, groups in SHAPES[:3] + SHAPES[7:8] + SHAPES[9:]:
        x, gamma, beta, _, dy = data(case, dtype)
        for form in FORMS:
            w = draw(case, form, dtype=dtype)
            spread = np.broadcast_to(w, x.shape)
            a, b = (run(x, v, groups, gamma, beta, dy, case.axis) for v in (w, spread))
            for name, value in a.items():
                assert np.array_equal(value, b[name]), (name, case, form)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("form", ["full", "last"])
@pytest.mark.parametrize(("shape", "groups"), [((2, 4, 5), 2), ((3, 6), 2), ((2, 2, 3, 2), 2)])
def test_central_differences(shape, groups, form, activation):
    rng = np.random.default_rng(5)
    inputs = {
        "x": rng.standard_normal(shape) + 0.5,
        "gamma": rng.uniform(0.5, 2, shape[1]),
        "beta": rng.standard_normal(shape[1]),
        "residual": rng.standard_normal(shape),
    }
    c = rng.standard_normal(shape)
    keywords = {"eps": 1e-3, "activation": activation, "on_single": "biased"}
    keywords["weights"] = draw(Case(shape, 1, ""), form, dtype=np.float64)

    def run(values):
        return bnpp.group_norm(groups=groups, **values, **keywords)

    got = bnpp.group_norm_backward(c, run(inputs)[1])
    assert_slopes(got, lambda values: np.sum(c * run(values)[0]), inputs, 1e-6, 1e-5, 1e-7)


def test_halves(half):
    step = 2.0**-10 if half == np.float16 else 2.0**-7
    for case, groups in SHAPES[:4]:
        x, gamma, beta, _, dy = (np.float32(a).astype(half) for a in data(case))
        wide = [np.float32(a) for a in (gamma, beta, dy)]
        for form in FORMS:
            w = draw(case, form)
            expected = run(np.float32(x), w, groups, *wide, case.axis)
            got = run(x, w, groups, gamma, beta, dy, case.axis)
            for name in ("y", "dx"):
                error = np.abs(np.float32(got[name]) - expected[name])
                assert np.all(error <= step * np.abs(expected[name]) + 1e-7), (name, case, form)
            assert np.array_equal(got["mean"], expected["mean"])


@pytest.mark.parametrize("kind", [bool, np.int8, np.float16, np.float32, np.float64, list])
def test_dtypes_of_weights(kind, dtype):
    x = data(SHAPES[0][0], dtype)[0]
    w = draw(SHAPES[0][0], "positions", "mask")
    expected = bnpp.group_norm(x, 3, weights=w)[0]
    given = w.tolist() if kind is list else w.astype(kind)
    assert np.array_equal(bnpp.group_norm(x, 3, weights=given)[0], expected)


def test_one_value_with_weight_is_one_value(dtype):
    x, w = np.random.default_rng(0).standard_normal((3, 6, 4)).astype(dtype), np.ones((3, 6, 4))
    w[2, 2:4], w[2, 3, 1] = 0, 0.3
    for function, more, group in ((bnpp.group_norm, [3], 1), (bnpp.instance_norm, [], 3)):
        where = f"^{function.__name__}: weights leave one value in group {group} of sample 2, but"
        with pytest.raises(ValueError, match=f"{where}.*biased"):
            function(x, *more, weights=w)
        y, saved = function(x, *more, weights=w, on_single="biased")
        assert saved.var[2, group] == 0
        assert y[2, 3, 1] == 0
    w[2, 2:4] = 0
    bnpp.group_norm(x, 3, weights=w)
    # A single value is as good as its weight.
    with pytest.raises(ValueError, match="one value in group 0 of sample 0"):
        bnpp.instance_norm(x[..., :1], weights=1)
    assert not bnpp.instance_norm(x[..., :1], weights=0)[0].any()


@pytest.mark.parametrize("function", ["group_norm", "instance_norm"])
@pytest.mark.parametrize("bad", [-0.5, np.nan, np.inf])
def test_bad_weights_are_named(bad, function, dtype):
    x, w = np.ones((3, 6, 5), dtype), np.ones((3, 1, 5), dtype)
    w[1, 0, 2], w[2, 0, 4] = bad, -1
    more = [3] if function == "group_norm" else []
    out = np.full_like(x, 7)
    for order in (w, np.asfortranarray(w)):
        with pytest.raises(
            ValueError, match=rf"^{function}: weights\[1, 0, 2\] is -?(0.5|nan|inf)"
        ):
            getattr(bnpp, function)(x, *more, weights=order, out=out)
    assert (out == 7).all()
    with pytest.raises(ValueError, match=r"weights\[0\] is -1"):
        getattr(bnpp, function)(np.ones((0, 6, 5)), *more, weights=[-1])


@pytest.mark.parametrize("shape", [(2,), (4, 6), (3, 6, 2), (1, 3, 6, 5), (0,), (4, 1, 1)])
def test_shapes_that_do_not_broadcast(shape):
    for function, more in ((bnpp.group_norm, [3]), (bnpp.instance_norm, [])):
        with pytest.raises(
            ValueError, match=r"weights has shape \(.*broadcasts to x's \(3, 6, 5\)"
        ):
            function(np.ones((3, 6, 5)), *more, weights=np.ones(shape))


@pytest.mark.parametrize("bad", [np.ones(5, complex), np.ma.ones(5), np.array(["a"] * 5), object()])
def test_what_is_no_weights(bad):
    with pytest.raises(TypeError, match=r"^instance_norm: weights"):
        bnpp.instance_norm(np.ones((3, 6, 5)), weights=bad)


def test_memory_of_weights(dtype):
    x, w = data(Case((3, 6, 5), 1, ""), dtype)[0], np.ones((3, 6, 5), dtype)
    with pytest.raises(ValueError, match=r"^group_norm: out .*weights"):
        bnpp.group_norm(x, 3, weights=w, out=w)
    _, saved = bnpp.group_norm(x, 3, weights=w)
    with pytest.raises(ValueError, match=r"^group_norm_backward: out .*saved's weights"):
        bnpp.group_norm_backward(x.copy(), saved, out=w)
    w.resize((5, 6, 3), refcheck=False)
    with pytest.raises(ValueError, match=r"^group_norm_backward: saved refers to weights"):
        bnpp.group_norm_backward(x, saved)


@pytest.mark.parametrize("shape", [(0, 6, 5), (3, 6, 0), (3, 0, 5)])
def test_empty(shape):
    y, saved = bnpp.instance_norm(np.ones(shape), weights=1)
    assert y.shape == shape
    assert np.array_equal(saved.weight, np.zeros(shape[:2]))
    got = bnpp.instance_norm_backward(y, saved)
    assert got.dx.shape == shape
    assert not got.dgamma.any()


def test_streaming_and_in_place_give_the_same_bits(dtype):
    for case, groups in (SHAPES[0], SHAPES[3]):
        x, gamma, beta, _, dy = data(case, dtype)
        w = draw(case, "positions", dtype=dtype)
        expected = run(x, w, groups, gamma, beta, dy)
        before = _core.set_stream_above(0)
        same(expected, run(x, w, groups, gamma, beta, dy), "streamed")
        _core.set_stream_above(before)
        _, saved = bnpp.group_norm(x, groups, gamma, beta, weights=w)
        twin = dy.copy()
        assert np.array_equal(bnpp.group_norm_backward(twin, saved, out=twin).dx, expected["dx"])
        bnpp.group_norm(x, groups, gamma, beta, weights=w, out=x)
        assert np.array_equal(x, expected["y"])


def test_layer_of_groups(dtype):
    case, groups = SHAPES[0]
    x, _, _, _, dy = data(case, dtype)
    w = draw(case, "positions", dtype=dtype)
    layer = bnpp.GroupNorm(6, groups)
    y, saved = bnpp.group_norm(x, groups, weights=w)
    assert np.array_equal(layer(x, weights=w), y)
    got = layer.backward(dy)
    assert np.array_equal(got.dx, bnpp.group_norm_backward(dy, saved).dx)
    with pytest.raises(ValueError, match="weights"):
        layer(x, weights=-1)
    assert np.array_equal(layer.backward(dy).dx, got.dx)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics(momentum):
    """Averages over the samples with weight, and nothing new where there is none."""
    rng = np.random.default_rng(3)
    layer = bnpp.InstanceNorm(4, momentum=momentum, track_running_stats=True)
    mean, var = np.zeros(4), np.ones(4)
    for k in range(3):
        x = rng.standard_normal((5, 4, 30)) * 2 + 1e3
        w = rng.uniform(0, 3, x.shape)
        w[1], w[:, 2], w[3, 0] = 0, 0, 0
        x[w == 0] = np.nan
        a = 1 / (k + 1) if momentum is None else momentum
        for c in (0, 1, 3):
            samples = [n for n in range(5) if w[n, c].any()]
            assert len(samples) == (3 if c == 0 else 4)
            means = [np.average(x[n, c], weights=w[n, c]) for n in samples if w[n, c].all()]
            assert len(means) == len(samples)
            variances = [np.cov(x[n, c], aweights=w[n, c]) for n in samples]
            mean[c] += a * (np.mean(means) - mean[c])
            var[c] += a * (np.mean(variances) - var[c])
        layer(x, weights=w)
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12)
        np.testing.assert_allclose(layer.running_var, var, rtol=1e-10)
        assert layer.count == k + 1
    layer(x, weights=0)
    assert layer.count == 3
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12)
    clean = np.nan_to_num(x)
    y = layer.eval()(clean, weights=w)
    assert np.array_equal(y, layer(clean))


def test_running_statistics_of_a_mask_are_those_of_what_is_there():
    x = np.random.default_rng(4).standard_normal((3, 2, 40))
    mask = np.arange(40) < 25
    short, long = (bnpp.InstanceNorm(2, track_running_stats=True) for _ in range(2))
    short(x[..., :25])
    long(np.where(mask, x, np.nan), weights=mask)
    np.testing.assert_allclose(long.running_mean, short.running_mean, rtol=1e-13)
    np.testing.assert_allclose(long.running_var, short.running_var, rtol=1e-13)
