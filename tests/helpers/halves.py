"""float16 and bfloat16: their values as numbers, and how near a result is to the exact one."""

import numpy as np
import pytest

from helpers.bits import bits

HALVES = ("float16", "bfloat16")


def dtype_of(name):
    """A dtype by its name; bfloat16 where ml_dtypes is installed."""
    if name == "bfloat16":
        reason = "bfloat16 is ml_dtypes', which is not installed"
        return np.dtype(pytest.importorskip("ml_dtypes", reason=reason).bfloat16)
    return np.dtype(name)


def floats(array):
    """The values as float64; ml_dtypes warns of a NaN that it casts."""
    with np.errstate(invalid="ignore"):
        return array.astype(np.float64)


def order(array):
    """Numbers of which neighbours are 1 apart; 0 and -0 are the same."""
    raw = bits(array).astype(np.int64)
    return np.where(raw < 2**15, raw, 2**15 - raw)


def assert_one_unit(actual, expected, half, name=""):
    """At most 1 unit in the last place from the wide result rounded to half."""
    assert actual.dtype == half, f"{name}: {actual.dtype}"
    assert actual.shape == expected.shape, name
    rounded = expected.astype(half)
    off = np.abs(order(actual) - order(rounded))
    assert np.isfinite(expected).all(), name
    assert off.max(initial=0) <= 1, f"{name}: {off.max()} units off, {(off > 1).sum()} values"
