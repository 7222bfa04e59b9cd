"""From a trained network to one for inference: population statistics, moving averages, folding."""

import bnpp
import numpy as np
import pytest
from bnpp.experiments import averages, models
from bnpp.experiments.figure1 import Curve
from bnpp.experiments.folding import fold, fold_bound
from bnpp.experiments.layers import Normalize, softmax_cross_entropy
from bnpp.experiments.network import sgd
from bnpp.experiments.population import algorithm_2, whole_set

IMAGES = np.random.default_rng(5).random((150, 1, 8, 8)).astype(np.float32)
LABELS = np.random.default_rng(6).integers(0, 4, 150)


def trained(kind, activation):
    """A small network after some steps, with the images in the form that it takes."""
    rng = np.random.default_rng(1)
    if kind == "mlp":
        x = IMAGES.reshape(150, -1)
        net = models.mlp((64, 12, 12, 4), normalize=True, activation=activation, rng=rng)
    else:
        x = IMAGES
        net = models.convnet((1, 4, 6, 6), 4, normalize=True, activation=activation, rng=rng)
    for i in range(20):
        part = slice(30 * (i % 5), 30 * (i % 5 + 1))
        _, dlogits = softmax_cross_entropy(net.forward(x[part], training=True), LABELS[part])
        net.backward(dlogits)
        sgd(net, 0.5)
        for layer in net.normalizations():
            layer.track()
    return net, x


NETS = [("mlp", "sigmoid"), ("mlp", "relu"), ("convnet", "relu"), ("convnet", "sigmoid")]


@pytest.mark.parametrize(("kind", "activation"), NETS)
def test_algorithm_2_is_the_mean_over_mini_batches(kind, activation):
    net, x = trained(kind, activation)
    algorithm_2(net, x, 40)  # the last 30 images fill no mini-batch
    saved = []
    for part in (x[:40], x[40:80], x[80:120]):
        net.forward(part, training=True)
        saved.append([layer.saved for layer in net.normalizations()])
    for layer, parts in zip(net.normalizations(), zip(*saved, strict=True), strict=True):
        m = parts[0].count
        np.testing.assert_allclose(
            layer.mean, np.mean([s.mean for s in parts], 0), rtol=1e-5, atol=1e-7
        )
        wanted = m / (m - 1) * np.mean([s.var for s in parts], 0)
        np.testing.assert_allclose(layer.var, wanted, rtol=1e-5)


@pytest.mark.parametrize(("kind", "activation"), NETS)
def test_whole_set_normalizes_what_inference_sees(kind, activation):
    net, x = trained(kind, activation)
    whole_set(net, x)
    h = x
    for layer in net.layers:
        if isinstance(layer, Normalize):
            moments = bnpp.moments(h)
            np.testing.assert_allclose(layer.mean, moments.mean, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(layer.var, moments.var(unbiased=True), rtol=1e-5)
        h = layer.forward(h, training=False)


@pytest.mark.parametrize("momentum", averages.MOMENTA)
def test_moving_averages_are_those_of_the_layer_in_bnpp(momentum):
    net, x = trained("convnet", "relu")
    average, layer = averages.MovingAverage(net, momentum), bnpp.BatchNorm(4, momentum=momentum)
    for part in np.split(x, 5):
        net.forward(part, training=True)
        average.update(net)
        layer(net.layers[0].forward(part, training=False))
    np.testing.assert_allclose(average.means[0], layer.running_mean, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(average.vars[0], layer.running_var, rtol=1e-5)
    average.apply(net)
    assert net.normalizations()[0].mean is average.means[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "activation"), NETS)
def test_folding_keeps_the_outputs_within_the_bound(kind, activation, dtype):
    net, x = trained(kind, activation)
    algorithm_2(net, x, 50)
    before = net.state().copy()
    folded = fold(net)
    assert not folded.network.normalizations()
    assert len(folded.reports) == len(net.normalizations()) + 1
    x = x.astype(dtype)
    change, bound = np.abs(net.forward(x) - folded.network.forward(x)), fold_bound(net, folded, x)
    assert change.shape == bound.shape
    assert (change <= bound).all()
    assert 0 < change.max() < 1e-4
    assert bound.max() < (1e-4 if dtype == np.float64 else 0.1)  # so that it says something
    assert all(np.array_equal(before[name], value) for name, value in net.state().items())


def test_the_bound_notices_another_weight():
    """It is for the fold of this network: a fold of a slightly different one breaks it."""
    net, x = trained("mlp", "relu")
    folded = fold(net)
    folded.network.layers[0].parameters["weight"][:] *= np.float32(1.001)
    x = x.astype(np.float64)
    assert (np.abs(net.forward(x) - folded.network.forward(x)) > fold_bound(net, folded, x)).any()


def test_a_shift_that_is_linear_is_estimated_away():
    """Images of less contrast: new statistics of a first layer give the old outputs back."""
    net, x = trained("mlp", "relu")
    algorithm_2(net, x, 50)
    wanted = net.forward(x)
    faded = averages.SHIFTS["faded"](x)
    assert np.abs(net.forward(faded) - wanted).max() > 0.1
    algorithm_2(net, faded, 50)
    np.testing.assert_allclose(net.forward(faded), wanted, atol=0.01)


@pytest.mark.parametrize("shift", averages.SHIFTS)
def test_shifts(shift):
    changed = averages.SHIFTS[shift](IMAGES)
    assert changed.shape == IMAGES.shape
    assert changed.dtype == np.float32
    assert np.array_equal(changed, IMAGES) == (shift == "none")
    assert np.array_equal(changed, averages.SHIFTS[shift](IMAGES))
    if shift == "blurred":  # the middle of a constant image stays, its border gets darker
        flat = averages.SHIFTS[shift](np.ones((1, 1, 8, 8), np.float32))
        np.testing.assert_allclose(flat[..., 2:-2, 2:-2], 1, rtol=1e-6)
        assert flat[0, 0, 0, 0] < 0.5


def test_drift_and_widening():
    """The median's range in widths; the widest over the narrowest."""
    percentiles = np.array([[[-1.0], [0.0], [1.0]], [[-1.0], [1.0], [3.0]]], np.float32)
    curve = Curve(np.array([1, 2]), np.array([0.5, 0.9]), percentiles, 1.0)
    assert curve.drift().tolist() == [1 / 3]
    assert curve.widening().tolist() == [2.0]
    assert curve.typical() == 0
    assert [curve.first_step(level) for level in (0.4, 0.9, 0.95)] == [1, 2, None]
