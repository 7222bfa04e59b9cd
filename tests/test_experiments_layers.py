"""The layers of the experiments: every gradient against central differences, in float64."""

import bnpp
import numpy as np
import pytest
from bnpp.experiments import layers, models
from bnpp.experiments.network import Network, sgd

STEP = 1e-6


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


LAYERS = {
    "linear": (lambda: layers.Linear(numbers(4, 3), numbers(4)), (5, 3)),
    "linear without bias": (lambda: layers.Linear(numbers(4, 3), None), (5, 3)),
    "convolution": (lambda: layers.Convolution(numbers(4, 2, 3, 3), numbers(4)), (3, 2, 4, 6)),
    "convolution without bias": (lambda: layers.Convolution(numbers(4, 2, 5, 5), None), (2, 2, 6, 5)),
    "normalize rows": (lambda: layers.Normalize(3), (6, 3)),
    "normalize images": (lambda: layers.Normalize(3), (2, 3, 4, 5)),
    "sigmoid": (layers.Sigmoid, (4, 3)),
    "relu": (layers.ReLU, (4, 3)),
    "max pool": (layers.MaxPool, (2, 3, 4, 6)),
    "average pool": (layers.AveragePool, (2, 3, 4, 5)),
}  # fmt: skip


def differences(value, array):
    """The gradient of value() for every element of the array, which is changed and put back."""
    gradient = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + STEP
        above = value()
        array[index] = kept - STEP
        gradient[index] = (above - value()) / (2 * STEP)
        array[index] = kept
    return gradient


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name):
    make, shape = LAYERS[name]
    layer, x = make(), numbers(*shape, seed=1)
    layer.parameters = {k: v.astype(np.float64) for k, v in layer.parameters.items()}
    if "gamma" in layer.parameters:
        layer.parameters = {"gamma": numbers(3, seed=2), "beta": numbers(3, seed=3)}
    dy = numbers(*layer.forward(x, training=True).shape, seed=4)
    dx = layer.backward(dy)

    def value():
        return float((layer.forward(x, training=True) * dy).sum())

    np.testing.assert_allclose(dx, differences(value, x), rtol=1e-6, atol=1e-8)
    assert layer.gradients.keys() == layer.parameters.keys()
    for key, gradient in layer.gradients.items():
        wanted = differences(value, layer.parameters[key])
        np.testing.assert_allclose(gradient, wanted, rtol=1e-6, atol=1e-8)


def test_softmax_cross_entropy():
    logits, labels = 3 * numbers(5, 4), np.array([0, 3, 1, 1, 2])
    loss, gradient = layers.softmax_cross_entropy(logits, labels)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert loss == pytest.approx(-np.log(p[np.arange(5), labels]).mean(), rel=1e-14)
    wanted = differences(lambda: layers.softmax_cross_entropy(logits, labels)[0], logits)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-6, atol=1e-9)
    assert np.isfinite(layers.softmax_cross_entropy(1e4 * logits, labels)[1]).all()


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_convolution_is_the_sum_over_windows(kernel):
    x, weight, bias = numbers(2, 3, 6, 7), numbers(4, 3, kernel, kernel, seed=1), numbers(4, seed=2)
    pad = kernel // 2
    around = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    wanted = np.empty((2, 4, 6, 7))
    for i, j in np.ndindex(6, 7):
        window = around[:, :, i : i + kernel, j : j + kernel]
        wanted[:, :, i, j] = np.einsum("ncij,ocij->no", window, weight) + bias
    got = layers.Convolution(weight, bias).forward(x, training=False)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_the_first_of_equal_maxima_gets_the_gradient():
    layer = layers.MaxPool()
    assert layer.forward(np.ones((1, 1, 2, 2)), training=True).item() == 1
    assert layer.backward(np.full((1, 1, 1, 1), 5.0)).ravel().tolist() == [5, 0, 0, 0]


def test_sigmoid_does_not_overflow():
    y = layers.Sigmoid().forward(np.array([-1e30, 0.0, 1e30], np.float32), training=False)
    assert y.tolist() == [0.0, 0.5, 1.0]


def test_running_statistics_are_those_of_the_layer_in_bnpp():
    mine, theirs = layers.Normalize(3), bnpp.BatchNorm(3)
    for seed in range(4):
        x = numbers(6, 3, 2, 2, seed=seed).astype(np.float32)
        assert np.array_equal(mine.forward(x, training=True), theirs(x))
        mine.track()
    np.testing.assert_allclose(mine.mean, theirs.running_mean, rtol=1e-6)
    np.testing.assert_allclose(mine.var, theirs.running_var, rtol=1e-6)
    np.testing.assert_allclose(mine.forward(x, training=False), theirs.eval()(x), rtol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_with_and_without_normalization_begin_with_the_same_weights(activation):
    def weights(normalize):
        options = {"normalize": normalize, "activation": activation}
        nets = [
            models.mlp((5, 4, 4, 3), rng=np.random.default_rng(1), **options),
            models.convnet((1, 2, 3, 3), 3, rng=np.random.default_rng(2), **options),
        ]
        return [v for net in nets for k, v in net.state().items() if k.endswith("weight")]

    for with_, without in zip(weights(True), weights(False), strict=True):
        assert np.array_equal(with_, without)
        assert with_.dtype == np.float32


def test_a_step_goes_down_the_gradient_of_the_whole_network():
    rng = np.random.default_rng(0)
    net = models.convnet((1, 2, 3), 4, normalize=True, activation="relu", rng=rng)
    x, labels = rng.standard_normal((6, 1, 8, 8)).astype(np.float32), rng.integers(0, 4, 6)

    def loss():
        return layers.softmax_cross_entropy(net.forward(x, training=True), labels)

    before, dlogits = loss()
    net.backward(dlogits)
    squares = sum(float((g**2).sum()) for layer in net.layers for g in layer.gradients.values())
    sgd(net, 1e-3)
    assert before - loss()[0] == pytest.approx(1e-3 * squares, rel=0.05)


def test_state_makes_another_network_the_same():
    nets = [
        models.mlp((5, 4, 3), normalize=True, activation="relu", rng=np.random.default_rng(seed))
        for seed in (0, 1)
    ]
    x = numbers(7, 5).astype(np.float32)
    nets[0].forward(x, training=True)
    nets[0].normalizations()[0].track()
    nets[1].load_state(nets[0].state())
    assert np.array_equal(nets[0].forward(x), nets[1].forward(x))
    nets[1].layers[0].parameters["weight"][:] = 0  # a copy, not the same array
    assert nets[0].layers[0].parameters["weight"].any()
    assert isinstance(nets[0], Network)
