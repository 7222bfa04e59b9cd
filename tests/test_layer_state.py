"""The layer's state: names and conventions of other frameworks, copies; a bad one changes nothing."""

import copy
import pickle

import bnpp
import numpy as np
import pytest
from helpers.layers import assert_same, batches, state
from helpers.reference import moments

NAMES = {
    "bnpp": ["gamma", "beta", "running_mean", "running_var", "count"],
    "torch": ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"],
    "keras": ["gamma", "beta", "moving_mean", "moving_variance"],
    "onnx": ["scale", "B", "input_mean", "input_var"],
}


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("convention", NAMES)
def test_state_dicts(convention, affine, named):
    layer = bnpp.BatchNorm(3, affine=affine, dtype=np.float64)
    if affine:
        layer.gamma, layer.beta = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    for x in batches():
        layer(x)
    found = layer.state_dict(convention)
    assert list(found) == NAMES[convention][0 if affine else 2 :]
    twin = bnpp.BatchNorm(3, affine=affine, dtype=np.float64)
    twin.load_state_dict(found, convention=convention if named else None)
    expected = state(layer)
    if convention in ("keras", "onnx"):
        expected["count"] = np.array(0)
    assert_same(state(twin), expected)
    for value in found.values():
        value[...] = 9
    assert_same(state(twin), expected)


def test_state_dict_of_torch_and_of_keras_are_told_apart():
    """Both have a gamma or a running_mean in common with bnpp's own."""
    for convention in NAMES:
        layer = bnpp.BatchNorm(2)
        names = NAMES[convention]
        values = {n: np.full(2, float(i + 1)) for i, n in enumerate(names[:4])}
        values |= {n: np.array(7) for n in names[4:]}
        layer.load_state_dict(values)
        expected = ([1, 1], [2, 2], [3, 3], [4, 4])
        found = layer.gamma, layer.beta, layer.running_mean, layer.running_var
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("affine", [True, False])
def test_torch_files_from_before_the_count(affine):
    """They hold no num_batches_tracked; without parameters nothing else tells them apart either."""
    layer = bnpp.BatchNorm(2, affine=affine)
    names = NAMES["torch"][0 if affine else 2 : 4]
    layer.load_state_dict({name: np.full(2, i + 1.0) for i, name in enumerate(names)})
    found = [layer.gamma, layer.beta] * affine + [layer.running_mean, layer.running_var]
    assert np.array_equal(found, [[i + 1.0] * 2 for i in range(len(names))])
    assert layer.count == 0


def changed(**changes):
    """A good state with some of it changed; None drops the key."""
    good = {"gamma": np.ones(3), "beta": np.ones(3), "running_mean": np.ones(3)}
    good |= {"running_var": np.ones(3), "count": np.array(4)} | changes
    return {k: v for k, v in good.items() if v is not None}


BAD_STATES = {
    "missing": (changed(beta=None), ValueError, "beta"),
    "extra": (changed(colour=np.ones(3)), ValueError, "colour"),
    "short": (changed(gamma=np.ones(2)), ValueError, "gamma.*2.*3"),
    "2-D": (changed(running_mean=np.ones((3, 1))), ValueError, "running_mean"),
    "negative": (changed(running_var=np.array([1, -0.5, 1])), ValueError, "running_var.*-0.5"),
    "integers": (changed(running_mean=np.ones(3, int)), TypeError, "running_mean.*int64"),
    "count": (changed(count=np.array(-1)), ValueError, "count.*-1"),
    "half": (changed(count=np.array(0.5)), (TypeError, ValueError), "count"),
    "mixed names": ({"weight": np.ones(3), "beta": np.ones(3)}, ValueError, "weight|beta"),
    "empty": ({}, ValueError, "load_state_dict"),
    "no mapping": ([1, 2], TypeError, "list"),
}


@pytest.mark.parametrize("kind", BAD_STATES)
def test_a_refused_state_changes_nothing(kind):
    bad, exception, words = BAD_STATES[kind]
    layer = bnpp.BatchNorm(3)
    layer(batches()[0])
    before = state(layer)
    with pytest.raises(exception, match=f"BatchNorm.load_state_dict: .*{words}|{words}"):
        layer.load_state_dict(bad)
    assert_same(state(layer), before)
    assert layer.backward(batches()[0]).dx.shape == (4, 3, 5, 7)


@pytest.mark.parametrize(
    ("convention", "eps", "momentum", "kind", "axis"),
    [
        ("torch", 1e-5, 0.1, "unbiased", 1),
        ("keras", 1e-3, 0.01, "biased", -1),
        ("onnx", 1e-5, 0.1, "biased", 1),
    ],
)
def test_presets(convention, eps, momentum, kind, axis):
    layer = bnpp.BatchNorm.like(convention, 3)
    assert (layer.eps, layer.axis) == (eps, axis)
    assert layer.momentum == pytest.approx(momentum, abs=1e-15)
    x = np.moveaxis(batches(np.float64)[0], 1, axis)
    layer(x)
    m, _, m2 = moments(x, axis)
    expected = 1 - momentum + momentum * m2 / (m - (kind == "unbiased"))
    np.testing.assert_allclose(layer.running_var, expected.astype(float), rtol=1e-12)
    other = bnpp.BatchNorm.like(convention, 3, eps=0.5, momentum=0.75, axis=2)
    assert (other.eps, other.momentum, other.axis) == (0.5, 0.75, 2)


@pytest.mark.parametrize(
    "again", [lambda a: pickle.loads(pickle.dumps(a)), copy.copy, copy.deepcopy]
)
def test_pickles_and_copies(again):
    x = batches()
    layer = bnpp.BatchNorm(3, momentum=None, running_var="biased", update_guard="finite", eps=0.01)
    layer(x[0])
    twin = again(layer)
    assert_same(state(twin), state(layer))
    for statistic in (twin.running_mean, twin.running_var):
        assert not statistic.flags.writeable, "as those of the layer itself"
    assert np.array_equal(twin(x[1]), layer(x[1]))
    assert_same(state(twin), state(layer))
    twin(x[2])
    assert layer.count == 2, "a copy's running statistics are its own"
