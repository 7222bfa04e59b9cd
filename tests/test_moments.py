"""Contract 3: statistics merge. Parts in any order give the moments of the whole, to one ulp."""

import copy
import pickle

import bnpp
import numpy as np
import pytest
from bnpp import _core
from helpers.reference import assert_exact, moments
from helpers.settings import THREADS, agree
from helpers.shapes import CASES, Case, cases, data, lanes, within


def state(m):
    """The six arrays that make up a `Moments`."""
    return np.array([m.count, m.mean, m._mean_low, m.m2, m._m2_low, m.squared_weights])


def assert_one_ulp(a, b):
    """Equal to 1 ulp: of M2, and of the mean at the size of what it is a mean of."""
    assert np.all(np.abs(a.m2 - b.m2) <= np.spacing(b.m2))
    assert_mean_one_ulp(a, b)


def assert_mean_one_ulp(a, b):
    """Equal count, and a mean equal to 1 ulp at the size of what it is a mean of."""
    assert np.array_equal(a.count, b.count)
    # A mean that cancels to about 0 has no ulp of its own: the root mean square is its scale.
    scale = np.sqrt(b.mean**2 + b.m2 / b.count)
    assert np.all(np.abs(a.mean - b.mean) <= np.spacing(scale))


def check(case, dtype):
    """Count, mean and M2 against the reference."""
    x = data(case, dtype, mean=1e3)[0]
    m, (count, mean, m2) = bnpp.moments(x, axis=case.axis), moments(x, case.axis, np.longdouble)
    assert np.array_equal(m.count, np.full(x.shape[case.axis], count))
    assert m.channels == x.shape[case.axis]
    assert_exact(m.mean, mean, np.abs(mean), np.float64, "mean")
    assert_exact(m.m2, m2, m2, np.float64, "m2")


@cases(CASES)
def test_against_the_reference(case, dtype):
    check(case, dtype)


@lanes
def test_lengths_about_the_lane_width(lanes, dtype):
    for case in lanes:
        with within(case):
            check(case, dtype)


CUTS = {
    "rows": ((90, 5, 40), [1, 2, 17, 40, 89]),
    "cols": ((5000, 7), [1, 3, 700, 701, 4000]),
    "unequal": ((60001, 3), [1, 60000]),
}


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e4, 1e6])
@pytest.mark.parametrize("cut", CUTS)
def test_parts_in_any_order_equal_the_whole(cut, mean, dtype):
    shape, borders = CUTS[cut]
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(shape) + mean).astype(dtype)
    whole = bnpp.moments(x)
    parts = [bnpp.moments(p) for p in np.split(x, borders)]
    for _ in range(20):
        rng.shuffle(parts)
        left = parts[0]
        for p in parts[1:]:
            left = left.merge(p)
        assert_one_ulp(left, whole)
        half = len(parts) // 2
        assert_one_ulp(sum(parts[:half]) + sum(parts[half:]), whole)


def test_parts_of_very_different_means(dtype):
    """Blocks whose means are far apart, where the d**2*na*nb/n of the merge is nearly all of M2."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((64, 3, 100)) + 10.0 ** rng.uniform(-3, 6, (64, 1, 1))
    x = x.astype(dtype)
    whole = bnpp.moments(x)
    parts = [bnpp.moments(p) for p in np.split(x, 64)]
    for _ in range(10):
        rng.shuffle(parts)
        assert_one_ulp(sum(parts), whole)


def smooth(values, axis, by=0.95):
    """Neighbours along an axis that are alike, as in feature maps; mean and variance stay."""
    values = np.moveaxis(values, axis, 0).copy()
    for i in range(1, len(values)):
        values[i] = by * values[i - 1] + np.sqrt(1 - by**2) * values[i]
    return np.moveaxis(values, 0, axis)


FEW_DEVIATIONS = {
    "columns": lambda rng, n: rng.standard_normal((30 * n, 8)),
    "narrow columns": lambda rng, n: rng.standard_normal((100 * n, 3)),
    "short planes": lambda rng, n: rng.standard_normal((n, 8, 7, 7)),
    "planes": lambda rng, n: rng.standard_normal((n, 4, 40, 40)),
    "smooth columns": lambda rng, n: smooth(rng.standard_normal((30 * n, 8)), 0),
    "smooth short planes": lambda rng, n: smooth(smooth(rng.standard_normal((n, 8, 7, 7)), 2), 3),
    "smooth planes": lambda rng, n: smooth(smooth(rng.standard_normal((n, 4, 40, 40)), 2), 3),
}


@pytest.mark.parametrize("mean", [0, 1, 2, 3, 3.5, 4, 6, 10])
@pytest.mark.parametrize("kind", FEW_DEVIATIONS)
def test_means_of_a_few_standard_deviations(kind, mean, dtype):
    """Where 0 might do for a shift, and where values near the first ones are not like all others.

    Sums about a shift that is a standard deviation off have two units of rounding in a thousandth of short parts.
    """
    rng = np.random.default_rng(int(10 * mean))
    units = []
    for n in rng.integers(4, 40, 20):
        x = (FEW_DEVIATIONS[kind](rng, n) + mean).astype(dtype)
        whole, cut = bnpp.moments(x), rng.integers(1, len(x))
        for parts in ([x[:cut], x[cut:]], np.array_split(x, 4)):
            m = sum(map(bnpp.moments, parts))
            units.append(np.abs(m.m2 - whole.m2) / np.spacing(whole.m2))
            assert_mean_one_ulp(m, whole)
    units = np.concatenate(units)
    assert units.max() <= 2
    assert np.count_nonzero(units > 1) <= 1


@pytest.mark.parametrize("shape", [(2, 3, 40000), (70000, 3)])
def test_the_order_fixed_the_bits_are(shape, dtype):
    x = data(Case(shape, 1, ""), dtype, mean=1e5)[0]
    agree(lambda: state(sum(bnpp.moments(p, axis=1) for p in np.array_split(x, 2))), THREADS)


def test_merge_and_plus_make_new_ones(dtype):
    a, b = (bnpp.moments(data(CASES[0], dtype, seed)[0]) for seed in range(2))
    before = state(a), state(b)
    assert np.array_equal(state(a.merge(b)), state(a + b))
    assert np.array_equal(state(sum([a, b])), state(a + b))
    assert np.array_equal((state(a), state(b)), before)


def test_update_is_merge_in_place(dtype):
    x, y = (data(CASES[0], dtype, seed)[0] for seed in range(2))
    m = bnpp.moments(x)
    assert m.update(y) is m
    assert np.array_equal(state(m), state(bnpp.moments(x) + bnpp.moments(y)))
    m.update(np.moveaxis(y, 1, -1), axis=-1)
    assert np.array_equal(m.count, np.full(3, 3 * 140))


def test_empty_is_neutral(dtype):
    x = data(CASES[0], dtype)[0]
    m, empty = bnpp.moments(x), bnpp.Moments.empty(3)
    for other in (empty + m, m + empty, bnpp.Moments.empty(3).update(x), m.update(x[:0])):
        assert np.array_equal(state(other), state(m))
    both = empty + empty
    assert np.array_equal(state(both), np.zeros((6, 3)))


def test_var(dtype):
    x = data(CASES[0], dtype)[0]
    m = bnpp.moments(x)
    for unbiased in (False, True):
        expected = x.astype(np.longdouble).var((0, 2, 3), ddof=int(unbiased))
        assert_exact(m.var(unbiased=unbiased), expected, expected, np.float64)
    assert np.isnan(bnpp.Moments.empty(3).var()).all()
    single = bnpp.moments(np.ones((1, 3), dtype))
    assert np.array_equal(single.var(), np.zeros(3))
    assert np.isnan(single.var(unbiased=True)).all()


def test_from_arrays():
    m = bnpp.Moments(np.array([4.0, 2.0]), np.array([1.0, 2.0]), np.array([8.0, 6.0]))
    assert np.array_equal(m.var(), [2, 3])
    assert m.channels == 2
    assert np.array_equal((m + m).count, [8, 4])


def test_squared_weights(dtype):
    """The count where there are no weights; what makes the variance unbiased where there are."""
    x = data(CASES[0], dtype)[0]
    m = bnpp.moments(x)
    assert np.array_equal(m.squared_weights, m.count)
    assert np.array_equal((m + m).squared_weights, 2 * m.count)
    given = bnpp.Moments(4.0, [1.0, 2.0], [9.0, 6.0], [4.0, 16.0])
    assert np.array_equal(given.var(unbiased=True), [3, np.nan], equal_nan=True)
    for bad in (-1.0, [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="Moments: squared_weights"):
            bnpp.Moments(4.0, [1.0, 2.0], [9.0, 6.0], bad)


def test_pickles_from_before_weights():
    m = bnpp.moments(data(CASES[0])[0])
    make, (parts,) = m.__reduce__()
    old = make(parts[:5])
    assert np.array_equal(state(old), state(m))
    assert np.array_equal(state(old + m), state(m + m))


@pytest.mark.parametrize(
    "again", [lambda a: pickle.loads(pickle.dumps(a)), copy.copy, copy.deepcopy]
)
def test_pickles_and_copies(again, dtype):
    x = data(CASES[0], dtype, mean=1 / 3)[0]
    m = bnpp.moments(x)
    twin = again(m)
    before = state(m)
    assert np.array_equal(state(twin), before)
    twin.update(x)
    assert np.array_equal(state(m), before), "a copy shares nothing"


def test_repr_tells_what_it_holds():
    m = bnpp.moments(data(CASES[0])[0])
    assert repr(m).startswith("Moments(")
    assert "3" in repr(m)
    assert "140" in repr(m)


def test_a_refused_update_changes_nothing():
    m = bnpp.moments(data(CASES[0])[0])
    before = state(m)
    for bad in (np.ones((2, 4)), np.ones((2, 3), int), np.ones(3), "x", None):
        with pytest.raises((TypeError, ValueError), match=r"x|Moments"):
            m.update(bad)
        assert np.array_equal(state(m), before)
    with pytest.raises(ValueError, match=r"3 channels.*4|4 channels.*3"):
        m.merge(bnpp.Moments.empty(4))
    with pytest.raises(TypeError):
        m + 1


@pytest.mark.parametrize("axis", [1, -1])
def test_more_than_two_to_the_31_values(axis):
    """A stride-0 view of four values: mean 2.5 and variance 1.25, whatever the count."""
    values = np.array([1, 2, 3, 4], np.float32)
    rows = 2**29 + 3
    x = np.broadcast_to(values, (rows, 1, 4))
    m = bnpp.moments(x if axis == 1 else np.moveaxis(x, 1, -1), axis=axis)
    assert m.count[0] == 4 * rows
    assert m.mean[0] == 2.5
    assert m.m2[0] == 5 * rows


OUTLIERS = {
    "one": ((40000, 3), 1, 3e4),
    "the first rows": ((40000, 3), 16, 3e6),
    "a run's start": ((64, 3, 1111), 1, 3e4),
}


@pytest.mark.parametrize("case", OUTLIERS)
def test_a_shift_from_outliers_costs_no_digits(case):
    """The values the first shift is taken from may be far from all others."""
    shape, rows, by = OUTLIERS[case]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x[:rows] += by
    whole = bnpp.moments(x)
    m2 = moments(x, 1, np.longdouble)[2]
    assert np.all(np.abs(whole.m2 - m2) <= 2 * np.spacing(whole.m2))
    for cut in (1, 98, 1000):
        parts = bnpp.moments(x[:cut]) + bnpp.moments(x[cut:]) if cut < len(x) else whole
        assert np.all(np.abs(parts.m2 - whole.m2) <= 2 * np.spacing(whole.m2))


@pytest.mark.parametrize("parts", [(), (np.ones(2),), tuple(np.ones(k) for k in range(1, 7))])
def test_merging_what_is_no_moments_is_refused(parts):
    with pytest.raises(ValueError, match="merge_moments: a "):
        _core.merge_moments(parts, parts)
