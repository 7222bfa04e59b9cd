"""Forward and backward, training and inference, against F1 to F3, F7, B1, B2 and B5."""

import bnpp
import numpy as np
import pytest
from helpers.reference import assert_exact, backward, forward
from helpers.settings import agree
from helpers.shapes import CASES, Case, cases, data, lanes, within
from helpers.slopes import assert_slopes

FROZEN = pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])


def both_ways(x, gamma, beta, dy, given, **keywords):
    """One forward and its backward; `given` are mean and variance where they are frozen."""
    if given:
        y, saved = bnpp.batch_norm_inference(x, gamma, beta, *given, save=True, **keywords)
        return y, saved, bnpp.batch_norm_inference_backward(dy, saved)
    y, saved = bnpp.batch_norm(x, gamma, beta, on_single="biased", **keywords)
    return y, saved, bnpp.batch_norm_backward(dy, saved)


def check(x, gamma=None, beta=None, dy=None, *, axis=1, given=(), **keywords):
    """Hold y, the statistics and all gradients against the reference, in every setting."""
    dtype, dy = x.dtype, x if dy is None else dy
    keywords |= {"axis": axis}

    def call():
        y, saved, got = both_ways(x, gamma, beta, dy, given, **keywords)
        return y, np.array(saved.count), (saved.mean, saved.var, saved.inv_std), got

    y, count, statistics, got = agree(call)
    mean, var = given or (None, None)
    f = forward(x, gamma, beta, mean=mean, var=var, **keywords)
    assert_exact(y, f.y, f.size, dtype, "y")
    if given:
        again = bnpp.batch_norm_inference(x, gamma, beta, *given, **keywords)
        assert np.array_equal(again, y), "save changes y"
    else:
        assert count == x.size // max(x.shape[axis], 1) or not x.size
        sizes = np.abs(f.mean) + np.sqrt(f.var), f.var, f.inv_std
        for name, value, size in zip(("mean", "var", "inv_std"), statistics, sizes, strict=True):
            assert_exact(value, getattr(f, name), size, dtype, name)
    names = ("dx", "dgamma", "dbeta") + ("dmean", "dvar") * bool(given)
    assert got._fields == names + ("dresidual",) * (keywords.get("residual") is not None)
    expected = backward(dy, f, gamma, axis=axis, frozen=bool(given))
    for name, value in got._asdict().items():
        assert_exact(value, getattr(expected, name), expected.sizes[name], dtype, name)


def check_case(case, dtype, frozen, residual=False, activation=None):
    """The same of a case's values."""
    x, gamma, beta, r, dy = data(case, dtype)
    given = (beta + np.asarray(3, dtype), gamma * np.asarray(4, dtype)) if frozen else ()
    keywords = {"axis": case.axis, "given": given, "activation": activation}
    check(x, gamma, beta, dy, **keywords, residual=r if residual else None)


@FROZEN
@cases(CASES)
def test_shared_shapes(case, frozen, dtype):
    check_case(case, dtype, frozen)
    check_case(case, dtype, frozen, residual=True, activation="relu")


@FROZEN
@lanes
def test_lengths_about_the_lane_width(lanes, frozen, dtype):
    for case in lanes:
        with within(case):
            check_case(case, dtype, frozen, residual=True, activation="relu")


@FROZEN
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -4])
def test_axes_and_epilogues(axis, frozen, dtype):
    for residual in (False, True):
        for activation in (None, "relu"):
            with within(f"residual {residual}", activation):
                check_case(Case((4, 3, 5, 7), axis, ""), dtype, frozen, residual, activation)


@FROZEN
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("shape", [(3, 2, 4), (7, 3)], ids=str)
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

    def run(values):
        function, more = bnpp.batch_norm, {}
        if frozen:
            function, more = bnpp.batch_norm_inference, {"save": True}
        return function(**values, eps=1e-3, activation=activation, **more)

    z = forward(**inputs, eps=1e-3).y
    assert np.abs(z).min() > 1e-3, "no value may stand at the kink of the ReLU"
    back = bnpp.batch_norm_inference_backward if frozen else bnpp.batch_norm_backward
    assert_slopes(back(w, run(inputs)[1]), lambda values: np.sum(w * run(values)[0]), inputs)


@FROZEN
def test_parameters_are_optional(frozen, dtype):
    x, gamma, beta, _, dy = data(CASES[0], dtype)
    given = (beta, gamma) if frozen else ()
    for g, b in ((None, None), (gamma, None), (None, beta)):
        check(x, g, b, dy, given=given)
    ones, zeros = np.ones_like(gamma), np.zeros_like(beta)
    plain, _, got = both_ways(x, None, None, dy, given)
    y, _, expected = both_ways(x, ones, zeros, dy, given)
    for a, b in zip((plain, *got), (y, *expected), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("other", [np.float32, np.float64])
def test_parameters_of_either_dtype_and_any_stride(other, dtype):
    x, gamma, beta, _, _ = data(CASES[0], dtype)
    gamma, beta = np.repeat(gamma, 3).astype(other)[::3], beta.astype(other)[::-1]
    check(x, gamma, beta)
    y = bnpp.batch_norm_inference(x, gamma, beta, beta[::-1], gamma[::-1])
    f = forward(x, gamma, beta, mean=beta[::-1], var=gamma[::-1])
    assert_exact(y, f.y, f.size, dtype)


@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-3, 10.0])
def test_eps_is_inside_the_root(eps, dtype):
    x, gamma, beta, _, _ = data(CASES[0], dtype, std=1e-3)
    check(x, gamma, beta, eps=eps)


@pytest.mark.parametrize("std", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize("stds_away", [0.0, 1e3, 1e6])
def test_inference_far_from_zero(stds_away, std, dtype):
    """y = x*alpha + (beta - mean*alpha) would be off by 5e-2 at a mean of 1e6 stds."""
    x, gamma, beta, _, _ = data(CASES[0], dtype, mean=stds_away * std, std=std)
    given = (beta + stds_away * std).astype(dtype), (gamma * std**2).astype(dtype)
    y = bnpp.batch_norm_inference(x, gamma, beta, *given, eps=0.0)
    f = forward(x, gamma, beta, mean=given[0], var=given[1], eps=0.0)
    assert_exact(y, f.y, f.size, dtype, "y")


def test_saved_describes_the_call(dtype):
    x, gamma, beta, _, _ = data(CASES[0], dtype)
    before = x.copy()
    y, saved = bnpp.batch_norm(x, gamma, beta, axis=-3, eps=1e-4)
    assert not np.shares_memory(x, y)
    assert np.array_equal(x, before)
    assert (saved.shape, saved.axis, saved.eps, saved.count) == (x.shape, 1, 1e-4, 4 * 5 * 7)
    assert (saved.frozen, saved.reason) == (False, None)
    for statistic in (saved.mean, saved.var, saved.inv_std):
        assert statistic.shape == (3,)
        assert not statistic.flags.writeable
    assert bnpp.batch_norm(x, axis=0)[1].count == 3 * 5 * 7


@pytest.mark.parametrize("shape", [(4, 8, 32, 32), (1024, 32), (2, 3, 1001)])
def test_the_relu_mask_takes_one_bit_an_element(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    _, plain = bnpp.batch_norm(x, residual=x)
    _, saved = bnpp.batch_norm(x, residual=x, activation="relu")
    assert plain.mask_nbytes == 0
    assert x.size / 8 <= saved.mask_nbytes <= x.size / 8 + 64 * shape[0] * (len(shape) > 2) + 64
    assert saved.nbytes < x.nbytes / 4 + 1024


@pytest.mark.parametrize("shape", [(1, 5), (1, 5, 1, 1)])
def test_one_value_a_channel(shape, dtype):
    x, gamma, beta, residual, _ = data(Case(shape, 1, ""), dtype)
    with pytest.raises(ValueError, match=r"batch_norm: .*(one|1) value"):
        bnpp.batch_norm(x, gamma, beta)
    y, saved = bnpp.batch_norm(x, gamma, beta, on_single="biased")
    assert np.array_equal(y.ravel(), beta)
    assert np.array_equal(saved.var, np.zeros(5))
    y, _ = bnpp.batch_norm(x, gamma, beta, on_single="biased", residual=residual)
    assert_exact(y.ravel(), beta + residual.ravel().astype(np.longdouble), np.abs(y).ravel())


def test_relu_keeps_nan(dtype):
    x = data(CASES[0], dtype)[0]
    x[0, 1, 2, 3] = np.nan
    y, _ = bnpp.batch_norm(x, activation="relu")
    assert np.isnan(y[:, 1]).all()


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


def test_save_changes_nothing_else(dtype):
    x, gamma, beta, residual, _ = data(CASES[0], dtype)
    keywords = {"residual": residual, "activation": "relu", "eps": 1e-4}
    y = bnpp.batch_norm_inference(x, gamma, beta, beta, gamma, **keywords)
    z, saved = bnpp.batch_norm_inference(x, gamma, beta, beta, gamma, save=True, **keywords)
    assert np.array_equal(y, z)
    assert (saved.frozen, saved.eps, saved.shape) == (True, 1e-4, x.shape)
    assert np.array_equal(saved.mean, beta)
    assert np.array_equal(saved.var, gamma)


def test_zero_variance_and_eps_give_beta(dtype):
    x, gamma, beta, _, _ = data(CASES[0], dtype)
    y = bnpp.batch_norm_inference(x, gamma, beta, beta, np.zeros(3, dtype), eps=0.0)
    assert np.array_equal(y, np.broadcast_to(beta[:, None, None], x.shape))
