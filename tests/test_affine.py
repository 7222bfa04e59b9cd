"""Affine maps: their algebra, and applying them, against the formulas in a wider type."""

import copy
import pickle

import bnpp
import numpy as np
import pytest
from helpers.fold_cases import batch_norm, some_map
from helpers.reference import along, assert_exact, forward
from helpers.settings import THREADS, agree
from helpers.shapes import CASES, ORDERS, Case, cases, data

C = 7


def maps(count, channels=C, seed=0):
    rng = np.random.default_rng(seed)
    return [some_map(rng, channels) for _ in range(count)]


def assert_same_map(a, b):
    assert np.array_equal(a.scale, b.scale)
    assert np.array_equal(a.shift, b.shift)
    assert np.array_equal(a.magnitude, b.magnitude)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 1.0])
def test_affine_is_the_formula(eps, dtype):
    gamma, beta, mean, var = (v.astype(dtype) for v in batch_norm(np.random.default_rng(1), C))
    a = bnpp.affine(gamma, beta, mean, var, eps)
    wide = [v.astype(np.longdouble) for v in (gamma, beta, mean, var)]
    scale = wide[0] / np.sqrt(wide[3] + eps)
    shift = wide[1] - wide[2] * scale
    size = np.abs(wide[1]) + np.abs(wide[2] * scale)
    assert np.all(np.abs(a.scale - scale) <= 4 * 2.0**-53 * np.abs(scale))
    assert np.all(np.abs(a.shift - shift) <= 8 * 2.0**-53 * size)
    assert np.allclose(a.magnitude.astype(float), size.astype(float), rtol=1e-14)
    assert np.all(a.magnitude >= np.abs(a.shift))


def test_absent_gamma_and_beta():
    _, _, mean, var = batch_norm(np.random.default_rng(1), C)
    assert_same_map(
        bnpp.affine(None, None, mean, var), bnpp.affine(np.ones(C), np.zeros(C), mean, var)
    )


def test_variance_and_eps_of_zero():
    a = bnpp.affine([3.0], [2.0], [5.0], [0.0], eps=0.0)
    assert (a.scale[0], a.shift[0]) == (0, 2)


@cases([c for c in CASES if len(c.shape) < 8])
def test_applied_is_inference(case, dtype):
    x, gamma, beta, mean, _ = data(case, dtype)
    mean, var = gamma * 3, np.abs(beta) + np.asarray(0.5, dtype)
    a = bnpp.affine(gamma, beta, mean, var)
    f = forward(x, gamma, beta, axis=case.axis, mean=mean, var=var)
    # Without a centre the mean costs its size: that is what `magnitude` tells.
    size = np.abs(x * along(a.scale, x, case.axis)) + along(a.magnitude, x, case.axis)
    assert_exact(agree(lambda: a(x, axis=case.axis)), f.y, size, dtype)


@pytest.mark.parametrize("order", ORDERS)
def test_applied_to_any_memory_order(order, dtype):
    x = data(Case((4, C, 5, 6), 1, ""), dtype)[0]
    a = maps(1)[0]
    given = ORDERS[order](x)
    y = a(given)
    assert np.array_equal(
        y, (given.astype("f8") * along(a.scale, x, 1) + along(a.shift, x, 1)).astype(dtype)
    )
    out = np.empty_like(y)
    assert a(given, out=out) is out
    assert np.array_equal(out, y)


def test_applied_in_place():
    x = data(Case((4, C, 5, 6), 1, ""))[0]
    a = maps(1)[0]
    y = a(x)
    a(x, out=x)
    assert np.array_equal(x, y)


def test_same_bits_in_every_setting():
    x = data(Case((3, 40, 33), 1, ""))[0]
    a = maps(1, 40)[0]
    agree(lambda: a(x), THREADS)


def test_composition():
    x = np.random.default_rng(2).standard_normal((5, C))
    first, second, third = maps(3)
    both = second @ first
    assert np.allclose(both(x), second(first(x)), rtol=1e-13, atol=1e-13)
    left, right = (third @ second) @ first, third @ (second @ first)
    assert np.allclose(left.scale, right.scale, rtol=1e-14)
    assert np.allclose(left.shift, right.shift, rtol=1e-13, atol=1e-14)
    assert_same_map(first @ bnpp.Affine.identity(C), first)
    assert_same_map(bnpp.Affine.identity(C) @ first, first)
    assert np.all(both.magnitude >= np.abs(both.shift))
    assert both.scale[3] == second.scale[3] * first.scale[3]


def test_inverse():
    x = np.random.default_rng(2).standard_normal((5, C))
    a = maps(1)[0]
    assert np.allclose(a.inverse()(a(x)), x, rtol=1e-12, atol=1e-12)
    assert np.allclose((a.inverse() @ a).scale, 1, rtol=1e-15)


@pytest.mark.parametrize("scale", [0.0, -0.0, 1e-320, np.inf, np.nan])
def test_no_inverse(scale):
    a = bnpp.Affine([1.0, 1.0, scale, 1.0], [0.0, 1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"scale\[2\] is .*channel 2 has no finite inverse"):
        a.inverse()


def test_channels_move():
    a, b = maps(2)
    both = bnpp.Affine.concat([a, b])
    assert both.channels == 2 * C
    for part, whole in zip(both.split([C, C]), (a, b), strict=True):
        assert_same_map(part, whole)
    assert np.array_equal(a.take([6, 0, 0]).shift, a.shift[[6, 0, 0]])
    assert np.array_equal(a.repeat(3).scale, np.repeat(a.scale, 3))
    assert a.repeat(0).channels == 0
    assert bnpp.Affine.concat([]).channels == 0
    assert [p.channels for p in a.split([0, 3, 4])] == [0, 3, 4]
    assert a.split(np.array([3, 4]))[1].channels == 4


def test_notes_on_variances_stay_with_their_channels():
    var = np.array([1.0, 0.0, 6e-45, 1e-30], np.float32)
    a = bnpp.affine(None, None, np.zeros(4), var)

    def notes(m):
        report = bnpp.fold_linear(np.ones((m.channels, 1)), after=m).report
        return report.zero_variances, report.denormal_variances

    assert notes(a) == ((1,), (2,))
    assert notes(bnpp.affine(None, None, np.zeros(4), var.astype("f8"))) == ((1,), (2,))
    assert notes(a.take([2, 2, 1])) == ((2,), (0, 1))
    assert notes(bnpp.Affine.concat([a, a])) == ((1, 5), (2, 6))
    assert notes(a @ a.take([1, 0, 2, 3])) == ((0, 1), (2,))
    assert notes(a.inverse()) == ((1,), (2,))
    assert notes(pickle.loads(pickle.dumps(a))) == ((1,), (2,))


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))]
)
def test_copies(clone):
    a = maps(1)[0]
    assert_same_map(clone(a), a)


def test_vectors_are_read_only():
    scale = np.ones(2)
    a = bnpp.Affine(scale, scale)
    scale[0] = 5
    assert a.scale[0] == 1
    for vector in (a.scale, a.shift, a.magnitude):
        assert vector.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            vector[0] = 2


def test_repr():
    assert repr(bnpp.Affine([1.5], [0.0])) == "Affine(channels=1, scale=[1.5], shift=[0.])"
    assert len(repr(bnpp.Affine.identity(1000))) < 200


@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_backward_is_the_central_difference(eps):
    rng = np.random.default_rng(3)
    parameters = dict(
        zip(["gamma", "beta", "mean", "var"], batch_norm(rng, C, np.float64), strict=True)
    )
    ds, dt = rng.standard_normal((2, C))
    got = bnpp.affine_backward(
        (ds, dt), parameters["gamma"], parameters["mean"], parameters["var"], eps
    )

    def loss(p):
        a = bnpp.affine(**p, eps=eps)
        return ds * a.scale + dt * a.shift

    h = 1e-6
    for name, gradient in zip(parameters, got, strict=True):
        up, down = (parameters | {name: parameters[name] + d} for d in (h, -h))
        assert np.allclose(gradient, (loss(up) - loss(down)) / (2 * h), rtol=1e-7, atol=1e-7), name


def test_backward_at_variance_zero():
    got = bnpp.affine_backward(([1.0], [2.0]), [3.0], [4.0], [0.0], eps=0.0)
    assert [v.tolist() for v in got] == [[0.0], [2.0], [0.0], [0.0]]


def test_backward_agrees_with_the_layer():
    """dgamma, dbeta, dmean and dvar of batch_norm_inference_backward, by way of the map."""
    rng = np.random.default_rng(5)
    x, dy = rng.standard_normal((2, 20, C))
    gamma, beta, mean, var = batch_norm(rng, C, np.float64)
    _, saved = bnpp.batch_norm_inference(x, gamma, beta, mean, var, save=True)
    expected = bnpp.batch_norm_inference_backward(dy, saved)
    got = bnpp.affine_backward(((dy * x).sum(0), dy.sum(0)), gamma, mean, var)
    for name in got._fields:
        assert np.allclose(getattr(got, name), getattr(expected, name), rtol=1e-11, atol=1e-12), (
            name
        )
