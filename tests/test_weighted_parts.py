"""Weights of sub-batches and steps: those of batch_norm, part by part."""

import bnpp
import numpy as np
import pytest
from helpers.shapes import Case, data


def test_weights_reach_each_sub_batch(dtype):
    x, gamma, beta, _, dy = data(Case((5, 3, 4), 1, ""), dtype)
    weights = np.random.default_rng(0).integers(0, 3, (5, 1, 4))
    y, saved = bnpp.ghost_batch_norm(x, gamma, beta, size=2, weights=weights, on_single="biased")
    got = bnpp.ghost_batch_norm_backward(dy, saved)
    for part in (slice(0, 2), slice(2, 4), slice(4, 5)):
        z, one = bnpp.batch_norm(x[part], gamma, beta, weights=weights[part], on_single="biased")
        assert np.array_equal(y[part], z)
        assert np.array_equal(got.dx[part], bnpp.batch_norm_backward(dy[part], one).dx)


def test_sequences_of_different_lengths():
    """What lies behind the end of a sequence does not count, whatever it is."""
    rng = np.random.default_rng(1)
    x, lengths = rng.standard_normal((4, 6, 3)), np.array([4, 4, 3, 2, 4, 3])
    mask = (np.arange(4)[:, None] < lengths)[..., None]
    x[~np.broadcast_to(mask, x.shape)] = np.nan
    layer = bnpp.StepBatchNorm(3, momentum=1.0, running_var="biased")
    layer(x, weights=mask)
    loop = bnpp.StepBatchNorm(3, momentum=1.0, running_var="biased")
    for t in range(4):
        counts = x[t][lengths > t]
        np.testing.assert_allclose(layer.running_mean[t], counts.mean(0), rtol=1e-13)
        np.testing.assert_allclose(layer.running_var[t], counts.var(0), rtol=1e-13)
        loop.step(x[t], t, weights=mask[t])
    assert np.array_equal(loop.running_mean, layer.running_mean)


def test_a_step_without_weight_is_evaluated_by_the_one_before():
    """Training has passed it, but it has no statistics of its own."""
    layer = bnpp.StepBatchNorm(2, momentum=1.0)
    x = np.random.default_rng(0).standard_normal((3, 5, 2)) + 7
    weights = np.ones((3, 1, 1))
    weights[1] = 0
    layer(x, weights=weights)
    assert layer.count.tolist() == [1, 0, 1]
    y = layer.eval()(x)
    assert np.array_equal(y[1], layer.step(x[1], 0))
    assert np.array_equal(y[2], layer.step(x[2], 2))


def test_ghost_layer_with_weights():
    x = np.random.default_rng(2).standard_normal((6, 3))
    mask = np.array([1, 1, 0, 1, 1, 1])[:, None]
    ghost, plain = (
        layer(3, momentum=1.0, **more)
        for layer, more in ((bnpp.GhostBatchNorm, {"size": 3}), (bnpp.BatchNorm, {}))
    )
    ghost(x, weights=mask)
    plain(x, weights=mask)
    np.testing.assert_allclose(ghost.running_var, plain.running_var, rtol=1e-13)


def test_weights_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^ghost_batch_norm: weights has shape \(2,\), but"):
        bnpp.ghost_batch_norm(np.ones((4, 3)), size=2, weights=np.ones(2))
