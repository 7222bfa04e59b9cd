"""Inference-mode forward against F3."""

import bnpp
import numpy as np
import pytest
from reference import assert_exact, forward
from shapes import CASES, LANES, Case, cases, data


def check(case, dtype, std=2.0, mean=3.0, **keywords):
    """Normalise by given statistics and hold y against the reference."""
    x, gamma, beta, residual, _ = data(case, dtype, mean=mean, std=std)
    running = beta + np.asarray(mean, dtype), gamma * np.asarray(std**2, dtype)
    residual = residual if keywords.get("activation") else None
    arguments = {"axis": case.axis, "residual": residual, **keywords}
    f = forward(x, gamma, beta, mean=running[0], var=running[1], **arguments)
    y = bnpp.batch_norm_inference(x, gamma, beta, *running, **arguments)
    assert_exact(y, f.y, f.size, dtype, "y")
    return y


@pytest.mark.parametrize("activation", [None, "relu"])
@cases(CASES)
def test_shared_shapes(case, dtype, activation):
    check(case, dtype, activation=activation)


@cases(LANES)
def test_lengths_about_the_lane_width(case):
    check(case, np.float32, activation="relu")


@pytest.mark.parametrize("std", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize("stds_away", [0.0, 1e3, 1e6])
def test_far_from_zero(stds_away, std, dtype):
    """y = x*alpha + (beta - mean*alpha) would be off by 5e-2 at a mean of 1e6 stds."""
    check(CASES[0], dtype, mean=stds_away * std, std=std, eps=0.0)


def test_one_value_a_channel_is_no_special_case(dtype):
    check(Case((1, 5), 1, ""), dtype)


@pytest.mark.parametrize("other", [np.float32, np.float64])
def test_parameters_of_either_dtype_and_any_stride(other, dtype):
    x, gamma, beta, _, _ = data(CASES[0], dtype)
    gamma, beta = gamma.astype(other), np.repeat(beta.astype(other), 2)[::2]
    mean, var = beta[::-1], gamma[::-1]
    y = bnpp.batch_norm_inference(x, gamma, beta, mean, var)
    f = forward(x, gamma, beta, mean=mean, var=var)
    assert_exact(y, f.y, f.size, dtype)


def test_parameters_are_optional(dtype):
    x, gamma, beta, _, _ = data(CASES[0], dtype)
    for g, b in ((None, None), (gamma, None), (None, beta)):
        f = forward(x, g, b, mean=beta, var=gamma)
        assert_exact(bnpp.batch_norm_inference(x, g, b, beta, gamma), f.y, f.size, dtype)


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
