"""Group and instance normalization against their formulas, each other and PyTorch."""

import itertools
import re

import bnpp
import numpy as np
import pytest
from bnpp import _core
from helpers.bits import same
from helpers.group_reference import group_backward, group_forward
from helpers.reference import assert_exact
from helpers.settings import THREADS, agree
from helpers.shapes import ORDERS, Case, channels_last, data
from helpers.slopes import assert_slopes

# (shape, axis) and groups; the reasons say which way through the core they take.
SHAPES = [
    (Case((3, 6, 5, 7), 1, "short planes, odd"), 3),
    (Case((2, 12, 7, 7), 1, "7 x 7 planes: columns that repeat"), 4),
    (Case((2, 32, 17, 17), 1, "planes as rows"), 8),
    (Case((2, 4, 130, 127), 1, "rows in several blocks"), 2),
    (Case((1, 2, 40000), 1, "rows in pieces"), 1),
    (Case((3, 40, 9, 33), 2, "channels in the middle"), 3),
    (Case((4, 5, 6, 20), -1, "channels last"), 5),
    (Case((2, 700, 3, 19), 3, "channels last, many blocks of rows"), 1),
    (Case((70, 24), 1, "no positions: a group is a few channels in a row"), 6),
    (Case((130, 8), 1, "more samples than runs of them"), 1),
    (Case((2, 1, 9, 40), 1, "one channel"), 1),
    (Case((1, 6, 30), 1, "one sample"), 2),
    (Case((2, 4, 2, 1, 2, 1, 2, 3), 1, "8 dimensions"), 2),
    (Case((2, 2, 3, 2, 3, 2, 2, 4), 7, "8 dimensions, channels last"), 2),
    (Case((2, 1100, 3), 1, "more columns than a piece"), 100),
]
grouped = pytest.mark.parametrize(("case", "groups"), SHAPES, ids=str)
GRADIENTS = ("dx", "dgamma", "dbeta", "dresidual")


def check(case, groups, dtype, mean=3.0, order=None, residual=False, activation=None):
    """Hold all that forward and backward return, in every setting, against the reference."""
    x, gamma, beta, r, dy = data(case, dtype, mean=mean)
    if order:
        x, r, dy = (ORDERS[order](a) for a in (x, r, dy))
    keywords = {"axis": case.axis, "activation": activation, "residual": r if residual else None}
    f = group_forward(x, groups, gamma, beta, **keywords)

    def call():
        y, saved = bnpp.group_norm(x, groups, gamma, beta, **keywords)
        return y, (saved.mean, saved.var, saved.inv_std), bnpp.group_norm_backward(dy, saved)

    y, statistics, got = agree(call)
    assert_exact(y, f.y, f.size, dtype, "y")
    for name, value in zip(("mean", "var", "inv_std"), statistics, strict=True):
        expected = getattr(f, name)
        assert_exact(value, expected, np.abs(expected), dtype, name)
    assert got._fields == GRADIENTS[: 3 + residual]
    expected = group_backward(dy, f, groups, gamma, axis=case.axis)
    for name in got._fields:
        size = expected.sizes[name]
        assert_exact(getattr(got, name), getattr(expected, name), size, dtype, name)


@grouped
def test_formulas(case, groups, dtype):
    check(case, groups, dtype)
    check(case, groups, dtype, residual=True, activation="relu")


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e6])
@grouped
def test_any_mean(case, groups, mean):
    check(case, groups, np.dtype(np.float32), mean=mean)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("shape", "groups"), [((3, 6, 5, 7), 3), ((2, 4, 17, 19), 2)], ids=str)
def test_memory_orders(order, shape, groups, dtype):
    check(Case(shape, 1, ""), groups, dtype, order=order, residual=True, activation="relu")


@pytest.mark.parametrize(("shape", "groups"), [((3, 6, 5, 7), 3), ((2, 4, 17, 19), 2)], ids=str)
def test_halves_are_rounded_once(shape, groups, half):
    """What float32 gives for the same values, rounded to the dtype: twice, so 1 in 2**13 may differ."""
    x, gamma, beta, r, dy = (a.astype(half) for a in data(Case(shape, 1, ""), mean=1.0))
    results = []
    for t in (half, np.dtype(np.float32)):
        more = {"residual": r.astype(t), "activation": "relu"}
        y, saved = bnpp.group_norm(x.astype(t), groups, gamma.astype(t), beta.astype(t), **more)
        assert saved.mean.dtype == np.float32
        results.append([y, saved.mean, *bnpp.group_norm_backward(dy.astype(t), saved)])
    for found, wide in zip(*results, strict=True):
        rounded = wide.astype(found.dtype)
        assert np.count_nonzero(found != rounded) <= found.size / 1000


def everything(x, groups, gamma, beta, residual, dy, axis, out=None):
    y, saved = bnpp.group_norm(
        x, groups, gamma, beta, axis=axis, residual=residual, activation="relu", out=out
    )
    plain, plainly = bnpp.group_norm(x, groups, gamma, beta, axis=axis)
    return [
        *(y.copy(), saved.mean, saved.inv_std, *bnpp.group_norm_backward(dy, saved)),
        *(plain, *bnpp.group_norm_backward(dy, plainly, out=out)),
    ]


@grouped
def test_every_setting_gives_the_same_bits(case, groups, dtype):
    x, gamma, beta, residual, dy = data(case, dtype, mean=1e3)
    outs = itertools.cycle([None, np.empty_like(x)])  # without out and with it in turn
    given = (x, groups, gamma, beta, residual, dy, case.axis)
    agree(lambda: everything(*given, next(outs)), THREADS)


@pytest.mark.parametrize("order", ["fortran", "channels_last", "gaps", "unaligned"])
def test_streaming_and_in_place_give_the_same_bits(order, dtype):
    x, gamma, beta, residual, dy = data(Case((3, 6, 19, 17), 1, ""), dtype)
    x, residual, dy = (ORDERS[order](a) for a in (x, residual, dy))
    expected = everything(x, 3, gamma, beta, residual, dy, 1)
    before = _core.set_stream_above(0)
    same(expected, everything(x, 3, gamma, beta, residual, dy, 1), "streamed")
    _core.set_stream_above(before)
    y, saved = bnpp.group_norm(x, 3, gamma, beta, residual=residual, activation="relu")
    dx = bnpp.group_norm_backward(dy, saved).dx
    twin = np.array(dy, copy=True, order="K")
    assert np.array_equal(bnpp.group_norm_backward(twin, saved, out=twin).dx, dx)
    into = x if order != "gaps" else residual
    bnpp.group_norm(x, 3, gamma, beta, residual=residual, activation="relu", out=into)
    assert np.array_equal(into, y)


@pytest.mark.parametrize("shape", [(4, 6, 9, 11), (2, 5, 17, 17), (3, 70, 1, 5)], ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_instance_norm_is_batch_norm_of_each_sample(shape, last, dtype):
    """Bit for bit, and so is a group norm with as many groups as channels."""
    x, gamma, beta, residual, dy = data(Case(shape, 1, ""), dtype, mean=1e3)
    if last:
        x, residual, dy = (channels_last(a) for a in (x, residual, dy))
    keywords = {"activation": "relu"}
    y, saved = bnpp.instance_norm(x, gamma, beta, residual=residual, **keywords)
    got = bnpp.instance_norm_backward(dy, saved)
    z, grouped = bnpp.group_norm(x, shape[1], gamma, beta, residual=residual, **keywords)
    assert np.array_equal(y, z)
    for a, b in zip(got, bnpp.group_norm_backward(dy, grouped), strict=True):
        assert np.array_equal(a, b)
    dgamma = dbeta = 0
    for n in range(shape[0]):
        one = slice(n, n + 1)
        expected, of_one = bnpp.batch_norm(x[one], gamma, beta, residual=residual[one], **keywords)
        assert np.array_equal(y[one], expected)
        assert np.array_equal(saved.mean[n], of_one.mean)
        assert np.array_equal(saved.var[n], of_one.var)
        gradients = bnpp.batch_norm_backward(dy[one], of_one)
        assert np.array_equal(got.dx[one], gradients.dx)
        assert np.array_equal(got.dresidual[one], gradients.dresidual)
        dgamma, dbeta = dgamma + gradients.dgamma, dbeta + gradients.dbeta
    np.testing.assert_allclose(got.dgamma, dgamma, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got.dbeta, dbeta, rtol=1e-5, atol=1e-5)


def test_one_group_normalizes_whole_samples(dtype):
    x = data(Case((3, 6, 5, 7), 1, ""), dtype, mean=1e3)[0]
    y, saved = bnpp.group_norm(x, 1)
    flat, whole = bnpp.batch_norm(x.reshape(3, -1), axis=0)
    assert_exact(
        y, flat.reshape(x.shape).astype(np.longdouble), 1 + np.abs(flat.reshape(x.shape)), dtype
    )
    assert saved.count == whole.count == 6 * 5 * 7
    np.testing.assert_allclose(saved.mean.ravel(), whole.mean, rtol=1e-6)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(
    ("shape", "groups"), [((2, 4, 3), 2), ((3, 6), 2), ((2, 3, 4), 3)], ids=str
)
def test_central_differences(shape, groups, activation):
    """Each gradient is the slope of L = sum(w*y), found without any formula of the backward."""
    rng = np.random.default_rng(8)
    inputs = {
        "x": rng.standard_normal(shape) + 0.5,
        "gamma": rng.uniform(0.5, 2, shape[1]),
        "beta": rng.standard_normal(shape[1]),
        "residual": rng.standard_normal(shape),
    }
    w = rng.standard_normal(shape)

    def run(values):
        return bnpp.group_norm(groups=groups, **values, eps=1e-3, activation=activation)

    z = bnpp.group_norm(groups=groups, **inputs, eps=1e-3)[0]
    assert np.abs(z).min() > 1e-3, "no value may stand at the kink of the ReLU"
    gradients = bnpp.group_norm_backward(w, run(inputs)[1])
    assert_slopes(gradients, lambda values: np.sum(w * run(values)[0]), inputs)


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((4000, 2, 3), 2), ((300, 4), 2), ((3, 2, 40000), 2), ((400_000, 1, 2), 1)],
    ids=str,
)
def test_equal_gradients_add_up_exactly(shape, groups, dtype):
    """Rounding errors of equal terms all have the same sign: nothing but short sums hides them.

    And nothing but compensated ones of the samples, of which there may be many.
    """
    x = np.random.default_rng(2).standard_normal(shape).astype(dtype)
    dy = np.full(shape, 0.1, dtype)
    got, f = bnpp.group_norm_backward(dy, bnpp.group_norm(x, groups)[1]), group_forward(x, groups)
    expected = group_backward(dy, f, groups)
    for name in ("dx", "dgamma", "dbeta"):
        size = expected.sizes[name]
        assert_exact(getattr(got, name), getattr(expected, name), size, dtype, name)


def test_nan_and_inf_stay_in_their_group(dtype):
    x, _, _, _, dy = data(Case((3, 6, 4, 5), 1, ""), dtype)
    clean = bnpp.group_norm(x, 3)[0]
    x[1, 2, 0, 0], x[2, 5, 1, 1] = np.nan, np.inf
    y, saved = bnpp.group_norm(x, 3)
    dx = bnpp.group_norm_backward(dy, saved).dx
    touched = np.zeros(x.shape, bool)
    touched[1, 2:4] = touched[2, 4:6] = True
    assert np.array_equal(np.isnan(dx), touched)
    assert np.array_equal(y[~touched], clean[~touched])


def test_constant_groups_become_beta(dtype):
    x = np.full((2, 4, 3, 3), 1e6 + 0.3, dtype)
    beta = np.arange(4, dtype=dtype)
    for eps in (1e-5, 0.0):
        y, saved = bnpp.group_norm(x, 2, None, beta, eps=eps)
        assert np.array_equal(y, np.broadcast_to(beta.reshape(1, 4, 1, 1), x.shape))
        assert not saved.var.any()


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 4, 0), (2, 0, 3), (0, 4)], ids=str)
def test_empty(shape, dtype):
    x = np.empty(shape, dtype)
    y, saved = bnpp.group_norm(x, 2, residual=x, activation="relu")
    assert y.shape == x.shape
    assert saved.mean.shape == saved.var.shape == (shape[0], 2)
    got = bnpp.group_norm_backward(x, saved)
    assert got.dx.shape == got.dresidual.shape == shape
    assert np.array_equal([got.dgamma, got.dbeta], np.zeros((2, shape[1])))
    y, saved = bnpp.instance_norm(x)
    assert saved.mean.shape == shape[:2]
    assert bnpp.instance_norm_backward(x, saved).dgamma.shape == (shape[1],)


def test_one_value_a_group(dtype):
    x, residual, beta = np.ones((2, 3, 1), dtype), np.full((2, 3, 1), 2, dtype), np.arange(3.0)
    with pytest.raises(
        ValueError, match=r"^instance_norm: x has one value a group \(shape \(2, 3, 1"
    ):
        bnpp.instance_norm(x)
    y, saved = bnpp.instance_norm(x, None, beta, residual=residual, on_single="biased")
    assert np.array_equal(y[:, :, 0], np.broadcast_to(beta + 2, (2, 3)))
    assert not saved.var.any()
    assert not bnpp.instance_norm_backward(x, saved).dx.any()
    assert bnpp.group_norm(x, 1)[1].count == 3


def test_saved_tells_about_the_call(dtype):
    x, gamma, beta, residual, dy = data(Case((3, 6, 5, 7), 1, ""), dtype)
    _, saved = bnpp.group_norm(
        x, 2, gamma, beta, eps=1e-3, axis=-3, residual=residual, activation="relu"
    )
    assert (saved.shape, saved.axis, saved.eps, saved.groups) == ((3, 6, 5, 7), 1, 1e-3, 2)
    assert (saved.count, saved.reason, saved.mean.shape) == (3 * 5 * 7, None, (3, 2))
    assert saved.mask_nbytes == 3 * -(-6 * 5 * 7 // 8)
    assert saved.nbytes == saved.mask_nbytes + 8 * (4 * 6 + 6)
    assert not saved.mean.flags.writeable
    assert (
        repr(saved)
        == "GroupNormSaved(shape=(3, 6, 5, 7), axis=1, groups=2, count=105, relu, residual)"
    )
    gamma[:] = np.nan  # what the forward used counts, not what the array holds now
    first, second = (bnpp.group_norm_backward(dy, saved) for _ in range(2))
    assert np.isfinite(first.dx).all()
    assert np.array_equal(first.dx, second.dx)
    _, saved = bnpp.group_norm(x, 2, out=x)
    with pytest.raises(ValueError, match=r"^group_norm_backward: x was overwritten by out=x"):
        bnpp.group_norm_backward(dy, saved)


X = np.random.default_rng(0).standard_normal((5, 12, 7)).astype(np.float32)
REFUSED = {
    "groups that do not divide": ({"groups": 5}, ValueError, "groups is 5, but .* divide x's 12 channels along axis 1"),
    "no groups": ({"groups": 0}, ValueError, "groups is 0, but"),
    "more groups than channels": ({"groups": 24}, ValueError, "groups is 24, but .* 12 channels"),
    "groups of a float": ({"groups": 2.0}, TypeError, "groups is 2.0, but it needs to be an integer"),
    "axis of the samples": ({"axis": 0}, ValueError, "axis is 0, where the samples lie"),
    "axis of the samples from the end": ({"axis": -3}, ValueError, "axis is -3, where the samples"),
    "axis too large": ({"axis": 3}, ValueError, "axis is 3, but x has 3 dimensions"),
    "one dimension": ({"x": X[0, 0]}, ValueError, "x has 1 dimension, but"),
    "short gamma": ({"gamma": np.ones(11)}, ValueError, "gamma has 11 values, but x has 12 channels"),
    "short beta": ({"beta": np.ones(13)}, ValueError, "beta has 13 values, but x has 12 channels"),
    "negative eps": ({"eps": -1.0}, ValueError, "eps is -1, but"),
    "activation": ({"activation": "gelu"}, ValueError, "activation is 'gelu', but"),
    "on_single": ({"on_single": "inference"}, ValueError, "on_single is 'inference', but"),
    "integers": ({"x": X.astype(int)}, TypeError, "x has dtype int64, but"),
    "None": ({"x": None}, TypeError, "x is None"),
    "residual's shape": ({"residual": X[:4]}, ValueError, r"residual has shape \(4, 12, 7\), but"),
    "residual's dtype": ({"residual": X.astype("f8")}, TypeError, "residual has dtype float64, but"),
    "out's shape": ({"out": X[:4].copy()}, ValueError, r"out has shape \(4, 12, 7\), but"),
    "out on gamma": ({"gamma": X[0, :, 0], "out": X}, ValueError, "out .*gamma"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("what", "function"),
    [(what, "group_norm") for what in REFUSED]
    + [(what, "instance_norm") for what, (given, *_) in REFUSED.items() if "groups" not in given],
)
def test_refused(what, function):
    given, exception, sentence = REFUSED[what]
    arguments = {"x": X} | ({"groups": 4} if function == "group_norm" else {}) | given
    before = X.copy()
    with pytest.raises(exception) as caught:
        getattr(bnpp, function)(**arguments)
    message = str(caught.value)
    assert re.match(f"{function}: .*{sentence}", message), message
    assert "\n" not in message
    assert np.array_equal(X, before)


@pytest.mark.parametrize("function", ["group_norm_backward", "instance_norm_backward"])
def test_backward_refuses(function):
    backward = getattr(bnpp, function)
    saved = bnpp.group_norm(X, 4)[1]
    for dy, other, exception, sentence in [
        (X[:4], saved, ValueError, r"dy has shape \(4, 12, 7\), but"),
        (X.astype("f8"), saved, TypeError, "dy has dtype float64, but"),
        (X, bnpp.batch_norm(X)[1], TypeError, "saved is of type .*Saved"),
        (X, None, TypeError, "saved is of type NoneType"),
    ]:
        with pytest.raises(exception, match=f"^{function}: {sentence}"):
            backward(dy, other)
    with pytest.raises(ValueError, match=f"^{function}: out .*x"):
        backward(X.copy(), saved, out=X)


@pytest.mark.parametrize("memory", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize("groups", [1, 4, 12])
def test_torch(groups, memory, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(5)
    x, dy = (
        torch.from_numpy(rng.standard_normal((3, 12, 6, 5)).astype(dtype)).contiguous(
            memory_format=getattr(torch, memory)
        )
        for _ in range(2)
    )
    gamma, beta = (torch.from_numpy(rng.standard_normal(12).astype(dtype)) for _ in range(2))
    leaves = [t.requires_grad_() for t in (x, gamma, beta)]
    expected = torch.nn.functional.group_norm(x, groups, gamma, beta, eps=1e-3)
    expected.backward(dy)
    ours = [t.detach().numpy() for t in leaves]
    y, saved = bnpp.group_norm(ours[0], groups, *ours[1:], eps=1e-3)
    close = {"rtol": 2e-4, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-11}
    np.testing.assert_allclose(y, expected.detach().numpy(), **close)
    got = bnpp.group_norm_backward(dy, saved)
    for ours_, theirs in zip(got, leaves, strict=True):
        np.testing.assert_allclose(ours_, theirs.grad.numpy(), **close)
    if groups == 12:
        expected = torch.nn.functional.instance_norm(x, weight=gamma, bias=beta, eps=1e-3)
        y = bnpp.instance_norm(ours[0], *ours[1:], eps=1e-3)[0]
        np.testing.assert_allclose(y, expected.detach().numpy(), **close)


def test_lists_are_read():
    x = data(Case((2, 6, 4), 1, ""), np.float64)[0]
    assert np.array_equal(bnpp.group_norm(x.tolist(), 3)[0], bnpp.group_norm(x, 3)[0])


@pytest.mark.parametrize("order", ["fortran", "channels_last", "negative", "gaps"])
@pytest.mark.parametrize("shape", [(3, 6, 5, 7), (2, 4, 17, 19)], ids=str)
def test_arrays_of_different_orders(order, shape, dtype):
    """The residual, dy and outputs may lie otherwise than x does."""
    x, gamma, beta, residual, dy = data(Case(shape, 1, ""), dtype)
    expected = everything(x, 2, gamma, beta, residual, dy, 1)
    turn = ORDERS[order]
    out = turn(np.empty_like(x))
    found = everything(x, 2, gamma, beta, turn(residual), turn(dy), 1, out)
    for a, b in zip(expected, found, strict=True):
        assert np.array_equal(a, b)
