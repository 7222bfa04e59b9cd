"""batch_norm_jvp, batch_norm_double_backward, and gradients that arrive at the mean and the variance."""

import re

import bnpp
import numpy as np
import pytest
from helpers.addresses import unaligned
from helpers.halves import assert_one_unit
from helpers.reference import along, assert_exact, forward, reduced
from helpers.settings import THREADS, agree
from helpers.shapes import BITS, CASES, ORDERS, Case, cases, data, lanes, within
from helpers.slopes import slope


class Problem:
    """One forward call with its `saved`, and directions and gradients for everything around it."""

    def __init__(self, case, dtype, *, frozen=False, fused=False, mean=3.0, order=None, eps=1e-5):
        self.axis, self.frozen, self.fused = case.axis, frozen, fused
        self.x, self.gamma, self.beta, self.r, self.dy = data(case, dtype, mean=mean)
        _, _, _, self.v, self.u = data(case, dtype, seed=1)
        if order:
            self.x, self.r, self.dy, self.v, self.u = (
                ORDERS[order](a) for a in (self.x, self.r, self.dy, self.v, self.u)
            )
        rng = np.random.default_rng(9)
        self.dots = dict(
            zip(
                ["gamma", "beta", "mean", "var"],
                rng.standard_normal((4, case.shape[case.axis])),
                strict=True,
            )
        )
        keywords = {"axis": case.axis, "eps": eps}
        if fused:
            keywords |= {"residual": self.r, "activation": "relu"}
        wide = np.float32 if np.dtype(dtype).itemsize == 2 else dtype
        self.given = (mean + self.beta.astype(wide), 4 * self.gamma.astype(wide) ** 2)
        given = {"mean": self.given[0], "var": self.given[1]} if frozen else {}
        if frozen:
            call = (self.x, self.gamma, self.beta, *self.given)
            self.y, self.saved = bnpp.batch_norm_inference(*call, **keywords, save=True)
        else:
            self.y, self.saved = bnpp.batch_norm(
                self.x, self.gamma, self.beta, **keywords, on_single="biased"
            )
        self.f = forward(
            self.x.astype(wide),
            self.gamma.astype(wide),
            self.beta.astype(wide),
            **keywords | {"residual": self.r.astype(wide) if fused else None},
            **given,
        )

    def backward(self, **keywords):
        """The first backward."""
        call = bnpp.batch_norm_inference_backward if self.frozen else bnpp.batch_norm_backward
        return call(self.dy, self.saved, **keywords)

    def jvp(self, **keywords):
        """The tangents along v, u and the dots."""
        d = self.dots
        if self.frozen:
            keywords |= {"mean_dot": d["mean"], "var_dot": d["var"]}
        if self.fused:
            keywords |= {"residual_dot": self.u}
        return bnpp.batch_norm_jvp(self.saved, self.v, d["gamma"], d["beta"], **keywords)

    def double_backward(self):
        """The gradients of <v, dx> + <dots, dgamma ...> + <u, dresidual>."""
        d = self.dots
        keywords = {"ddmean": d["mean"], "ddvar": d["var"]} if self.frozen else {}
        keywords |= {"ddresidual": self.u} if self.fused else {}
        return bnpp.batch_norm_double_backward(
            self.saved, self.dy, self.v, d["gamma"], d["beta"], **keywords
        )

    def outputs(self, **out):
        """All arrays of all functions."""
        return [*self.jvp(**out), *self.double_backward()]

    def reference(self, minus=-1):
        """Names to values, by the chain rule step by step; with minus=1 the sizes of their terms."""
        return chain_rule(self, minus)

    def check(self, dtype, name=""):
        """Every result is the reference, a few roundings of its terms off at most."""
        expected, size = self.reference(), self.reference(1)
        tangents, second = self.jvp(), self.double_backward()
        assert tangents._fields == ("y_dot", "mean_dot", "var_dot")
        assert second._fields == ("d_dy", "d_x", "d_gamma") + ("d_mean", "d_var") * self.frozen
        found = tangents._asdict() | second._asdict()
        half = np.dtype(dtype).itemsize == 2
        for key, value in found.items():
            if half and value.ndim > 1:
                assert_one_unit(value, expected[key], np.dtype(dtype), f"{name} {key}")
            else:
                wide = np.float32 if half else dtype
                assert_exact(value, expected[key], size[key], wide, f"{name} {key}")


def chain_rule(p, minus):
    """Forward mode through the forward, reverse mode through the backward, node by node."""
    f, x = p.f, p.x
    wide = f.y.dtype
    axes, m = reduced(x, p.axis), max(x.size // max(x.shape[p.axis], 1), 1)
    magnitude = np.abs if minus > 0 else np.asarray

    def wide_channels(values):
        return along(magnitude(np.asarray(values, wide)), x, p.axis)

    def total(values):
        return values.sum(axes, keepdims=True)

    def relu(values):
        return values * f.bit

    tensors = [magnitude(a.astype(wide)) for a in (p.v, p.u, p.dy)]
    v, u, g = tensors[0], tensors[1] * p.fused, relu(tensors[2])
    gamma, r = wide_channels(p.gamma.astype(wide)), wide_channels(f.inv_std)
    c = magnitude(f.centred)
    given = {name: wide_channels(d) for name, d in p.dots.items()}
    if not p.frozen:
        given["mean"] = given["var"] = wide_channels(np.zeros_like(f.mean))
    # Forward mode.
    mean_dot, var_dot = given["mean"], given["var"]
    if not p.frozen:
        mean_dot = total(v) / m
    c_dot = v + minus * mean_dot
    if not p.frozen:
        var_dot = 2 * total(c * c_dot) / m
    r_dot = minus * r**3 * var_dot / 2
    xh, xh_dot = c * r, c_dot * r + c * r_dot
    y_dot = relu(gamma * xh_dot + given["gamma"] * xh + given["beta"] + u)
    # The backward, and reverse mode through it.
    s = gamma * r
    dbeta, dgamma = total(g), total(g * xh)
    bar = {"dgamma": given["gamma"], "dbeta": given["beta"]}
    if p.frozen:  # dx = s*g, dmean = -s*dbeta, dvar = -s*r*dgamma/2
        s_bar = total(v * g) + minus * given["mean"] * dbeta + minus * given["var"] * r * dgamma / 2
        r_bar = minus * given["var"] * s * dgamma / 2
        g_bar, xh_bar = s * v, 0 * v
        bar["dbeta"] = bar["dbeta"] + minus * given["mean"] * s
        bar["dgamma"] = bar["dgamma"] + minus * given["var"] * s * r / 2
    else:  # dx = s*(g - dbeta/m - xh*dgamma/m)
        inner = g + minus * dbeta / m + minus * xh * dgamma / m
        s_bar, r_bar = total(v * inner), 0 * s
        g_bar, xh_bar = s * v, minus * s * v * dgamma / m
        bar["dbeta"] = bar["dbeta"] + minus * total(s * v) / m
        bar["dgamma"] = bar["dgamma"] + minus * total(s * v * xh) / m
    g_bar = g_bar + bar["dbeta"] + bar["dgamma"] * xh
    xh_bar = xh_bar + bar["dgamma"] * g
    r_bar = r_bar + s_bar * gamma + total(xh_bar * c)
    c_bar = xh_bar * r
    var_bar = minus * r**3 * r_bar / 2
    mean_bar = minus * total(c_bar)
    d_x = c_bar
    if not p.frozen:
        c_bar = c_bar + 2 * c * var_bar / m
        d_x = c_bar + minus * total(c_bar) / m
    result = {"y_dot": y_dot, "mean_dot": mean_dot, "var_dot": var_dot}
    result |= {"d_dy": relu(g_bar + u), "d_x": d_x, "d_gamma": s_bar * r}
    result |= {"d_mean": mean_bar, "d_var": var_bar}
    vectors = ("mean_dot", "var_dot", "d_gamma", "d_mean", "d_var")
    return {k: a.reshape(-1) if k in vectors else a for k, a in result.items()}


FROZEN = pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
FUSED = pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])


@FUSED
@FROZEN
@cases(CASES)
def test_shared_shapes(case, dtype, frozen, fused):
    Problem(case, dtype, frozen=frozen, fused=fused).check(dtype)


@FROZEN
@lanes
def test_lengths_about_the_lane_width(lanes, frozen):
    for case in lanes:
        with within(case):
            Problem(case, np.float32, frozen=frozen, fused=True).check(np.float32)


@FROZEN
@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (37, 21), (5, 40, 7, 7)], ids=str)
def test_halves(half, shape, frozen):
    Problem(Case(shape, 1, ""), half, frozen=frozen, fused=True, mean=1.0).check(half)


@FROZEN
@pytest.mark.parametrize("order", sorted(ORDERS))
def test_memory_orders(order, frozen, dtype):
    case = Case((4, 6, 5, 7), 1, "")
    Problem(case, dtype, frozen=frozen, fused=True, order=order).check(dtype, order)


@FROZEN
@pytest.mark.parametrize("shape", [(4, 3, 1111), (4444, 3)], ids=str)
@pytest.mark.parametrize("mean", [1e2, 1e4, 1e6])
def test_any_mean(mean, shape, frozen, dtype):
    Problem(Case(shape, 1, ""), dtype, frozen=frozen, mean=mean).check(dtype)


@cases(BITS)
def test_every_isa_and_number_of_threads(case, dtype):
    problems = [
        Problem(case, dtype, frozen=frozen, fused=fused, mean=1e3)
        for frozen, fused in ((False, False), (False, True), (True, True))
    ]
    agree(lambda: [(p.outputs(), p.backward()[:3]) for p in problems], THREADS)


@FROZEN
@cases(BITS)
def test_out_and_alignment_do_not_matter(case, frozen, dtype):
    p = Problem(case, dtype, frozen=frozen, fused=True)
    expected = p.outputs()
    for out in (np.empty_like(p.x), unaligned(p.x), np.empty(p.x.shape[::-1], dtype).T):
        assert p.jvp(out=out).y_dot is out
        assert np.array_equal(out, expected[0])
    p.v = unaligned(p.v)
    for a, b in zip(p.outputs(), expected, strict=True):
        assert np.array_equal(a, b)
    for name in ("v", "u"):
        kept, there = getattr(p, name), getattr(p, name).copy()
        setattr(p, name, there)
        assert p.jvp(out=there).y_dot is there
        assert np.array_equal(there, expected[0]), name
        setattr(p, name, kept)


@FUSED
@FROZEN
def test_the_jvp_is_the_transpose_of_the_backward(frozen, fused):
    p = Problem(Case((5, 6, 11, 3), 1, ""), np.float64, frozen=frozen, fused=fused)
    grads, d = p.backward(), p.dots
    pairs = [(p.v, grads.dx), (d["gamma"], grads.dgamma), (d["beta"], grads.dbeta)]
    pairs += [(p.u, grads.dresidual)] if fused else []
    pairs += [(d["mean"], grads.dmean), (d["var"], grads.dvar)] if frozen else []
    there, back = np.sum(p.jvp().y_dot * p.dy), sum(np.sum(a * b) for a, b in pairs)
    assert there == pytest.approx(back, rel=1e-12)
    # The loss is linear in dy: its gradient there is the same map.
    assert np.array_equal(p.double_backward().d_dy, p.jvp().y_dot)


@FROZEN
@pytest.mark.parametrize("shape", [(3, 2, 4), (7, 3)], ids=str)
def test_against_central_differences(shape, frozen):
    """Slopes of the forward and of the first backward, found without any formula of the new ones."""
    p = Problem(Case(shape, 1, ""), np.float64, frozen=frozen, fused=True, eps=1e-3)
    inputs = {"x": p.x, "gamma": p.gamma, "beta": p.beta, "residual": p.r}
    inputs |= {"mean": p.given[0], "var": p.given[1]} if frozen else {}
    dots = {"x": p.v, "residual": p.u, **p.dots}
    z = forward(**inputs, eps=1e-3).y
    assert np.abs(z).min() > 1e-3, "no value may stand at the kink of the ReLU"

    def run(values):
        function = bnpp.batch_norm_inference if frozen else bnpp.batch_norm
        more = {"save": True} if frozen else {}
        return function(**values, eps=1e-3, activation="relu", **more)

    def loss(values, dy):
        _, saved = run(values)
        back = bnpp.batch_norm_inference_backward if frozen else bnpp.batch_norm_backward
        grads = back(dy, saved)
        return sum(np.sum(dots[name] * getattr(grads, f"d{name}")) for name in inputs)

    h = 1e-5

    def moved(by):
        y, saved = run({name: value + by * dots[name] for name, value in inputs.items()})
        return y, saved.mean, saved.var

    for a, b, got in zip(moved(h), moved(-h), p.jvp(), strict=True):
        np.testing.assert_allclose(got, (a - b) / (2 * h), rtol=1e-6, atol=1e-8)

    second = p.double_backward()
    expected = {"d_dy": slope(lambda v: loss(inputs, v["dy"]), {"dy": p.dy}, "dy")}
    for name in inputs:
        expected[f"d_{name}"] = slope(lambda v: loss(v, p.dy), inputs, name)
    for zero in (expected.pop("d_beta"), expected.pop("d_residual")):
        assert np.abs(zero).max() < 1e-8
    assert expected.keys() == set(second._fields)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(second, name), value, rtol=1e-6, atol=1e-8)


@FUSED
@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (300, 17), (5, 16, 7, 7)], ids=str)
def test_gradients_of_the_mean_and_the_variance(shape, fused, dtype):
    p = Problem(Case(shape, 1, ""), dtype, fused=fused, mean=1e3)
    dmean, dvar = p.dots["mean"] * 50, p.dots["var"] * 70
    plain, got = p.backward(), p.backward(dmean=dmean, dvar=dvar)
    m = p.saved.count
    wide = p.f.y.dtype
    only = bnpp.batch_norm_backward(np.zeros_like(p.dy), p.saved, dmean=dmean, dvar=dvar).dx
    expected = along(dmean.astype(wide), p.x, 1) / m
    expected = expected + 2 * along(dvar.astype(wide), p.x, 1) * p.f.centred / m
    size = along(np.abs(dmean), p.x, 1) / m + np.abs(along(dvar, p.x, 1) * p.f.centred) / m
    assert_exact(only, expected, size + np.abs(expected), dtype)
    np.testing.assert_allclose(got.dx, plain.dx + only, rtol=1e-4, atol=1e-6)
    for name in ("dgamma", "dbeta"):
        assert np.array_equal(getattr(got, name), getattr(plain, name))
    zeros = p.backward(dmean=np.zeros(shape[1]), dvar=np.zeros(shape[1]))
    assert np.array_equal(zeros.dx, plain.dx)


def test_the_mean_and_the_variance_against_central_differences():
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 4, 3, 2))
    a, b = rng.standard_normal((2, 3))

    def loss(x):
        y, saved = bnpp.batch_norm(x)
        return np.sum(w * y) + np.sum(a * saved.mean) + np.sum(b * saved.var**2)

    _, saved = bnpp.batch_norm(x)
    got = bnpp.batch_norm_backward(w, saved, dmean=a, dvar=2 * b * saved.var).dx
    expected = slope(lambda v: loss(v["x"]), {"x": x}, "x")
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(4, 3, 2), (7, 3)], ids=str)
def test_second_order_of_gradients_of_the_statistics(shape):
    p = Problem(Case(shape, 1, ""), np.float64)
    given = {"dmean": p.dots["mean"], "dvar": p.dots["var"]}

    def loss(x, given):
        grads = bnpp.batch_norm_backward(p.dy, bnpp.batch_norm(x, p.gamma)[1], **given)
        return np.sum(p.v * grads.dx)

    second = bnpp.batch_norm_double_backward(p.saved, p.dy, p.v, dvar=given["dvar"])
    expected = slope(lambda v: loss(v["x"], given), {"x": p.x}, "x")
    np.testing.assert_allclose(second.d_x, expected, rtol=1e-6, atol=1e-8)
    # The loss is linear in dmean and dvar: their gradients are the tangents along v.
    tangents = bnpp.batch_norm_jvp(p.saved, p.v)
    for name, tangent in (("dmean", tangents.mean_dot), ("dvar", tangents.var_dot)):
        zero = given | {name: np.zeros(3)}
        change = loss(p.x, given) - loss(p.x, zero)
        assert change == pytest.approx(np.sum(tangent * given[name]), rel=1e-9)


@FROZEN
def test_none_is_zeros(frozen, dtype):
    p = Problem(Case((4, 3, 5), 1, ""), dtype, frozen=frozen, fused=True)
    zeros, zero = np.zeros_like(p.x), np.zeros(3)
    keywords = {"mean_dot": zero, "var_dot": zero} if frozen else {}
    full = bnpp.batch_norm_jvp(p.saved, zeros, zero, zero, residual_dot=zeros, **keywords)
    none = bnpp.batch_norm_jvp(p.saved, None)
    keywords = {"ddmean": zero, "ddvar": zero} if frozen else {}
    full += bnpp.batch_norm_double_backward(
        p.saved, p.dy, zeros, zero, zero, ddresidual=zeros, **keywords
    )
    none += bnpp.batch_norm_double_backward(p.saved, p.dy, None)
    for a, b in zip(full, none, strict=True):
        assert not a.any()
        assert not b.any()
    p.v, p.u = zeros, zeros
    d = p.dots
    keywords = {"ddmean": d["mean"], "ddvar": d["var"]} if frozen else {}
    for a, b in zip(
        p.double_backward(),
        bnpp.batch_norm_double_backward(p.saved, p.dy, None, d["gamma"], d["beta"], **keywords),
        strict=True,
    ):
        assert np.array_equal(a, b)


def test_constant_channels_have_no_slope(dtype):
    """With var = eps = 0, where inv_std is 0, only beta moves y."""
    x = np.full((4, 3, 5), 7, dtype)
    rng = np.random.default_rng(1)
    dy, v = rng.standard_normal((2, *x.shape)).astype(dtype)
    _, saved = bnpp.batch_norm(x, eps=0.0)
    tangents = bnpp.batch_norm_jvp(saved, v, np.ones(3), np.full(3, 2.0))
    assert np.array_equal(tangents.y_dot, np.full_like(x, 2))
    second = bnpp.batch_norm_double_backward(saved, dy, v, np.ones(3))
    assert not any(a.any() for a in second)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@FROZEN
def test_a_bad_value_stays_in_its_channel(bad, frozen, dtype):
    case = Case((4, 5, 40), 1, "")
    clean, hit = (Problem(case, dtype, frozen=frozen, fused=True) for _ in range(2))
    hit.v[1, 2, 3] = bad
    for a, b in zip(clean.outputs(), hit.outputs(), strict=True):
        channels = [np.moveaxis(w, 1, 0) if w.ndim > 1 else w for w in (a, b)]
        others = [w[[0, 1, 3, 4]] for w in channels]
        assert np.array_equal(*others)
    assert not np.isfinite(hit.double_backward().d_gamma[2]) or not hit.f.bit[1, 2, 3]


def test_an_infinite_x_does_not_spoil_what_does_not_depend_on_it(dtype):
    x = np.ones((4, 3, 5), dtype)
    x[0, 1, 2] = np.inf
    one = np.ones(3)
    _, saved = bnpp.batch_norm_inference(x, None, None, one, one, eps=0.0, save=True)
    assert np.array_equal(bnpp.batch_norm_jvp(saved, np.ones_like(x)).y_dot, np.ones_like(x))
    second = bnpp.batch_norm_double_backward(saved, np.ones_like(x), np.ones_like(x))
    assert np.array_equal(second.d_dy, np.ones_like(x))
    assert not second.d_x.any()


C = 13
GOOD = np.ones((5, C, 7), np.float32)
TANGENT, DOUBLE = "batch_norm_jvp", "batch_norm_double_backward"

# (function, argument, what is given for it, frozen saved, exception, words of the sentence)
REFUSED = [
    (TANGENT, "saved", GOOD, False, TypeError, "ndarray.*forward call"),
    (TANGENT, "x_dot", GOOD[:4], False, ValueError, r"\(4, 13, 7\).*\(5, 13, 7\)"),
    (TANGENT, "x_dot", GOOD.astype("f8"), False, TypeError, "float64.*float32"),
    (TANGENT, "gamma_dot", np.ones(11), False, ValueError, "11.*13"),
    (TANGENT, "beta_dot", np.ones((C, 1)), True, ValueError, "one dimension"),
    (TANGENT, "mean_dot", np.ones(C), False, ValueError, "batch_norm.*None"),
    (TANGENT, "var_dot", np.ones(C), False, ValueError, "batch_norm.*None"),
    (TANGENT, "var_dot", np.ones(12), True, ValueError, "12.*13"),
    (TANGENT, "residual_dot", GOOD, True, ValueError, "no residual"),
    (TANGENT, "out", GOOD[:4], False, ValueError, r"\(4, 13, 7\).*\(5, 13, 7\)"),
    (TANGENT, "out", [1.0], False, TypeError, "list"),
    (DOUBLE, "saved", None, False, TypeError, "None.*forward call"),
    (DOUBLE, "dy", None, False, TypeError, "None"),
    (DOUBLE, "dy", GOOD[:4], True, ValueError, r"\(4, 13, 7\).*\(5, 13, 7\)"),
    (DOUBLE, "ddx", GOOD.astype("f8"), False, TypeError, "float64.*float32"),
    (DOUBLE, "ddgamma", np.ones(11), False, ValueError, "11.*13"),
    (DOUBLE, "ddbeta", np.ones((C, 1)), True, ValueError, "one dimension"),
    (DOUBLE, "ddmean", np.ones(C), False, ValueError, "batch_norm.*None"),
    (DOUBLE, "ddvar", np.ones(C), False, ValueError, "batch_norm.*None"),
    (DOUBLE, "ddmean", np.ones(12), True, ValueError, "12.*13"),
    (DOUBLE, "ddresidual", GOOD, False, ValueError, "no residual"),
    (DOUBLE, "dvar", np.ones(11), False, ValueError, "11.*13"),
    (DOUBLE, "dvar", np.ones(C), True, ValueError, "batch_norm_inference.*None"),
    ("batch_norm_backward", "dmean", np.ones(11), False, ValueError, "11.*13"),
    ("batch_norm_backward", "dvar", np.ones((C, 1)), False, ValueError, "one dimension"),
    ("batch_norm_backward", "dvar", np.ones(C, int), False, TypeError, "int64"),
]


@pytest.mark.parametrize(
    ("function", "argument", "value", "frozen", "exception", "words"),
    REFUSED,
    ids=[f"{f}: {a} {i}" for i, (f, a, *_) in enumerate(REFUSED)],
)
def test_refused(function, argument, value, frozen, exception, words):
    one = np.ones(C)
    call = bnpp.batch_norm_inference if frozen else bnpp.batch_norm
    more = (one, one) if frozen else ()
    _, saved = call(GOOD, one, one, *more, **{"save": True} if frozen else {})
    given = {"saved": saved, "x_dot": GOOD} if function == TANGENT else {"saved": saved, "dy": GOOD}
    given |= {"ddx": GOOD} if function == DOUBLE else {}
    given |= {argument: value}
    out = np.full_like(GOOD, 7)
    if function != DOUBLE:
        given = {"out": out} | given
    with pytest.raises(exception, match=words) as caught:
        getattr(bnpp, function)(**given)
    assert re.search(rf"^{function}: .*\b{argument}\b", str(caught.value))
    assert "\n" not in str(caught.value)
    assert (out == 7).all()


def test_out_may_not_overlap():
    big = np.zeros(2 * GOOD.size, np.float32)
    shifted, out = (big[i : i + GOOD.size].reshape(GOOD.shape) for i in (1, 0))
    x = GOOD.copy()
    _, saved = bnpp.batch_norm(x, residual=x)
    for name, call in {
        "x_dot": lambda: bnpp.batch_norm_jvp(saved, shifted, out=out),
        "residual_dot": lambda: bnpp.batch_norm_jvp(saved, GOOD, residual_dot=shifted, out=out),
        "gamma_dot": lambda: bnpp.batch_norm_jvp(saved, GOOD, big[:C], out=out),
        "saved's x": lambda: bnpp.batch_norm_jvp(saved, GOOD, out=x),
        "dmean": lambda: bnpp.batch_norm_backward(GOOD, saved, dmean=big[:C], out=out),
    }.items():
        with pytest.raises(ValueError, match=rf"out shares memory with {name}"):
            call()
    assert not big.any()


def test_a_saved_whose_x_is_gone():
    x = GOOD.copy()
    _, saved = bnpp.batch_norm(x, out=x)
    with pytest.raises(ValueError, match=r"batch_norm_jvp: x was overwritten"):
        bnpp.batch_norm_jvp(saved, GOOD)
    with pytest.raises(ValueError, match=r"batch_norm_double_backward: x was overwritten"):
        bnpp.batch_norm_double_backward(saved, GOOD, GOOD)


def with_torch():
    """PyTorch, or skip."""
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@FROZEN
@pytest.mark.parametrize("shape", [(6, 5, 8, 9), (33, 5)], ids=str)
def test_torch_agrees_on_double_backward(shape, frozen, dtype):
    torch = with_torch()
    p = Problem(Case(shape, 1, ""), dtype, frozen=frozen)
    x, gamma, beta, dy = (
        torch.from_numpy(a.copy()).requires_grad_() for a in (p.x, p.gamma, p.beta, p.dy)
    )
    mean, var = (torch.from_numpy(a.astype(dtype)) for a in p.given)
    y = torch.nn.functional.batch_norm(x, mean, var, gamma, beta, training=not frozen)
    first = torch.autograd.grad(y, (x, gamma, beta), dy, create_graph=True)
    ways = [torch.from_numpy(a.astype(dtype)) for a in (p.v, p.dots["gamma"], p.dots["beta"])]
    theirs = torch.autograd.grad(first, (dy, x, gamma), ways)
    p.dots["mean"] = p.dots["var"] = np.zeros(5)
    ours = p.double_backward()
    close = {"rtol": 1e-9, "atol": 1e-11} if dtype == np.float64 else {"rtol": 2e-3, "atol": 2e-4}
    for a, b in zip(ours, theirs, strict=False):
        np.testing.assert_allclose(a, b.numpy(), **close)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # PyTorch's own use
@FROZEN
def test_torch_agrees_on_the_jvp(frozen, dtype):
    torch = with_torch()
    p = Problem(Case((6, 5, 8, 9), 1, ""), dtype, frozen=frozen)
    mean, var = (torch.from_numpy(a.astype(dtype)) for a in p.given)

    def function(x, gamma, beta):
        given = (mean, var) if frozen else (None, None)
        return torch.nn.functional.batch_norm(x, *given, gamma, beta, training=not frozen)

    at = tuple(torch.from_numpy(a.astype(dtype)) for a in (p.x, p.gamma, p.beta))
    ways = (p.v, p.dots["gamma"], p.dots["beta"])
    _, theirs = torch.func.jvp(function, at, tuple(torch.from_numpy(a.astype(dtype)) for a in ways))
    ours = bnpp.batch_norm_jvp(p.saved, *ways).y_dot
    close = {"rtol": 1e-9, "atol": 1e-11} if dtype == np.float64 else {"rtol": 2e-3, "atol": 2e-5}
    np.testing.assert_allclose(ours, theirs.numpy(), **close)
