"""Training-mode forward against F1 and F7 on the shared shapes."""

import bnpp
import numpy as np
import pytest
from reference import assert_exact, forward
from shapes import CASES, LANES, Case, cases, data


def check(x, gamma=None, beta=None, *, axis=1, eps=1e-5, residual=None, activation=None):
    """Run one forward and hold y and the statistics against the reference."""
    f = forward(x, gamma, beta, axis=axis, eps=eps, residual=residual, activation=activation)
    y, saved = bnpp.batch_norm(
        x,
        gamma,
        beta,
        axis=axis,
        eps=eps,
        residual=residual,
        activation=activation,
        on_single="biased",
    )
    assert_exact(y, f.y, f.size, x.dtype, "y")
    std = np.sqrt(f.var)
    assert_exact(saved.mean, f.mean, abs(f.mean) + std, x.dtype, "mean")
    assert_exact(saved.var, f.var, f.var, x.dtype, "var")
    assert_exact(saved.inv_std, f.inv_std, f.inv_std, x.dtype, "inv_std")
    assert saved.count == x.size // max(x.shape[axis], 1) or not x.size
    return y, saved


@cases(CASES)
def test_shared_shapes(case, dtype, threads):
    x, gamma, beta, residual, _ = data(case, dtype)
    check(x, gamma, beta, axis=case.axis)
    check(x, gamma, beta, axis=case.axis, residual=residual, activation="relu")


@cases(LANES)
def test_lengths_about_the_lane_width(case, dtype):
    x, gamma, beta, residual, _ = data(case, dtype)
    check(x, gamma, beta, axis=case.axis, residual=residual, activation="relu")


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -4])
def test_axes_and_epilogues(axis, with_residual, activation, dtype):
    x, gamma, beta, residual, _ = data(Case((4, 3, 5, 7), axis, ""), dtype)
    residual = residual if with_residual else None
    check(x, gamma, beta, axis=axis, residual=residual, activation=activation)


def test_parameters_are_optional(dtype):
    x, gamma, beta, _, _ = data(CASES[0], dtype)
    check(x)
    check(x, gamma)
    check(x, None, beta)
    ones, zeros = np.ones_like(gamma), np.zeros_like(beta)
    assert np.array_equal(bnpp.batch_norm(x)[0], bnpp.batch_norm(x, ones, zeros)[0])


@pytest.mark.parametrize("other", [np.float32, np.float64])
def test_parameters_of_either_dtype_and_any_stride(other, dtype):
    x, gamma, beta, _, _ = data(CASES[0], dtype)
    gamma, beta = np.repeat(gamma, 3).astype(other)[::3], beta.astype(other)[::-1]
    check(x, gamma, beta)


@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-3, 10.0])
def test_eps_is_inside_the_root(eps, dtype):
    x, gamma, beta, _, _ = data(CASES[0], dtype, std=1e-3)
    check(x, gamma, beta, eps=eps)


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
