"""Batch renormalization: clipped corrections, constants of the backward; the layer's schedule."""

import pickle

import bnpp
import numpy as np
import pytest
from helpers.addresses import unaligned
from helpers.bits import same
from helpers.reference import WIDE, along, assert_exact, backward, forward
from helpers.settings import THREADS, agree
from helpers.shapes import BITS, CASES, ORDERS, cases, data
from helpers.shapes import Case as Shape
from helpers.slopes import assert_slopes


def running_of(x, axis, dtype, seed=5):
    """Running statistics about those of x, so that some corrections are clipped and some are not."""
    rng = np.random.default_rng(seed)
    channels = x.shape[axis]
    mean = x.mean() + 2 * rng.standard_normal(channels) if x.size else np.zeros(channels)
    return mean.astype(dtype), rng.uniform(0.3, 12, channels).astype(dtype)


def correction(x, axis, running_mean, running_var, r_max, d_max, eps=1e-5):
    """Algorithm 1 of Ioffe 2017."""
    f = forward(x, axis=axis)
    wide = f.mean.dtype.type
    if x.size == 0:  # nothing to correct
        return np.ones_like(f.mean), np.zeros_like(f.mean)
    std = np.sqrt(running_var.astype(wide) + wide(eps))
    r = np.sqrt(f.var + wide(eps)) / std
    # Not from f.mean, for which even the wide type may have no room: x and x - mean are exact.
    first = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])[0].astype(wide)
    centred = np.moveaxis(f.centred, axis, -1).reshape(-1, x.shape[axis])[0]
    d = ((first - running_mean) - centred) / std
    return np.clip(r, 1 / wide(r_max), r_max), np.clip(d, -d_max, d_max)


@pytest.mark.parametrize("mean", [3.0, 1e6])
@cases([c for c in CASES if np.prod(c.shape) < 10**5])
def test_reference(case, mean, dtype):
    x, gamma, beta, residual, dy = data(case, dtype, mean=mean)
    given = running_of(x, case.axis, dtype)
    keywords = {"axis": case.axis, "residual": residual, "activation": "relu"}
    y, saved = bnpp.batch_renorm(
        x,
        gamma,
        beta,
        running_mean=given[0],
        running_var=given[1],
        r_max=1.5,
        d_max=0.7,
        on_single="biased",
        **keywords,
    )
    got = bnpp.batch_renorm_backward(dy, saved)
    r, d = correction(x, case.axis, *given, 1.5, 0.7)
    np.testing.assert_allclose(saved.r, r, rtol=1e-6)
    np.testing.assert_allclose(saved.d, d, rtol=1e-6, atol=1e-6)
    # y = gamma * (xh * r + d) + beta is batch norm with gamma * r and gamma * d + beta.
    wide = WIDE[dtype]
    f = forward(x, gamma.astype(wide) * r, gamma.astype(wide) * d + beta, **keywords)
    size = f.size + np.abs(along(gamma * d, x, case.axis)) + np.abs(along(beta, x, case.axis))
    assert_exact(y, f.y, size, dtype, "y")
    expected = backward(dy, f, gamma * r, axis=case.axis)
    sizes = expected.sizes
    assert_exact(got.dx, expected.dx, sizes["dx"], dtype, "dx")
    assert_exact(got.dbeta, expected.dbeta, sizes["dbeta"], dtype, "dbeta")
    dgamma = r * expected.dgamma + d * expected.dbeta
    assert_exact(
        got.dgamma, dgamma, r * sizes["dgamma"] + np.abs(d) * sizes["dbeta"], dtype, "dgamma"
    )
    assert np.array_equal(got.dresidual, np.where(y > 0, dy, 0))


@pytest.mark.parametrize("activation", [None, "relu"])
@cases([Shape((4, 3, 5, 7), 1, ""), Shape((37, 5), 1, ""), Shape((6, 7, 300), 0, "")])
def test_no_correction_is_batch_norm_bit_for_bit(case, activation, dtype):
    x, gamma, beta, residual, dy = data(case, dtype)
    given = running_of(x, case.axis, dtype)
    keywords = {"axis": case.axis, "residual": residual, "activation": activation}
    limits = {"running_mean": given[0], "running_var": given[1], "r_max": 1, "d_max": 0}
    y, saved = bnpp.batch_renorm(x, gamma, beta, **limits, **keywords)
    z, plain = bnpp.batch_norm(x, gamma, beta, **keywords)
    assert np.array_equal(y, z)
    assert np.array_equal([saved.r, saved.d], [np.ones_like(saved.r), np.zeros_like(saved.d)])
    pairs = bnpp.batch_renorm_backward(dy, saved), bnpp.batch_norm_backward(dy, plain)
    assert all(np.array_equal(a, b) for a, b in zip(*pairs, strict=True))


def test_no_limit_is_inference(dtype):
    x, gamma, beta, *_ = data(Shape((4, 3, 5, 7), 1, ""), dtype)
    mean, var = running_of(x, 1, dtype)
    limits = {"r_max": np.inf, "d_max": np.inf}
    y, _ = bnpp.batch_renorm(x, gamma, beta, running_mean=mean, running_var=var, **limits)
    f = forward(x, gamma, beta, mean=mean, var=var)
    # The detour over the batch's mean costs roundings of its terms.
    size = f.size + np.abs(along(gamma * f.inv_std * mean, x, 1)) + np.abs(along(gamma, x, 1))
    assert_exact(y, f.y, 2 * size, dtype)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_central_differences(activation):
    """r and d are constants: the slopes are those of a loss in which they are held."""
    rng = np.random.default_rng(4)
    shape = (5, 2, 3)
    inputs = {
        "x": rng.standard_normal(shape) + 0.5,
        "gamma": rng.uniform(0.5, 2, 2),
        "beta": rng.standard_normal(2),
        "residual": rng.standard_normal(shape),
    }
    w, eps = rng.standard_normal(shape), 1e-3
    given = {"running_mean": np.array([0.2, 0.9]), "running_var": np.array([0.2, 3.0])}
    _, saved = bnpp.batch_renorm(
        **inputs, **given, r_max=1.4, d_max=0.3, eps=eps, activation=activation
    )
    got = bnpp.batch_renorm_backward(w, saved)

    def loss(values):
        gamma = values["gamma"]
        scaled = values | {"gamma": gamma * saved.r, "beta": gamma * saved.d + values["beta"]}
        z = forward(**scaled, eps=eps, activation=activation)
        return float(np.sum(w * z.y))

    assert_slopes(got, loss, inputs, h=1e-6, atol=1e-7)


@cases(BITS)
def test_every_setting_and_out(case, dtype):
    x, gamma, beta, residual, dy = data(case, dtype, mean=1e3)
    given = running_of(x, case.axis, dtype)
    keywords = {"axis": case.axis, "residual": residual, "activation": "relu"}
    keywords |= {"running_mean": given[0], "running_var": given[1]}
    out = unaligned(x)

    def call():
        y, saved = bnpp.batch_renorm(x, gamma, beta, **keywords, out=out)
        return y, saved.r, saved.d, bnpp.batch_renorm_backward(dy, saved)

    same(bnpp.batch_renorm(x, gamma, beta, **keywords)[0], agree(call, THREADS)[0], "out")


@pytest.mark.parametrize("order", ["fortran", "channels_last", "gaps", "negative", "broadcast"])
def test_memory_orders(order, dtype):
    x, gamma, beta, residual, _ = data(Shape((5, 3, 4, 6), 1, ""), dtype)
    mean, var = running_of(x, 1, dtype)
    x, residual = ORDERS[order](x), ORDERS[order](residual)
    r, d = correction(x, 1, mean, var, 3, 5)
    y, _ = bnpp.batch_renorm(x, gamma, beta, running_mean=mean, running_var=var, residual=residual)
    f = forward(x, gamma * r, gamma * d + beta, residual=residual)
    assert_exact(y, f.y, f.size + np.abs(along(gamma * d, x, 1)) + 9, dtype)


def test_degenerate_channels():
    x = np.array([[1.0, 1.0, np.inf, 2.0], [1.0, 1.0, 1.0, 4.0]])
    mean, var = [1.0, 0.5, 1.0, 3.0], [0.0, 0.0, 1.0, 0.0]
    y, saved = bnpp.batch_renorm(x, running_mean=mean, running_var=var, eps=0.0)
    assert saved.r[:2].tolist() == [1, 1]
    assert saved.d[:2].tolist() == [0, 5]  # no distance at all, and one beyond any limit
    assert y[:, :2].tolist() == [[0, 5], [0, 5]]
    assert np.isnan(y[:, 2]).all()
    assert (saved.r[3], y[1, 3]) == (3, 3)


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"r_max": 0.5}, ValueError, "r_max is 0.5, but it needs to be >= 1"),
        ({"r_max": np.nan}, ValueError, "r_max is nan"),
        ({"d_max": -1}, ValueError, "d_max is -1, but it needs to be >= 0"),
        ({"d_max": "far"}, TypeError, "d_max is 'far', but it needs to be a number"),
        ({"running_mean": None}, TypeError, "running_mean is None"),
        ({"running_var": np.ones(2)}, ValueError, "running_var has 2 values, but x has 3 channels"),
        ({"running_var": -np.ones(3)}, ValueError, r"running_var\[0\] is -1"),
        ({"gamma": np.ones(2)}, ValueError, "gamma has 2 values"),
        ({"eps": -1.0}, ValueError, "eps is -1"),
        ({"x": np.ones((1, 3))}, ValueError, "x has one value a channel"),
        ({"on_single": "inference"}, ValueError, "on_single is 'inference'"),
        ({"out": np.ones((2, 3))}, ValueError, r"out has shape \(2, 3\)"),
    ],
)
def test_bad_input(change, kind, sentence):
    given = {"x": np.arange(12.0).reshape(4, 3), "running_mean": np.zeros(3)}
    given |= {"running_var": np.ones(3)} | change
    with pytest.raises(kind, match=f"^batch_renorm: {sentence}"):
        bnpp.batch_renorm(**given)


def test_the_kinds_of_saved_are_not_mixed():
    x = np.arange(12.0).reshape(4, 3)
    _, plain = bnpp.batch_norm(x)
    _, renorm = bnpp.batch_renorm(x, running_mean=np.zeros(3), running_var=np.ones(3))
    assert plain.r is None
    assert plain.d is None
    with pytest.raises(
        ValueError, match=r"^batch_renorm_backward: saved comes from batch_norm, but"
    ):
        bnpp.batch_renorm_backward(x, plain)
    with pytest.raises(
        ValueError, match=r"^batch_norm_backward: saved comes from batch_renorm, whose"
    ):
        bnpp.batch_norm_backward(x, renorm)
    with pytest.raises(ValueError, match=r"^batch_norm_jvp: saved comes from batch_renorm, but"):
        bnpp.batch_norm_jvp(renorm, x)
    with pytest.raises(
        ValueError, match=r"^batch_norm_double_backward: saved comes from batch_renorm"
    ):
        bnpp.batch_norm_double_backward(renorm, x, x)


def test_layer_follows_the_schedule_and_the_running_statistics(dtype):
    layer = bnpp.BatchRenorm(3, warmup=2, r_end=4, d_end=6, momentum=0.2)
    plain = bnpp.BatchNorm(3, momentum=0.2, running_var="biased")
    limits = [(1, 0), (1, 0), (1, 0), (2, 1.25), (3, 2.5), (3, 3.75), (3, 5), (3, 5)]
    for seed, wanted in enumerate(limits):
        x, *_, dy = data(Shape((6, 3, 5), 1, ""), dtype, seed)
        assert layer.limits == wanted
        before = {"running_mean": layer.running_mean, "running_var": layer.running_var}
        y = layer(x)
        expected, saved = bnpp.batch_renorm(
            x,
            layer.gamma,
            layer.beta,
            **before,
            **layer.limits._replace(r_max=wanted[0], d_max=wanted[1])._asdict(),
        )
        assert np.array_equal(y, expected)
        got = layer.backward(dy)
        assert all(
            np.array_equal(a, b)
            for a, b in zip(got, bnpp.batch_renorm_backward(dy, saved), strict=True)
        )
        plain(x)  # the update is the same: only y differs
        assert np.array_equal(layer.running_var, plain.running_var)
        assert np.array_equal(layer.running_mean, plain.running_mean)
    assert np.array_equal(layer.eval()(x), plain.eval()(x))
    assert layer.backward(dy)._fields == ("dx", "dgamma", "dbeta", "dmean", "dvar")


def test_layer_settings():
    layer = bnpp.BatchRenorm(2)
    assert (layer.momentum, layer.running_var_kind) == (0.01, "biased")
    assert bnpp.BatchRenorm(2, decay=0.9, warmup=0, r_end=0, d_end=0).limits == (3, 5)
    twin = pickle.loads(pickle.dumps(layer))
    assert repr(twin) == repr(layer)
    for bad in ({"r_max": 0.9}, {"d_max": np.inf}, {"warmup": -1}, {"r_end": 10}, {"d_end": 10}):
        name = next(iter(bad))
        with pytest.raises(ValueError, match=f"^BatchRenorm: {name} is "):
            bnpp.BatchRenorm(2, **bad)
