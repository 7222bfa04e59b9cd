"""The report: its bound is kept, reached and explained; ranges, dead channels, JSON, the table."""

import dataclasses
import json
import pickle

import bnpp
import numpy as np
import pytest
from helpers import convolution
from helpers.fold_cases import difference, fold, make


@pytest.mark.parametrize(("after", "before"), [(True, False), (True, True)])
@pytest.mark.parametrize("layout", ["OIHW", "OI"])
def test_bound_is_reached(layout, after, before, dtype):
    """The input with the signs of the roundings comes within a hundredth of it in every channel."""
    p = make(layout, 3, 4, after=after, before=before, dtype=dtype)
    folded = fold(p)
    wide = np.longdouble
    scale = p.after.scale.astype(wide)[:, None, None]
    scale_in = p.before.scale.astype(wide)[:, None] if before else 1
    exact = scale * p.weight.reshape(3, 4, -1) * scale_in
    lost = (exact - folded.weight.reshape(3, 4, -1)).reshape(3, -1)
    assert np.all(lost != 0)
    bound = folded.report.bound(2.0)
    # The wide type has only 11 bits more than float64.
    slack = folded.report.terms * np.finfo(wide).eps * (2 * folded.report.weight_sum)
    for c in range(3):
        x = 2 * np.sign(lost[c]).reshape(1, *p.weight.shape[1:]).astype(float)
        reached = max(difference(p._replace(x=k * x), folded)[c] for k in (1, -1))
        assert reached <= bound[c] + slack[c]
        assert reached >= 0.98 * bound[c]


def test_nothing_rounds_where_nothing_must():
    """Powers of two and identities lose nothing, and the report says exactly that."""
    p = make(after=False)
    folded = fold(p._replace(after=bnpp.Affine([1.0, 2.0, -4.0, 0.5, 1.0, 0.0], np.zeros(6))))
    assert folded.report.bound(1e6).tolist() == [0.0] * 6
    same = fold(p._replace(after=bnpp.Affine.identity(6)))
    assert np.array_equal(same.weight, p.weight)
    assert np.array_equal(same.bias, p.bias)
    assert same.report.max_weight_change == 0
    assert same.report.growth.tolist() == [1.0] * 6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0, 1e3])
def test_bound_in_the_networks_own_arithmetic(mean, dtype):
    """Both networks evaluated in the dtype itself stay within `bound(x, unit_roundoff=u)`."""
    rng = np.random.default_rng(8)
    outputs, inputs, unit = 8, 50, np.finfo(dtype).eps / 2
    gamma, beta, means = rng.standard_normal((3, outputs)).astype(dtype)
    means += np.asarray(mean, dtype)
    var = rng.uniform(0.1, 4, outputs).astype(dtype)
    weight = rng.standard_normal((outputs, inputs)).astype(dtype)
    bias = rng.standard_normal(outputs).astype(dtype)
    report = (
        folded := bnpp.fold_linear(weight, bias, after=bnpp.affine(gamma, beta, means, var))
    ).report
    x = rng.uniform(-1, 1, (1000, inputs)).astype(dtype)
    apart = (x @ weight.T + bias - means) / np.sqrt(var + np.asarray(1e-5, dtype)) * gamma + beta
    change = np.abs(apart - (x @ folded.weight.T + folded.bias)).max(0)
    assert apart.dtype == dtype
    bound = report.bound(1.0, unit_roundoff=unit)
    assert np.all(change <= bound)
    assert np.all(bound < 4 * (inputs + 17) * unit * (report.weight_sum + report.constant_sum))


def test_bound_knows_terms_that_cancel():
    """The folded bias is 0, but the layer and the map round 1e6 each."""
    after = bnpp.Affine([1.0], [-1e6])
    report = bnpp.fold_linear([[1.0]], [1e6], after=after).report
    assert report.bound(0.0, unit_roundoff=2.0**-24)[0] >= 2e6 * 2.0**-24


def test_bound_without_a_bound():
    report = fold(make()).report
    assert np.all(np.isinf(report.bound(1.0, unit_roundoff=1 / 32)))
    assert np.all(np.isfinite(report.bound(1.0, unit_roundoff=2.0**-8)))
    assert np.all(report.bound(0.0) == report.bias_rounding)


@pytest.mark.parametrize("keywords", [{"max_abs_input": -1.0}, {"max_abs_input": np.nan},
                                      {"max_abs_input": 1.0, "unit_roundoff": -1.0}])  # fmt: skip
def test_bound_of_what(keywords):
    name = "unit_roundoff" if len(keywords) > 1 else "max_abs_input"
    with pytest.raises(ValueError, match=f"bound: {name} is "):
        fold(make()).report.bound(**keywords)


def test_weight_ranges_that_widen():
    """What hurt quantisation later (65 % to 61 % at 5 bit) is in the report, by channel and in all."""
    weight = np.array([[1.0, -2.0], [0.5, 0.25], [0.0, 0.0]], np.float32)
    folded = bnpp.fold_linear(weight, after=bnpp.Affine([0.5, -16.0, 3.0], np.zeros(3)))
    report = folded.report
    assert report.growth.tolist() == [0.5, 16.0, 1.0]
    assert report.range_growth == 8 / 2
    assert report.max_weight_change == 8.5
    assert report.weight_sum.round(6).tolist() == [1.5, 12.0, 0.0]
    assert report.terms == 2


def test_dead_channels():
    p = make(before=True)
    s, s_in = p.after.scale.copy(), p.before.scale.copy()
    s[[1, 4]] = 0
    s_in[2] = 0
    p = p._replace(after=bnpp.Affine(s, p.after.shift), before=bnpp.Affine(s_in, p.before.shift))
    folded = fold(p)
    assert folded.report.dead_channels == (1, 4)
    assert folded.report.dead_inputs == (2,)
    assert folded.report.growth[1] == 0
    assert not folded.weight[:, 2].any()
    assert difference(p, folded)[1] == np.abs(p.after.shift[1].astype("f4") - p.after.shift[1])
    assert "dead channels             2: 1, 4\ndead channels, inputs     1: 2" in str(folded.report)


def test_variances_of_both_sides():
    p = make()
    odd = bnpp.affine(None, None, np.zeros(4), np.array([0, 1, 6e-45, 0], "f4"))
    report = fold(p._replace(before=odd)).report
    assert (report.zero_variances, report.zero_variance_inputs) == ((), (0, 3))
    assert (report.denormal_variances, report.denormal_variance_inputs) == ((), (2,))


def test_terms_of_groups():
    assert fold(make(groups=2)).report.terms == 2 * 9
    assert fold(make("IOHW", transposed=True)).report.terms == 4 * 9
    assert fold(make("OI", 6, 4)).report.terms == 4


def test_to_dict_is_json():
    p = make(before=True)
    report = fold(p).report
    back = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert list(back) == [f.name for f in dataclasses.fields(report)]
    assert back["growth"] == report.growth.tolist()
    nan = fold(p._replace(after=bnpp.Affine(np.full(6, np.nan), np.zeros(6)))).report
    assert json.loads(json.dumps(nan.to_dict(), allow_nan=False))["max_weight_change"] is None


def test_it_is_a_value():
    report = fold(make()).report
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.terms = 3
    with pytest.raises(ValueError, match="read-only"):
        report.growth[0] = 1
    assert str(pickle.loads(pickle.dumps(report))) == str(report)


def test_table_stays_short():
    report = bnpp.fold_linear(
        np.ones((500, 1)), after=bnpp.Affine(np.zeros(500), np.zeros(500))
    ).report
    lines = str(report).splitlines()
    assert len(lines) == 8
    assert max(map(len, lines)) < 100


def test_constant_sum_knows_what_cancelled():
    """A mean far away leaves a small shift, but a runtime without folding adds large numbers."""
    bn = bnpp.affine([1.0], [1e6], mean=[1e6], var=[1.0], eps=0.0)
    assert (bn.shift[0], bn.magnitude[0]) == (0, 2e6)
    report = bnpp.fold_linear([[1.0]], after=bn).report
    assert report.constant_sum[0] == pytest.approx(2e6)
    apart = np.float32(1.25) - np.float32(1e6) + np.float32(1e6)
    assert abs(apart - 1.25) <= report.bound(1.25, unit_roundoff=2.0**-24)[0]


def test_reference_convolution_is_independent():
    """Against sums written out one by one, so that the tests' own oracle is held to account."""
    p = make("OIH", 2, 2, groups=2, after=False, before=False, kernel=2, size=4, stride=2, pad=1)
    y = convolution.layer(p, p.x, p.weight, p.bias)
    x = np.pad(p.x, ((0, 0), (0, 0), (1, 1)))
    for n in range(2):
        for o in range(2):
            for q in range(3):
                terms = [float(p.weight[o, 0, k]) * float(x[n, o, 2 * q + k]) for k in range(2)]
                assert y[n, o, q] == pytest.approx(float(p.bias[o]) + sum(terms), abs=1e-12)
