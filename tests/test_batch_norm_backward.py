"""Gradients against B1, B2 and B5, and against central differences of the forward itself."""

import bnpp
import numpy as np
import pytest
from reference import assert_exact, backward, forward
from shapes import CASES, LANES, Case, cases, data


def check(case, dtype, residual=False, activation=None, frozen=False):
    """Run forward and backward, and hold every gradient against the reference."""
    x, gamma, beta, r, dy = data(case, dtype)
    keywords = {"axis": case.axis, "activation": activation, "residual": r if residual else None}
    statistics = ()
    if frozen:
        statistics = (beta + 2, gamma**2)
        f = forward(x, gamma, beta, mean=statistics[0], var=statistics[1], **keywords)
        _, saved = bnpp.batch_norm_inference(x, gamma, beta, *statistics, save=True, **keywords)
        got = bnpp.batch_norm_inference_backward(dy, saved)
    else:
        f = forward(x, gamma, beta, **keywords)
        _, saved = bnpp.batch_norm(x, gamma, beta, on_single="biased", **keywords)
        got = bnpp.batch_norm_backward(dy, saved)
    names = ("dx", "dgamma", "dbeta") + ("dmean", "dvar") * frozen + ("dresidual",) * residual
    assert got._fields == names
    expected = backward(dy, f, gamma, axis=case.axis, frozen=frozen)
    for name in names:
        size = expected.sizes[name]
        assert_exact(getattr(got, name), getattr(expected, name), size, dtype, name)


@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
@cases(CASES)
def test_shared_shapes(case, dtype, frozen, threads):
    check(case, dtype, frozen=frozen)
    check(case, dtype, residual=True, activation="relu", frozen=frozen)


@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
@cases(LANES)
def test_lengths_about_the_lane_width(case, frozen):
    check(case, np.float32, residual=True, activation="relu", frozen=frozen)


@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_axes_and_epilogues(axis, activation, residual, frozen, dtype):
    check(Case((4, 3, 5, 7), axis, ""), dtype, residual, activation, frozen)


@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("shape", [(3, 2, 4), (7, 3)])
def test_central_differences(shape, activation, frozen):
    """Each gradient is the slope of L = sum(w*y), found without any formula of the backward."""
    rng = np.random.default_rng(11)
    channels = shape[1]
    inputs = {
        "x": rng.standard_normal(shape) + 0.5,
        "gamma": rng.uniform(0.5, 2, channels),
        "beta": rng.standard_normal(channels),
        "residual": rng.standard_normal(shape),
    }
    if frozen:
        inputs |= {"mean": rng.standard_normal(channels), "var": rng.uniform(0.5, 2, channels)}
    w = rng.standard_normal(shape)
    eps = 1e-3

    def run(values, **more):
        function = bnpp.batch_norm_inference if frozen else bnpp.batch_norm
        return function(**values, eps=eps, activation=activation, **more)

    def loss(values):
        y = run(values)
        return np.sum(w * (y if frozen else y[0]))

    _, saved = run(inputs, save=True) if frozen else run(inputs)
    h = 1e-5
    z = forward(**inputs, eps=eps).y
    assert np.abs(z).min() > 100 * h, "no value may stand at the kink of the ReLU"
    gradients = (bnpp.batch_norm_inference_backward if frozen else bnpp.batch_norm_backward)(
        w, saved
    )
    for name, value in inputs.items():
        slope = np.empty_like(value)
        for i in np.ndindex(value.shape):
            step = np.zeros_like(value)
            step[i] = h
            up, down = (loss(inputs | {name: value + s}) for s in (step, -step))
            slope[i] = (up - down) / (2 * h)
        np.testing.assert_allclose(getattr(gradients, f"d{name}"), slope, rtol=1e-6, atol=1e-8)


def test_parameters_are_optional(dtype):
    x, _, _, _, dy = data(CASES[0], dtype)
    plain = bnpp.batch_norm_backward(dy, bnpp.batch_norm(x)[1])
    ones, zeros = np.ones(3, dtype), np.zeros(3, dtype)
    given = bnpp.batch_norm_backward(dy, bnpp.batch_norm(x, ones, zeros)[1])
    for a, b in zip(plain, given, strict=True):
        assert np.array_equal(a, b)


def test_saved_can_be_used_again(dtype):
    x, gamma, beta, residual, dy = data(CASES[0], dtype)
    _, saved = bnpp.batch_norm(x, gamma, beta, residual=residual, activation="relu")
    gamma[:] = np.nan  # what the forward used counts, not what the array holds now
    first, second = (bnpp.batch_norm_backward(dy, saved) for _ in range(2))
    assert np.isfinite(first.dx).all()
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b)


def test_gamma_zero_still_has_a_gradient(dtype):
    x, _, _, _, dy = data(CASES[0], dtype)
    got = bnpp.batch_norm_backward(dy, bnpp.batch_norm(x, np.zeros(3, dtype))[1])
    assert not got.dx.any()
    assert got.dgamma.all()


def test_the_kink_of_the_relu_has_gradient_zero(dtype):
    """The bit is z > 0, so where z is exactly 0 nothing passes."""
    x, dy = np.full((2, 3, 17), 5, dtype), np.ones((2, 3, 17), dtype)
    y, saved = bnpp.batch_norm(x, residual=np.zeros_like(x), activation="relu")
    got = bnpp.batch_norm_backward(dy, saved)
    for zero in (y, got.dresidual, got.dx, got.dbeta, got.dgamma):
        assert not zero.any()


def test_dresidual_without_relu_is_dy_itself(dtype):
    x, gamma, beta, residual, dy = data(CASES[0], dtype)
    _, saved = bnpp.batch_norm(x, gamma, beta, residual=residual)
    before = dy.copy()
    assert bnpp.batch_norm_backward(dy, saved).dresidual is dy
    got = bnpp.batch_norm_backward(dy, saved, out=dy)
    assert got.dx is dy
    assert not np.shares_memory(got.dresidual, dy)
    assert np.array_equal(got.dresidual, before)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_out_may_be_dy(activation, dtype):
    x, gamma, beta, residual, dy = data(CASES[0], dtype)
    _, saved = bnpp.batch_norm(x, gamma, beta, residual=residual, activation=activation)
    expected = bnpp.batch_norm_backward(dy.copy(), saved)
    got = bnpp.batch_norm_backward(dy, saved, out=dy)
    assert got.dx is dy
    for a, b in zip(got, expected, strict=True):
        assert np.array_equal(a, b)


def test_empty_batch_has_zero_gradients(dtype):
    x = np.empty((0, 3, 4), dtype)
    y, saved = bnpp.batch_norm(x, np.ones(3), np.ones(3), residual=x, activation="relu")
    assert y.shape == x.shape
    assert saved.count == 0
    got = bnpp.batch_norm_backward(x, saved)
    assert got.dx.shape == got.dresidual.shape == x.shape
    assert np.array_equal([saved.mean, saved.var, got.dgamma, got.dbeta], np.zeros((4, 3)))


def test_the_two_kinds_of_saved_are_not_mixed():
    x, gamma, beta, _, dy = data(CASES[0])
    _, training = bnpp.batch_norm(x, gamma, beta)
    _, frozen = bnpp.batch_norm_inference(x, gamma, beta, beta, gamma, save=True)
    assert (training.frozen, frozen.frozen) == (False, True)
    with pytest.raises(ValueError, match=r"batch_norm_backward: .*batch_norm_inference_backward"):
        bnpp.batch_norm_backward(dy, frozen)
    with pytest.raises(ValueError, match=r"batch_norm_inference_backward: .*\bbatch_norm_backward"):
        bnpp.batch_norm_inference_backward(dy, training)


@pytest.mark.parametrize("shape", [(64, 3, 1111), (4, 2, 40000), (20000, 2)], ids=str)
def test_equal_gradients_add_up_exactly(shape, dtype):
    """Rounding errors of equal terms all have the same sign: nothing but short sums hides them."""
    x = np.random.default_rng(2).standard_normal(shape).astype(dtype)
    dy = np.full(shape, 0.1, dtype)
    got, f = bnpp.batch_norm_backward(dy, bnpp.batch_norm(x)[1]), forward(x)
    expected = backward(dy, f)
    for name in ("dx", "dgamma", "dbeta"):
        size = expected.sizes[name]
        assert_exact(getattr(got, name), getattr(expected, name), size, dtype, name)
