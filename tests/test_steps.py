"""Sequences: statistics of each step, one gamma and beta; the layer in a loop and on whole sequences."""

import pickle

import bnpp
import numpy as np
import pytest
from helpers.reference import assert_exact, backward, forward
from helpers.settings import THREADS, agree
from helpers.shapes import ORDERS, data
from helpers.shapes import Case as Shape
from helpers.slopes import assert_slopes


def taken(x, step_axis, t):
    return np.take(x, t, step_axis)


@pytest.mark.parametrize("mean", [3.0, 1e6])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(
    ("shape", "step_axis", "axis"), [((5, 4, 3), 0, -1), ((4, 5, 3), 1, 2), ((3, 4, 6, 5), -1, 1)]
)
def test_reference(shape, step_axis, axis, activation, mean, dtype):
    x, gamma, beta, residual, dy = data(Shape(shape, axis, ""), dtype, mean=mean)
    y, saved = bnpp.step_batch_norm(
        x, gamma, beta, step_axis=step_axis, axis=axis, residual=residual, activation=activation
    )
    got = bnpp.step_batch_norm_backward(dy, saved)
    assert got._fields == ("dx", "dgamma", "dbeta", "dresidual")
    steps, sums, sizes = shape[step_axis], {"dgamma": 0, "dbeta": 0}, {"dgamma": 0, "dbeta": 0}
    inner = axis % x.ndim - (axis % x.ndim > step_axis % x.ndim)
    for t in range(steps):
        xt, rt, gt = (taken(a, step_axis, t) for a in (x, residual, dy))
        f = forward(xt, gamma, beta, axis=inner, residual=rt, activation=activation)
        g = backward(gt, f, gamma, axis=inner)
        assert_exact(taken(y, step_axis, t), f.y, f.size, dtype, "y")
        assert_exact(taken(got.dx, step_axis, t), g.dx, g.sizes["dx"], dtype, "dx")
        assert_exact(
            taken(got.dresidual, step_axis, t), g.dresidual, g.sizes["dresidual"], dtype, "dres"
        )
        for name in sums:
            sums[name] = sums[name] + getattr(g, name)
            sizes[name] = sizes[name] + g.sizes[name]
    for name in sums:
        assert_exact(getattr(got, name), sums[name], sizes[name], dtype, name)
    assert saved.mean.shape == (steps, len(gamma))


def test_one_step_is_batch_norm_bit_for_bit(dtype):
    x, gamma, beta, residual, dy = data(Shape((1, 40, 3, 9), 2, ""), dtype)
    y, saved = bnpp.step_batch_norm(x, gamma, beta, axis=2, residual=residual, activation="relu")
    z, plain = bnpp.batch_norm(x[0], gamma, beta, axis=1, residual=residual[0], activation="relu")
    assert np.array_equal(y[0], z)
    got, one = bnpp.step_batch_norm_backward(dy, saved), bnpp.batch_norm_backward(dy[0], plain)
    assert np.array_equal(got.dx[0], one.dx)
    assert np.array_equal(got.dgamma, one.dgamma)
    assert np.array_equal(got.dbeta, one.dbeta)


def test_central_differences():
    rng = np.random.default_rng(3)
    shape = (3, 4, 2)
    inputs = {
        "x": rng.standard_normal(shape) + 0.5,
        "gamma": rng.uniform(0.5, 2, 2),
        "beta": rng.standard_normal(2),
        "residual": rng.standard_normal(shape),
    }
    w = rng.standard_normal(shape)

    def run(values):
        return bnpp.step_batch_norm(**values, eps=1e-3)

    got = bnpp.step_batch_norm_backward(w, run(inputs)[1])
    assert_slopes(got, lambda v: np.sum(w * run(v)[0]), inputs, 1e-6, 1e-6, 1e-7)


@pytest.mark.parametrize("order", ["c", "fortran", "gaps", "negative"])
def test_every_setting_and_order(order, dtype):
    x, gamma, beta, residual, dy = data(Shape((4, 300, 17), -1, ""), dtype, mean=1e3)
    x, residual, dy = (ORDERS[order](a) for a in (x, residual, dy))

    def call():
        y, saved = bnpp.step_batch_norm(x, gamma, beta, residual=residual, activation="relu")
        return y, saved.mean, saved.var, bnpp.step_batch_norm_backward(dy, saved)

    agree(call, THREADS)


@pytest.mark.parametrize("shape", [(0, 4, 3), (3, 0, 2)])
def test_empty(shape, dtype):
    x = np.empty(shape, dtype)
    y, saved = bnpp.step_batch_norm(x)
    assert (y.shape, saved.count) == (shape, 0)
    assert not bnpp.step_batch_norm_backward(x, saved).dgamma.any()
    layer = bnpp.StepBatchNorm(shape[2])
    layer(x)
    assert layer.count.tolist() == []


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"step_axis": 2}, ValueError, "step_axis is 2, which is the channels' axis"),
        ({"step_axis": 3}, ValueError, "step_axis is 3, but x has 3 dimensions"),
        ({"step_axis": 1.0}, TypeError, "step_axis is a float, but an integer"),
        ({"axis": 7}, ValueError, "axis is 7, but x has 3 dimensions"),
        ({"gamma": np.ones(3)}, ValueError, "gamma has 3 values, but x has 2 channels"),
        ({"residual": np.ones((3, 4, 3))}, ValueError, r"residual has shape \(3, 4, 3\)"),
        ({"x": np.ones((3, 1, 2))}, ValueError, "step 0 has one value a channel"),
    ],
)
def test_bad_input(change, kind, sentence):
    given = {"x": np.arange(24.0).reshape(3, 4, 2)} | change
    with pytest.raises(kind, match=f"^step_batch_norm: {sentence}"):
        bnpp.step_batch_norm(**given)


def test_layer_in_a_loop_is_the_layer_on_the_sequence(dtype):
    """The same outputs, running statistics and gradients, bit for bit where both round once."""
    whole, loop = (
        bnpp.StepBatchNorm(3, step_axis=1, axis=2),
        bnpp.StepBatchNorm(3, step_axis=1, axis=2),
    )
    for seed in range(2):
        x, gamma, beta, residual, dy = data(Shape((6, 4, 3), 2, ""), dtype, seed, mean=1e6)
        for layer in (whole, loop):
            layer.gamma, layer.beta = gamma, beta
        y = whole(x, residual, "relu")
        for t in range(4):
            assert np.array_equal(loop.step(x[:, t], t, residual[:, t], "relu"), y[:, t])
    assert np.array_equal(whole.running_mean, loop.running_mean)
    assert np.array_equal(whole.running_var, loop.running_var)
    assert whole.count.tolist() == loop.count.tolist() == [2, 2, 2, 2]
    got = whole.backward(dy)
    total = np.zeros(3)
    for t in reversed(range(4)):
        one = loop.backward_step(dy[:, t], t)
        assert np.array_equal(one.dx, got.dx[:, t])
        assert np.array_equal(one.dresidual, got.dresidual[:, t])
        total += one.dgamma
    np.testing.assert_allclose(total, got.dgamma, rtol=1e-5)


@pytest.mark.parametrize("kind", ["unbiased", "biased"])
@pytest.mark.parametrize("momentum", [0.0, 0.3, 1.0, None])
def test_each_step_has_the_running_statistics_of_a_batch_norm(momentum, kind):
    layer = bnpp.StepBatchNorm(3, momentum=momentum, running_var=kind)
    steps = [bnpp.BatchNorm(3, momentum=momentum, running_var=kind) for _ in range(5)]
    for seed, length in enumerate([3, 5, 2]):  # sequences of other lengths
        x = data(Shape((length, 6, 3), -1, ""), np.float32, seed)[0]
        layer(x)
        for step, xt in zip(steps, x, strict=False):
            step(xt)
    assert layer.count.tolist() == [3, 3, 2, 1, 1]
    assert np.array_equal(layer.running_mean, [s.running_mean for s in steps])
    assert np.array_equal(layer.running_var, [s.running_var for s in steps])
    # Evaluation: each step by its own, later ones by the last one seen.
    x, *_, dy = data(Shape((7, 6, 3), -1, ""), np.float32, 9)
    y = layer.eval()(x)
    for t in range(7):
        expected = steps[min(t, 4)].eval()(x[t])
        assert np.array_equal(y[t], expected)
        assert np.array_equal(layer.eval().step(x[t], t), expected)
    y = layer(x)
    got = layer.backward(dy)
    assert got._fields == ("dx", "dgamma", "dbeta", "dmean", "dvar")
    assert got.dmean.shape == (7, 3)
    one = [steps[min(t, 4)] for t in range(7)]
    for t in range(7):
        one[t](x[t])
        assert np.array_equal(got.dvar[t], one[t].backward(dy[t]).dvar)


def test_layer_before_any_training_uses_0_and_1():
    layer = bnpp.StepBatchNorm(2, eps=0.0).eval()
    x = np.arange(12.0).reshape(3, 2, 2)
    assert np.array_equal(layer(x), x)


def test_layer_is_unchanged_after_an_error():
    layer = bnpp.StepBatchNorm(2)
    x = np.arange(12.0).reshape(3, 2, 2)
    layer(x)
    before = layer.state_dict()
    with pytest.raises(ValueError, match=r"^StepBatchNorm: x has 3 channels along axis -1, but"):
        layer(np.ones((3, 2, 3)))
    with pytest.raises(
        ValueError, match=r"^StepBatchNorm.step: x has 3 channels along axis 1, but"
    ):
        layer.step(np.ones((2, 3)), 0)
    with pytest.raises(ValueError, match=r"^StepBatchNorm.step: t is 5, but training has seen 3"):
        layer.step(x[0], 5)
    with pytest.raises(ValueError, match=r"^StepBatchNorm.step: t is -1, but"):
        layer.step(x[0], -1)
    with pytest.raises(ValueError, match=r"^StepBatchNorm.step: x has one value a channel"):
        layer.step(x[0, :1], 0)
    with pytest.raises(ValueError, match=r"^StepBatchNorm: activation is 'gelu'"):
        layer(x, activation="gelu")
    after = layer.state_dict()
    assert all(np.array_equal(before[k], after[k]) for k in before)
    assert layer.backward(x).dx.shape == x.shape
    with pytest.raises(RuntimeError, match="nothing is saved of step 0"):
        layer.backward_step(x[0], 0)
    with pytest.raises(ValueError, match=r"^StepBatchNorm: on_single is 'inference'"):
        bnpp.StepBatchNorm(2, on_single="inference")
    with pytest.raises(ValueError, match=r"^StepBatchNorm: channels is 0"):
        bnpp.StepBatchNorm(0)


def test_layer_state_and_pickle():
    layer, other = bnpp.StepBatchNorm(2, momentum=None), bnpp.StepBatchNorm(2, momentum=None)
    x = np.random.default_rng(0).standard_normal((3, 5, 2))
    layer(x)
    layer.gamma[:] = [2, 3]
    other.load_state_dict(layer.state_dict())
    twin = pickle.loads(pickle.dumps(layer))
    with pytest.raises(RuntimeError, match="nothing is saved"):
        twin.backward(x)
    for like in (other, twin):
        assert np.array_equal(like(x + 1), layer(x + 1))
        assert np.array_equal(like.running_var, layer.running_var)
        assert like.count.tolist() == layer.count.tolist() == [2, 2, 2]
        layer.load_state_dict(other.state_dict() if like is twin else layer.state_dict())
        layer.reset_running_stats()
        layer(x)
    assert repr(layer) == "StepBatchNorm(2, step_axis=0, axis=-1, eps=1e-05, momentum=None)"
    good = layer.state_dict()
    for change, sentence in [
        ({"gamma": np.ones(3, np.float32)}, "gamma has"),
        ({"running_mean": np.ones((2, 2))}, r"running_mean has shape \(2, 2\), but \(3, 2\)"),
        ({"running_var": -np.ones((3, 2))}, "running_var"),
        ({"more": 1}, "state has the names"),
    ]:
        with pytest.raises(ValueError, match=f"^StepBatchNorm.load_state_dict: .*{sentence}"):
            layer.load_state_dict(good | change)
        assert np.array_equal(layer.running_var, good["running_var"])
