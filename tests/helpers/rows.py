"""Layer and root mean square normalization: their calls by name, and all they return against the formulas."""

import bnpp
import numpy as np

from helpers import row_reference as ref
from helpers.reference import assert_exact
from helpers.settings import agree

NORMS = ("layer", "rms")


def data(shape, axis, dtype=np.float32, mean=3.0, std=2.0, seed=0):
    """Values, gamma, beta and dy of a case."""
    rng = np.random.default_rng([seed, *shape])
    x, dy = rng.standard_normal((2, *shape))
    features, _ = ref.axes_of(axis, len(shape))
    along = ref.shape_along(shape, features)
    gamma, beta = rng.uniform(0.5, 2, along), rng.standard_normal(along)
    return [a.astype(dtype) for a in (x * std + mean, gamma, beta, dy)]


def run(norm, x, gamma=None, beta=None, **keywords):
    """Call either norm's forward."""
    if norm == "rms":
        return bnpp.rms_norm(x, gamma, **keywords)
    return bnpp.layer_norm(x, gamma, beta, **keywords)


def back(norm, dy, saved, **keywords):
    """Call either norm's backward."""
    function = bnpp.rms_norm_backward if norm == "rms" else bnpp.layer_norm_backward
    return function(dy, saved, **keywords)


def expected(norm, x, gamma, beta, dy, axis, eps=1e-5, w=None):
    """What the formulas give, in the shapes of the library's results."""
    rms = norm == "rms"
    beta = None if rms or beta is None else beta.ravel()
    gamma = None if gamma is None else gamma.ravel()
    w = None if w is None else ref.matrix(np.broadcast_to(w, x.shape), axis)
    f = ref.forward(ref.matrix(x, axis), gamma, beta, rms=rms, eps=eps, w=w)
    return f, ref.backward(ref.matrix(dy, axis), f, gamma, rms=rms, w=w)


def check(norm, x, gamma, beta, dy, axis, eps=1e-5, w=None):
    """Hold every result of forward and backward, in every setting, against the reference."""
    weights = {} if w is None else {"weights": w}

    def call():
        y, saved = run(norm, x, gamma, beta, axis=axis, eps=eps, **weights)
        return y, (saved.mean, saved.var, saved.inv_std), back(norm, dy, saved)

    y, statistics, got = agree(call)
    f, g = expected(norm, x, gamma, beta, dy, axis, eps, w)
    features, kept = ref.axes_of(axis, x.ndim)
    dtype, shape = x.dtype, x.shape
    assert_exact(y, ref.tensor(f.y, shape, axis), ref.tensor(f.size, shape, axis), dtype, "y")
    for name, value in zip(("mean", "var", "inv_std"), statistics, strict=True):
        exact = getattr(f, name).reshape(ref.shape_along(shape, kept))
        assert value.shape == exact.shape, name
        assert not value.flags.writeable
        np.testing.assert_allclose(value, exact.astype(float), rtol=4e-7, atol=1e-9, err_msg=name)
    assert_exact(
        got.dx, ref.tensor(g.dx, shape, axis), ref.tensor(g.sizes["dx"], shape, axis), dtype, "dx"
    )
    assert got._fields == (("dx", "dgamma") if norm == "rms" else ("dx", "dgamma", "dbeta"))
    for name in got._fields[1:]:
        along = ref.shape_along(shape, features)
        exact, size = getattr(g, name).reshape(along), g.sizes[name].reshape(along)
        assert_exact(getattr(got, name), exact, size, dtype, name)
    return run(norm, x, gamma, beta, axis=axis, eps=eps, **weights)[1]


def outputs(norm, x, gamma, beta, dy, axis, out=None, dx=None, **keywords):
    """Every array that one forward and one backward compute."""
    y, saved = run(norm, x, gamma, beta, axis=axis, out=out, **keywords)
    found = [y.copy(), saved.mean, saved.var, saved.inv_std]
    return found + [a.copy() for a in back(norm, dy, saved, out=dx)]
