"""What Ioffe & Szegedy (2015, arXiv 1502.03167) say of batch normalization, as properties."""

import bnpp
import numpy as np
import pytest
from helpers.reference import assert_exact, forward
from helpers.shapes import CASES, data

SCALES = [2.0**-7, 0.25, 8.0, 1024.0, 0.3, 7.7]


def layer(w, u, dy, eps=0.0):
    """BN(Wu) of a fully connected layer, and the gradients of sum(dy*y) for u and W."""
    y, saved = bnpp.batch_norm(u @ w.T, eps=eps)
    dx = bnpp.batch_norm_backward(dy, saved).dx
    return y, dx @ w, dx.T @ u


@pytest.mark.parametrize("a", SCALES)
def test_scale_of_the_weights_does_not_matter(a):
    """Section 3.3: BN((aW)u) = BN(Wu); du is the same, and d(aW) is 1/a of dW."""
    rng = np.random.default_rng(0)
    u, w, dy = (rng.standard_normal(s) for s in ((60, 8), (5, 8), (60, 5)))
    plain, scaled = layer(w, u, dy), layer(a * w, u, dy)
    wanted = (plain[0], plain[1], plain[2] / a)
    for got, expected in zip(scaled, wanted, strict=True):
        if np.log2(a) % 1 == 0:  # only exponents differ: not one bit of the result may
            assert np.array_equal(got, expected)
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)


def test_the_bias_before_it_does_not_matter():
    """Section 3.2: a bias b in Wu + b is subtracted again, so it is left out."""
    x = np.round(data(CASES[0], np.float64)[0] * 1024) / 1024  # so that x + b is exact
    b = np.array([1.0, -64.0, 1000.0]).reshape(3, 1, 1)
    y, saved = bnpp.batch_norm(x)
    z, shifted = bnpp.batch_norm(x + b)
    np.testing.assert_allclose(z, y, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(shifted.mean, saved.mean + b.ravel(), rtol=1e-14)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 1e-2])
def test_the_identity_can_be_recovered(eps, dtype):
    """gamma = sqrt(Var + eps) and beta = E give x back."""
    x = data(CASES[0], dtype)[0]
    m = bnpp.moments(x)
    gamma, beta = np.sqrt(m.var() + eps), m.mean
    y, _ = bnpp.batch_norm(x, gamma, beta, eps=eps)
    f = forward(x, gamma, beta, eps=eps)
    assert_exact(y, x.astype(f.y.dtype), f.size + np.abs(x), dtype)


def test_each_feature_gets_mean_beta_and_deviation_gamma():
    x, gamma, beta, _, _ = data(CASES[0], np.float64, mean=50, std=7)
    m = bnpp.moments(bnpp.batch_norm(x, gamma, beta, eps=0.0)[0])
    np.testing.assert_allclose(m.mean, beta, rtol=1e-12)
    np.testing.assert_allclose(m.var(), gamma**2, rtol=1e-12)


def test_the_gradient_is_orthogonal_to_what_was_normalised_away():
    """dx sums to 0 and so does dx*xh: the statistics take full part in the gradient."""
    x, gamma, beta, _, dy = data(CASES[0], np.float64)
    _, saved = bnpp.batch_norm(x, gamma, beta, eps=0.0)
    dx = bnpp.batch_norm_backward(dy, saved).dx
    xh = bnpp.batch_norm(x, eps=0.0)[0]
    for along in (dx, dx * xh):
        assert np.abs(along.sum((0, 2, 3))).max() < 1e-12 * np.abs(along).sum()


def test_feature_maps_reduce_over_all_positions():
    """Section 3.2: m' = m*p*q values, the same as N*H*W rows of a fully connected layer."""
    x, gamma, beta, _, dy = data(CASES[0], np.float64)
    rows = [np.moveaxis(a, 1, -1).reshape(-1, 3) for a in (x, dy)]
    y, saved = bnpp.batch_norm(x, gamma, beta)
    z, flat = bnpp.batch_norm(rows[0], gamma, beta)
    assert saved.count == flat.count == 4 * 5 * 7
    np.testing.assert_allclose(np.moveaxis(y, 1, -1).reshape(-1, 3), z, rtol=1e-13, atol=1e-14)
    images, matrix = bnpp.batch_norm_backward(dy, saved), bnpp.batch_norm_backward(rows[1], flat)
    np.testing.assert_allclose(images.dgamma, matrix.dgamma, rtol=1e-12)


def test_algorithm_2_population_statistics():
    """E[x] and Var[x] = m/(m-1) * E[var of the batches] of equal batches, then one linear map."""
    rng = np.random.default_rng(2)
    batches = rng.normal(3, 2, (50, 12, 4, 5))
    m = 12 * 5
    parts = [bnpp.moments(b) for b in batches]
    saved = [bnpp.batch_norm(b)[1] for b in batches]
    mean = np.mean([s.mean for s in saved], axis=0)
    var = m / (m - 1) * np.mean([s.var for s in saved], axis=0)
    np.testing.assert_allclose(np.mean([p.var(unbiased=True) for p in parts], 0), var, rtol=1e-13)
    whole = sum(parts)
    np.testing.assert_allclose(whole.mean, mean, rtol=1e-13)
    # Merged, the population also has the spread of the batch means: within + between.
    between = m * np.sum((np.array([p.mean for p in parts]) - mean) ** 2, 0)
    within = np.sum([p.m2 for p in parts], 0)
    np.testing.assert_allclose(whole.m2, within + between, rtol=1e-12)
    gamma, beta, eps = rng.uniform(1, 2, 4), rng.standard_normal(4), 1e-3
    x = batches[0]
    slope = gamma / np.sqrt(var + eps)
    line = slope[:, None] * x + (beta - slope * mean)[:, None]
    y = bnpp.batch_norm_inference(x, gamma, beta, mean, var, eps=eps)
    np.testing.assert_allclose(y, line, rtol=1e-12, atol=1e-12)
