"""Gradients through the fold, against central differences of the fold itself."""

import bnpp
import numpy as np
import pytest
from helpers.fold_cases import fold, make

# The fold is linear in each of its arguments, so a central difference has no error but rounding.
STEP = 2.0**-6
KINDS = {
    "linear": {"layout": "OI"},
    "linear, IO": {"layout": "IO"},
    "conv": {"layout": "OIHW"},
    "grouped": {"layout": "HWIO", "groups": 2},
    "depthwise": {"layout": "HWGO", "groups": 4, "outputs": 8},
    "1-D": {"layout": "OIW"},
    "3-D": {"layout": "OIDHW", "kernel": 2},
    "transposed": {"layout": "IOHW", "groups": 2, "transposed": True},
}


def backward(p, dweight, dbias):
    """The backward of `fold(p)`."""
    given = {"after": p.after, "before": p.before, "layout": p.layout}
    if p.layout in ("OI", "IO"):
        return bnpp.fold_linear_backward(dweight, dbias, p.weight, p.bias, **given)
    if "G" not in p.layout:
        given["groups"] = p.groups
    return bnpp.fold_conv_backward(
        dweight, dbias, p.weight, p.bias, transposed=p.transposed, **given
    )


def variables(p):
    """Everything there is a gradient of, and how to put a new value into the problem."""
    found = {"dweight": (p.weight, lambda v: p._replace(weight=v))}
    bias = np.zeros(fold(p).bias.shape) if p.bias is None else p.bias
    found["dbias"] = (bias, lambda v: p._replace(bias=v))
    for side in ("after", "before"):
        a = getattr(p, side)
        if a is not None:
            found[f"d{side}.dscale"] = (
                a.scale,
                lambda v, s=side, a=a: p._replace(**{s: bnpp.Affine(v, a.shift)}),
            )
            if side == "after" or not p.transposed:
                found[f"d{side}.dshift"] = (
                    a.shift,
                    lambda v, s=side, a=a: p._replace(**{s: bnpp.Affine(a.scale, v)}),
                )
    return found


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("after", "before"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("kind", KINDS)
def test_central_differences(kind, after, before, bias):
    p = make(**KINDS[kind], bias=bias, after=after, before=before, dtype=np.float64)
    if p.before is not None and p.transposed:
        p = p._replace(before=bnpp.Affine(p.before.scale, np.zeros(4)))
    rng = np.random.default_rng(1)
    folded = fold(p)
    dweight, dbias = (
        rng.standard_normal(folded.weight.shape),
        rng.standard_normal(folded.bias.shape),
    )
    got = backward(p, dweight, dbias)

    def loss(problem):
        f = fold(problem)
        return np.vdot(dweight, f.weight) + np.vdot(dbias, f.bias)

    for name, (value, put) in variables(p).items():
        gradient = got
        for part in name.split("."):
            gradient = getattr(gradient, part)
        assert gradient.shape == value.shape, name
        for i in rng.choice(value.size, min(value.size, 12), replace=False):
            at = np.unravel_index(i, value.shape)
            up, down = value.copy(), value.copy()
            up[at] += STEP
            down[at] -= STEP
            slope = (loss(put(up)) - loss(put(down))) / (2 * STEP)
            assert gradient[at] == pytest.approx(slope, rel=1e-9, abs=1e-9), f"{name}{at}"
    assert (got.dafter is None) == (p.after is None)
    assert (got.dbefore is None) == (p.before is None)


def test_through_to_the_parameters():
    """From the folded weight to gamma, beta, mean and var, as quantisation-aware training needs it."""
    p = make(dtype=np.float64)
    rng = np.random.default_rng(2)
    parameters = dict(zip(("gamma", "beta", "mean"), rng.standard_normal((3, 6)), strict=True))
    parameters["var"] = rng.uniform(0.5, 2, 6)
    dweight, dbias = rng.standard_normal(p.weight.shape), rng.standard_normal(6)

    def loss(given):
        f = fold(p._replace(after=bnpp.affine(**given)))
        return np.vdot(dweight, f.weight) + np.vdot(dbias, f.bias)

    grads = backward(p._replace(after=bnpp.affine(**parameters)), dweight, dbias)
    got = bnpp.affine_backward(
        grads.dafter, parameters["gamma"], parameters["mean"], parameters["var"]
    )
    h = 1e-5
    for name in parameters:
        for c in range(6):
            step = np.zeros(6)
            step[c] = h
            up, down = (parameters | {name: parameters[name] + d} for d in (step, -step))
            slope = (loss(up) - loss(down)) / (2 * h)
            assert getattr(got, "d" + name)[c] == pytest.approx(slope, rel=1e-6, abs=1e-7), name


def test_dtypes_and_memory_order():
    p = make(before=True)
    folded = fold(p)
    weight = np.asfortranarray(p.weight)
    got = backward(p._replace(weight=weight), folded.weight, folded.bias)
    assert (got.dweight.dtype, got.dbias.dtype) == (np.float32, np.float32)
    assert got.dweight.strides == weight.strides
    assert got.dafter.dscale.dtype == np.float64
    wide = backward(p._replace(bias=p.bias.astype("f8")), folded.weight, None)
    assert wide.dbias.dtype == np.float64
    assert not wide.dbias.any()
    assert not wide.dafter.dshift.any()
