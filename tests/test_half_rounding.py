"""float16 and bfloat16, all bit patterns of them: the nearest neighbour of a float32 result."""

import bnpp
import numpy as np
import pytest
from helpers.halves import floats, order
from helpers.settings import agree


def all_values(half):
    """Every bit pattern there is."""
    return np.arange(2**16, dtype=np.uint16).view(half).reshape(256, 256)


def wide(array):
    """float64, with the infinities where the next value would be: 2**16 or 2**128."""
    top = 2.0**16 if array.dtype == np.float16 else 2.0**128
    values = floats(array)
    return np.where(np.isinf(values), np.copysign(top, values), values)


def assert_nearest(y, exact, off):
    """No neighbour of y is nearer to a value that is `off` the exact one at most."""
    half, number = y.dtype, order(y)
    top = order(np.array([np.inf], half))[0]
    distance = np.abs(wide(y) - exact)
    for step in (-1, 1):
        other = np.clip(number + step, -top, top)
        raw = np.where(other < 0, 2**15 - other, other).astype(np.uint16)
        # An exact value beyond the largest number is infinite whatever its distance.
        near = np.abs(wide(raw.view(half)) - exact) + 2 * off
        wrong = (distance > near) & (other != number)
        assert not wrong.any(), (
            f"{wrong.sum()} values, the first {y[wrong][0]} for {exact[wrong][0]}"
        )


SCALES = [
    (1.0, 0.0),
    (1.2345678901, 0.0),
    (1 / 3e3, 1e-9),
    (1.7, 0.3),
    (-3e4, 5.0),
    (1e-6, 0.0),
]
# These take some x away, wholly or but for little.
CANCELLING = [(1.0, -3.0), (1 / 3, -1.0), (1.2345678901, -2.469135), (-1e3, 7e3 + 1e-4)]


@pytest.mark.parametrize("layout", ["rows", "columns", "short planes"])
@pytest.mark.parametrize(("scale", "shift"), SCALES + CANCELLING)
def test_every_value_is_rounded_once_more_than_in_float32(scale, shift, layout, half):
    """Terms are rounded thrice, by 2**-24 of themselves; what is small beside them is not."""
    x = all_values(half)
    x = np.where(np.isfinite(floats(x)), x, half.type(1)).astype(half)
    x = x.reshape(256, 32, 8) if layout == "short planes" else x
    axis = 0 if layout == "rows" else 1
    one = np.ones(x.shape[axis])
    given = scale * one, shift * one, 0 * one, one
    y = agree(lambda: bnpp.batch_norm_inference(x, *given, axis=axis, eps=0.0))
    exact = x.astype(np.float64) * scale + shift
    size = np.abs(exact)
    lost = size * (2.0**9 if half == np.float16 else 2.0**12) < 0.999 * abs(shift)
    terms = np.where(lost, size, size + 2 * abs(shift))
    assert y.dtype == half
    assert lost.any() or (scale, shift) not in CANCELLING
    with np.errstate(over="ignore"):
        assert_nearest(y, exact.astype(np.float32).astype(np.float64), 2.0**-22 * terms)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("axis", [0, 1])
def test_nan_and_inf_are_kept(axis, activation, half):
    x, one = all_values(half), np.ones(256)
    keywords = {"axis": axis, "eps": 0.0, "activation": activation}
    y = agree(lambda: bnpp.batch_norm_inference(x, None, None, 0 * one, one, **keywords))
    values = floats(x)
    expected = np.maximum(values, 0) if activation else values
    assert np.array_equal(floats(y), expected, equal_nan=True)
    assert np.isnan(floats(y)).sum() == np.isnan(values).sum() > 0


def test_beyond_the_range_is_infinite():
    x = np.array([[1.0], [-1.0], [0.5]], np.float16)
    scale = np.array([65519.0]), np.array([65520.0])
    below, above = (
        agree(lambda s=s: bnpp.batch_norm_inference(x, s, None, np.zeros(1), np.ones(1), eps=0.0))
        for s in scale
    )
    assert below.ravel().tolist() == [65504, -65504, 32752]
    assert above.ravel().tolist() == [np.inf, -np.inf, 32768]
