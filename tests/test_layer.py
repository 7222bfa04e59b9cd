"""The layer: running statistics (F2), modes and settings; a failed call changes nothing."""

import sys

import bnpp
import numpy as np
import pytest
from helpers.layers import assert_same, batches, state
from helpers.reference import moments
from helpers.shapes import CASES, data


@pytest.mark.parametrize("kind", ["unbiased", "biased"])
@pytest.mark.parametrize(
    ("setting", "weight"),
    [
        ({}, 0.1),
        ({"momentum": 0.0}, 0.0),
        ({"momentum": 0.25}, 0.25),
        ({"momentum": 1.0}, 1.0),
        ({"momentum": None}, None),
        ({"decay": 0.9}, 0.1),
        ({"decay": 0.0}, 1.0),
        ({"decay": 1.0}, 0.0),
    ],
    ids=str,
)
def test_running_statistics(setting, weight, kind, dtype):
    """F2: the weight of the new value is momentum, 1 - decay, or 1/k; m/(m-1) where unbiased."""
    layer = bnpp.BatchNorm(3, running_var=kind, dtype=dtype, **setting)
    mean, var = np.zeros(3), np.ones(3)
    for k, x in enumerate(batches(dtype), 1):
        y = layer(x)
        assert np.array_equal(y, bnpp.batch_norm(x, layer.gamma, layer.beta)[0])
        m, batch_mean, m2 = moments(x)
        a = 1 / k if weight is None else weight
        mean = (1 - a) * mean + a * batch_mean
        var = (1 - a) * var + a * m2 / (m - 1 if kind == "unbiased" else m)
        assert layer.count == k
        tolerance = {"rtol": 1e-6 if dtype == np.float32 else 1e-14, "atol": 1e-15}
        np.testing.assert_allclose(layer.running_mean, mean.astype(float), **tolerance)
        np.testing.assert_allclose(layer.running_var, var.astype(float), **tolerance)


def test_momentum_0_evaluates_as_before_and_1_as_the_last_batch(dtype):
    """The complaint that train and eval differ with extreme momenta has a plain answer."""
    x = batches(dtype)[1]
    layer = bnpp.BatchNorm(3, momentum=0.0, dtype=dtype)
    before = layer.eval()(x)
    layer.train()(x)
    assert np.array_equal(layer.eval()(x), before)
    last = bnpp.BatchNorm(3, momentum=1.0, running_var="biased", dtype=dtype)
    y = last(x)
    np.testing.assert_allclose(last.eval()(x), y, rtol=1e-5, atol=1e-6)


def test_a_new_layer():
    layer = bnpp.BatchNorm(3)
    assert layer.training
    assert (layer.channels, layer.axis, layer.eps, layer.momentum) == (3, 1, 1e-5, 0.1)
    expected = {"gamma": [1.0] * 3, "beta": [0.0] * 3, "running_mean": [0.0] * 3}
    expected |= {"running_var": [1.0] * 3, "count": 0, "training": True}
    assert_same(state(layer), expected)
    assert layer.gamma.dtype == np.float32
    assert layer.running_mean.dtype == np.float64
    plain = bnpp.BatchNorm(3, affine=False)
    assert plain.gamma is None
    assert plain.beta is None
    assert list(plain.state_dict()) == ["running_mean", "running_var", "count"]


def test_train_and_eval_return_the_layer_and_eval_uses_the_running_statistics(dtype):
    layer = bnpp.BatchNorm(3, dtype=dtype)
    x, y = batches(dtype)[:2]
    layer(x)
    before = state(layer.eval())
    assert layer.eval() is layer
    z = layer(y)
    assert_same(state(layer), before)
    running = layer.running_mean, layer.running_var
    assert np.array_equal(z, bnpp.batch_norm_inference(y, layer.gamma, layer.beta, *running))
    assert layer.train() is layer
    assert layer.training


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("residual", [None, 1])
def test_backward_is_that_of_the_last_call(training, residual, dtype):
    x, gamma, beta, r, dy = data(CASES[0], dtype)
    r = r if residual else None
    layer = bnpp.BatchNorm(3, dtype=dtype)
    layer.gamma, layer.beta = gamma, beta
    layer(x * 2)
    if not training:
        layer.eval()
    running = layer.running_mean, layer.running_var
    y = layer(x, r, "relu")
    got = layer.backward(dy)
    if training:
        z, saved = bnpp.batch_norm(x, gamma, beta, residual=r, activation="relu")
        expected = bnpp.batch_norm_backward(dy, saved)
    else:
        z, saved = bnpp.batch_norm_inference(
            x, gamma, beta, *running, residual=r, activation="relu", save=True
        )
        expected = bnpp.batch_norm_inference_backward(dy, saved)
    assert np.array_equal(y, z)
    assert got._fields == expected._fields
    for a, b in zip(got, expected, strict=True):
        assert np.array_equal(a, b)
    assert layer.backward(dy, out=dy).dx is dy


def test_backward_without_a_call():
    layer = bnpp.BatchNorm(3)
    with pytest.raises(RuntimeError, match=r"BatchNorm.backward: "):
        layer.backward(np.ones((2, 3)))


def test_axis_and_eps_are_used(dtype):
    x = np.moveaxis(batches(dtype)[2], 1, -1)
    layer = bnpp.BatchNorm(3, axis=-1, eps=0.5, dtype=dtype)
    assert np.array_equal(layer(x), bnpp.batch_norm(x, axis=-1, eps=0.5)[0])


def test_the_layer_takes_the_other_dtype(dtype):
    x = batches(dtype)[0]
    for own in (np.float32, np.float64):
        layer = bnpp.BatchNorm(3, dtype=own)
        assert layer(x).dtype == dtype
        assert layer.gamma.dtype == own


def test_an_empty_batch_leaves_everything():
    layer = bnpp.BatchNorm(3)
    layer(batches()[0])
    before = state(layer)
    x = np.empty((0, 3, 5, 7), np.float32)
    assert layer(x).shape == x.shape
    assert_same(state(layer), before)
    got = layer.backward(x)
    assert not np.any([got.dgamma, got.dbeta])
    assert layer.eval()(x).shape == x.shape


@pytest.mark.parametrize("kind", ["unbiased", "biased"])
def test_one_value_a_channel(kind):
    x = np.array([[4.0, -2.0, 1.0]], np.float32)
    refusing = bnpp.BatchNorm(3, running_var=kind)
    before = state(refusing)
    with pytest.raises(ValueError, match=r"(one|1) value"):
        refusing(x)
    assert_same(state(refusing), before)
    biased = bnpp.BatchNorm(3, running_var=kind, on_single="biased")
    assert np.array_equal(biased(x), np.zeros((1, 3)))
    np.testing.assert_allclose(biased.running_mean, 0.1 * x[0].astype(float), rtol=1e-15)
    np.testing.assert_allclose(biased.running_var, [0.9] * 3, rtol=1e-15)
    frozen = bnpp.BatchNorm(3, running_var=kind, on_single="inference")
    before = state(frozen)
    y = frozen(x)
    assert np.array_equal(y, bnpp.batch_norm_inference(x, None, None, np.zeros(3), np.ones(3)))
    assert_same(state(frozen), before)
    assert hasattr(frozen.backward(x), "dmean")
    frozen(batches()[0])
    assert frozen.count == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_update_guard(bad):
    good = batches()[0]
    x = good.copy()
    x[1, 2, 3, 4] = bad
    guarded = bnpp.BatchNorm(3, update_guard="finite")
    guarded(good)
    before = state(guarded)
    y = guarded(x)
    assert np.isnan(y[:, 2]).all()
    assert np.isfinite(y[:, :2]).all()
    assert_same(state(guarded), before)
    guarded(good)
    assert guarded.count == 2
    plain = bnpp.BatchNorm(3)
    plain(x)
    assert plain.count == 1
    assert not np.isfinite(plain.running_var[2])
    assert np.isfinite(plain.running_var[:2]).all()


def test_update_guard_of_a_variance_that_is_not_finite():
    """The mean of the two is 0, but the sum of their squares is infinite."""
    guarded = bnpp.BatchNorm(1, update_guard="finite", dtype=np.float64)
    before = state(guarded)
    guarded(np.array([[1e200], [-1e200]]))
    assert_same(state(guarded), before)


FAILING = {
    "channels": lambda layer, x: layer(x[:, :2]),
    "dtype": lambda layer, x: layer(x.astype(int)),
    "residual": lambda layer, x: layer(x, x[1:]),
    "activation": lambda layer, x: layer(x, activation="tanh"),
    "out": lambda layer, x: layer(x, out=x[1:]),
    "one value": lambda layer, x: layer(x[:1, :, :1, :1]),
    "dy": lambda layer, x: layer.backward(x[1:]),
    "one dimension": lambda layer, x: layer(x[0, :, 0, 0]),
}


@pytest.mark.parametrize(
    ("kind", "training"),
    [(kind, t) for kind in FAILING for t in (True, False) if t or kind != "one value"],
)
def test_a_failed_call_changes_nothing(kind, training):
    """Also the backward of the last good call still works."""
    x = batches()[0]
    layer = bnpp.BatchNorm(3)
    layer.training = training
    layer(x)
    gradients, before = layer.backward(x), state(layer)
    with pytest.raises((TypeError, ValueError)):
        FAILING[kind](layer, x)
    assert_same(state(layer), before)
    assert np.array_equal(layer.backward(x).dx, gradients.dx)


def test_running_statistics_change_in_one_store():
    """An interrupt between any two of the layer's lines leaves old or new, never a mixture."""
    x, layer = batches()[1], bnpp.BatchNorm(3)
    old, new = state(layer), None
    count = 0

    def interrupt_after(n):
        def trace(frame, event, arg):
            nonlocal count
            if "bnpp" in frame.f_globals.get("__name__", ""):
                count += 1
                if count > n:
                    raise KeyboardInterrupt
                return trace
            return None

        return trace

    twin = bnpp.BatchNorm(3)
    twin(x)
    new = state(twin)
    outer = sys.gettrace()
    for n in range(1000):
        layer, count = bnpp.BatchNorm(3), 0
        interrupted = False
        sys.settrace(interrupt_after(n))
        try:
            layer(x)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.settrace(outer)
        found = state(layer)
        same_as_new = np.array_equal(found["running_mean"], new["running_mean"])
        assert_same(found, new if same_as_new else old)
        if not interrupted:
            break
    assert not interrupted
    assert n > 3


@pytest.mark.parametrize(
    ("arguments", "exception", "words"),
    [
        ((0,), ValueError, "channels.*0"),
        ((-3,), ValueError, "channels.*-3"),
        ((2.5,), TypeError, "float"),
        ({"eps": -1e-5}, ValueError, "eps.*-1e-05"),
        ({"eps": np.nan}, ValueError, "eps.*nan"),
        ({"momentum": 1.5}, ValueError, "momentum.*1.5"),
        ({"momentum": -0.1}, ValueError, "momentum.*-0.1"),
        ({"decay": 2}, ValueError, "decay.*2"),
        ({"momentum": 0.2, "decay": 0.8}, (TypeError, ValueError), "momentum.*decay"),
        ({"running_var": "bessel"}, ValueError, "running_var.*bessel.*unbiased"),
        ({"update_guard": "nan"}, ValueError, "update_guard.*nan.*finite"),
        ({"on_single": "eval"}, ValueError, "on_single.*eval.*inference"),
        ({"dtype": np.int8}, (TypeError, ValueError), "dtype.*int8.*float32"),
        ({"dtype": "foo"}, TypeError, "dtype is 'foo', but float16, bfloat16, float32"),
        ({"dtype": None}, TypeError, "dtype is None"),
        ({"eps": "x"}, TypeError, "eps is a str, but a number"),
        ({"momentum": np.ones(2)}, TypeError, "momentum is a ndarray, but a number"),
        ({"decay": "x"}, TypeError, "decay is a str, but a number"),
        ({"running_var": np.ones(2)}, ValueError, "running_var is array.*'unbiased'"),
        ({"axis": 1.0}, TypeError, "float"),
        ({"colour": 1}, TypeError, "colour"),
    ],
    ids=str,
)
def test_refused_settings(arguments, exception, words):
    positional = arguments if isinstance(arguments, tuple) else (3,)
    keywords = arguments if isinstance(arguments, dict) else {}
    with pytest.raises(exception, match=words):
        bnpp.BatchNorm(*positional, **keywords)
    with pytest.raises(ValueError, match="caffe"):
        bnpp.BatchNorm.like("caffe", 3)


def test_repr_can_be_read():
    text = repr(bnpp.BatchNorm(3, momentum=0.2, running_var="biased"))
    assert text.startswith("BatchNorm(3")
    assert "0.2" in text
    assert "biased" in text
