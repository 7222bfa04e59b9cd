"""Ghost batch norm: sub-batches with statistics of their own, one gamma and beta, one running update."""

import pickle

import bnpp
import numpy as np
import pytest
from helpers.addresses import unaligned
from helpers.reference import assert_exact, backward, forward
from helpers.settings import THREADS, agree
from helpers.shapes import ORDERS, data
from helpers.shapes import Case as Shape
from helpers.slopes import assert_slopes


def slices(n, size):
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def expected_of(x, gamma, beta, residual, dy, size, **keywords):
    """Forward and backward of each sub-batch in a wider type, put together."""
    axis = keywords.get("axis", 1)
    results = []
    for part in slices(len(x), size):
        f = forward(x[part], gamma, beta, residual=residual[part], **keywords)
        results.append((f, backward(dy[part], f, gamma, axis=axis)))
    return results


@pytest.mark.parametrize("mean", [3.0, 1e6])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(
    ("shape", "axis", "size"), [((7, 3, 5, 4), 1, 3), ((34, 5), -1, 8), ((6, 4, 5), 2, 1)]
)
def test_reference(shape, axis, size, activation, mean, dtype):
    x, gamma, beta, residual, dy = data(Shape(shape, axis, ""), dtype, mean=mean)
    keywords = {"axis": axis, "residual": residual, "activation": activation}
    y, saved = bnpp.ghost_batch_norm(x, gamma, beta, size=size, **keywords)
    got = bnpp.ghost_batch_norm_backward(dy, saved)
    assert got._fields == ("dx", "dgamma", "dbeta", "dresidual")
    results = expected_of(x, gamma, beta, residual, dy, size, axis=axis, activation=activation)
    for part, (f, g) in zip(slices(len(x), size), results, strict=True):
        assert_exact(y[part], f.y, f.size, dtype, "y")
        assert_exact(got.dx[part], g.dx, g.sizes["dx"], dtype, "dx")
        assert_exact(got.dresidual[part], g.dresidual, g.sizes["dresidual"], dtype, "dresidual")
    for name in ("dgamma", "dbeta"):
        value = sum(getattr(g, name) for _, g in results)
        terms = sum(g.sizes[name] for _, g in results)
        assert_exact(getattr(got, name), value, terms, dtype, name)
    assert saved.mean.shape == saved.var.shape == saved.inv_std.shape == (len(results), len(gamma))
    assert saved.count == x.size // len(gamma)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("size", [8, 9, 1000])
def test_one_sub_batch_is_batch_norm_bit_for_bit(size, activation, residual, dtype):
    x, gamma, beta, r, dy = data(Shape((8, 5, 6, 3), 1, ""), dtype)
    keywords = {"residual": r if residual else None, "activation": activation}
    y, saved = bnpp.ghost_batch_norm(x, gamma, beta, size=size, **keywords)
    z, plain = bnpp.batch_norm(x, gamma, beta, **keywords)
    assert np.array_equal(y, z)
    pairs = zip(
        bnpp.ghost_batch_norm_backward(dy, saved), bnpp.batch_norm_backward(dy, plain), strict=True
    )
    assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def test_gradients_are_rounded_once():
    """The sub-batches' dbeta are 1 + 2**-30 and -1: float32 would make 1 of the first."""
    x = np.float32([[0], [1], [0], [1]])
    dy = np.float32([[1], [2.0**-30], [-1], [0]])
    _, saved = bnpp.ghost_batch_norm(x, size=2)
    assert bnpp.ghost_batch_norm_backward(dy, saved).dbeta == 2.0**-30


@pytest.mark.parametrize("activation", [None, "relu"])
def test_central_differences(activation):
    rng = np.random.default_rng(3)
    inputs = {
        "x": rng.standard_normal((5, 2, 3)) + 0.5,
        "gamma": rng.uniform(0.5, 2, 2),
        "beta": rng.standard_normal(2),
        "residual": rng.standard_normal((5, 2, 3)),
    }
    w = rng.standard_normal((5, 2, 3))

    def run(values):
        return bnpp.ghost_batch_norm(**values, size=2, eps=1e-3, activation=activation)

    y, saved = run(inputs)
    assert np.abs(y[y != 0]).min() > 1e-4, "no value may stand at the kink of the ReLU"
    got = bnpp.ghost_batch_norm_backward(w, saved)
    assert_slopes(got, lambda v: np.sum(w * run(v)[0]), inputs, 1e-6, 1e-6, 1e-7)


def test_every_setting_gives_the_same_bits(dtype):
    x, gamma, beta, residual, dy = data(Shape((6, 7, 40, 40), 1, ""), dtype, mean=1e3)
    keywords = {"size": 4, "residual": residual, "activation": "relu"}

    def call():
        y, saved = bnpp.ghost_batch_norm(x, gamma, beta, **keywords)
        return y, saved.mean, saved.var, bnpp.ghost_batch_norm_backward(dy, saved)

    agree(call, THREADS)


@pytest.mark.parametrize("order", ["fortran", "channels_last", "gaps", "negative", "broadcast"])
def test_memory_orders_and_out(order, dtype):
    x, gamma, beta, residual, dy = data(Shape((5, 3, 4, 6), 1, ""), dtype)
    x, residual, dy = (ORDERS[order](a) for a in (x, residual, dy))
    keywords = {"size": 2, "residual": residual, "activation": "relu"}
    y, saved = bnpp.ghost_batch_norm(x, gamma, beta, **keywords)
    for part in slices(5, 2):
        more = {"residual": residual[part], "activation": "relu"}
        assert np.array_equal(y[part], bnpp.batch_norm(x[part], gamma, beta, **more)[0])
    assert y.strides == np.empty_like(x).strides
    grads = bnpp.ghost_batch_norm_backward(dy, saved)
    out, dx = unaligned(x.copy()), np.empty_like(x)
    z, saved = bnpp.ghost_batch_norm(x, gamma, beta, **keywords, out=out)
    assert z is out
    assert np.array_equal(y, z)
    again = bnpp.ghost_batch_norm_backward(dy, saved, out=dx)
    assert again.dx is dx
    assert all(np.array_equal(a, b) for a, b in zip(grads, again, strict=True))


@pytest.mark.parametrize("out", [False, True])
def test_residual_gradient_without_relu(out):
    x, _, _, residual, dy = data(Shape((4, 3, 5), 1, ""))
    _, saved = bnpp.ghost_batch_norm(x, size=2, residual=residual)
    before = dy.copy()
    got = bnpp.ghost_batch_norm_backward(dy, saved, out=dy if out else None)
    assert np.array_equal(got.dresidual, before)
    assert (got.dresidual is dy) == (not out)
    assert (got.dx is dy) == out


def test_half(half):
    x, gamma, beta, residual, dy = (a.astype(half) for a in data(Shape((6, 3, 8), 1, "")))
    y, saved = bnpp.ghost_batch_norm(x, gamma, beta, size=4, residual=residual)
    assert y.dtype == half
    assert np.array_equal(y[4:], bnpp.batch_norm(x[4:], gamma, beta, residual=residual[4:])[0])
    got = bnpp.ghost_batch_norm_backward(dy, saved)
    assert (got.dx.dtype, got.dgamma.dtype) == (half, np.float32)


def test_one_inf_stays_in_its_sub_batch_and_channel(dtype):
    x = data(Shape((6, 3, 4), 1, ""), dtype)[0]
    clean = bnpp.ghost_batch_norm(x, size=2)[0]
    x[3, 1, 2] = np.inf
    y, saved = bnpp.ghost_batch_norm(x, size=2)
    other = np.ones(x.shape, bool)
    other[2:4, 1] = False
    assert np.array_equal(y[other], clean[other])
    assert not np.isfinite(y[2:4, 1]).any()
    bnpp.ghost_batch_norm_backward(y, saved)


def test_empty_batches(dtype):
    x = np.empty((0, 3, 4), dtype)
    y, saved = bnpp.ghost_batch_norm(x, np.ones(3), size=2, residual=x, activation="relu")
    assert (y.shape, saved.count) == (x.shape, 0)
    got = bnpp.ghost_batch_norm_backward(x, saved)
    assert got.dx.shape == got.dresidual.shape == x.shape
    assert not got.dgamma.any()


def test_one_value_in_the_last_sub_batch():
    x, out = np.arange(10.0).reshape(5, 2), np.full((5, 2), 7.0)
    sentence = (
        r"^ghost_batch_norm: sub-batch 2 has one value a channel \(shape \(1, 2\), axis 1\), but"
    )
    with pytest.raises(ValueError, match=sentence):
        bnpp.ghost_batch_norm(x, size=2, out=out)
    assert (out == 7).all()
    y, _ = bnpp.ghost_batch_norm(x, None, np.ones(2), size=2, on_single="biased", out=out)
    assert (y[4] == 1).all()


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"size": 0}, ValueError, "size is 0, but at least 1"),
        ({"size": 2.0}, TypeError, "size is a float, but an integer"),
        ({"axis": 0}, ValueError, "axis is 0, where the samples lie"),
        ({"axis": -2}, ValueError, "axis is 0, where the samples lie"),
        ({"axis": 5}, ValueError, "axis is 5, but x has 2 dimensions"),
        ({"axis": "c"}, TypeError, "axis is a str, but an integer"),
        ({"x": np.ones(4)}, ValueError, r"x has shape \(4,\), but 2 to 8 dimensions"),
        ({"x": np.ones((4, 3), int)}, TypeError, "x has dtype int64"),
        ({"gamma": np.ones(2)}, ValueError, "gamma has 2 values, but x has 3 channels"),
        ({"eps": -1}, ValueError, "eps is -1"),
        ({"residual": np.ones((5, 3))}, ValueError, r"residual has shape \(5, 3\)"),
        ({"activation": "gelu"}, ValueError, "activation is 'gelu'"),
        ({"on_single": "inference"}, ValueError, "on_single is 'inference'"),
        ({"out": np.ones((6, 3))}, ValueError, r"out has shape \(6, 3\)"),
        ({"out": [1.0]}, TypeError, "out is of type list"),
    ],
)
def test_bad_input(change, kind, sentence):
    given = {"x": np.arange(12.0).reshape(4, 3), "size": 2} | change
    with pytest.raises(kind, match=f"^ghost_batch_norm: {sentence}"):
        bnpp.ghost_batch_norm(given.pop("x"), **given)


def test_out_may_be_x_but_not_a_part_of_it_moved():
    big = np.arange(30.0).reshape(10, 3) ** 2
    expected = bnpp.ghost_batch_norm(big[:8].copy(), size=2)[0]
    with pytest.raises(ValueError, match="ghost_batch_norm: out shares memory with x"):
        bnpp.ghost_batch_norm(big[:8], size=2, out=big[2:])
    y, saved = bnpp.ghost_batch_norm(big[:8], size=2, out=big[:8])
    assert np.array_equal(y, expected)
    with pytest.raises(ValueError, match="ghost_batch_norm_backward: x was overwritten"):
        bnpp.ghost_batch_norm_backward(y, saved)


def test_bad_backward():
    x = np.arange(12.0).reshape(4, 3)
    _, saved = bnpp.ghost_batch_norm(x, size=2)
    name = "^ghost_batch_norm_backward: "
    with pytest.raises(TypeError, match=name + "saved is of type Saved, but"):
        bnpp.ghost_batch_norm_backward(x, bnpp.batch_norm(x)[1])
    with pytest.raises(ValueError, match=name + r"dy has shape \(5, 3\)"):
        bnpp.ghost_batch_norm_backward(np.ones((5, 3)), saved)
    with pytest.raises(TypeError, match=name + "dy has dtype float32"):
        bnpp.ghost_batch_norm_backward(x.astype(np.float32), saved)
    with pytest.raises(ValueError, match=name + "out shares memory with saved's x"):
        bnpp.ghost_batch_norm_backward(x.copy(), saved, out=x)


@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0, None])
@pytest.mark.parametrize("kind", ["unbiased", "biased"])
def test_layer_updates_once_by_the_merged_moments(kind, momentum):
    ghost = bnpp.GhostBatchNorm(3, size=4, momentum=momentum, running_var=kind)
    plain = bnpp.BatchNorm(3, momentum=momentum, running_var=kind)
    for seed in range(3):
        x, *_, dy = data(Shape((10, 3, 5), 1, ""), np.float32, seed, mean=1e6)
        y = ghost(x)
        plain(x)
        assert np.array_equal(y, bnpp.ghost_batch_norm(x, size=4)[0])
        # The moments of parts, merged, are those of the whole to the last place.
        np.testing.assert_allclose(ghost.running_mean, plain.running_mean, rtol=1e-15)
        np.testing.assert_allclose(ghost.running_var, plain.running_var, rtol=1e-14)
        assert ghost.count == plain.count == seed + 1
        got = ghost.backward(dy)
        saved = bnpp.ghost_batch_norm(x, np.ones(3, np.float32), size=4)[1]
        assert np.array_equal(got.dx, bnpp.ghost_batch_norm_backward(dy, saved).dx)
    assert np.array_equal(ghost.eval()(x).shape, x.shape)
    assert ghost.backward(dy)._fields == ("dx", "dgamma", "dbeta", "dmean", "dvar")


def test_layer_unchanged_after_an_error_and_pickles():
    layer = bnpp.GhostBatchNorm(3, size=4)
    x = data(Shape((9, 3), 1, ""))[0]
    with pytest.raises(ValueError, match="sub-batch 2 has one value a channel"):
        layer(x)
    assert layer.count == 0
    layer(x[:8])
    twin = pickle.loads(pickle.dumps(layer))
    assert np.array_equal(twin.running_var, layer.running_var)
    assert (twin.size, twin.count, repr(twin)) == (4, 1, repr(layer))
    assert repr(layer) == "GhostBatchNorm(3, axis=1, eps=1e-05, momentum=0.1, size=4)"
    with pytest.raises(RuntimeError, match="nothing is saved"):
        twin.backward(x[:8])
    with pytest.raises(ValueError, match="GhostBatchNorm: axis is 0"):
        bnpp.GhostBatchNorm(3, size=4, axis=0)
    with pytest.raises(ValueError, match="GhostBatchNorm: size is 0"):
        bnpp.GhostBatchNorm(3, size=0)
