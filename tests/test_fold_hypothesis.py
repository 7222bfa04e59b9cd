"""Layers that nobody thought of: any rank, groups, layout, bias, sides and geometry."""

import bnpp
import numpy as np
import pytest
from helpers.fold_cases import assert_folds, make

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st

# The same examples on every run: what fails here can be run again.
examples = settings(max_examples=250, deadline=None, derandomize=True, database=None)


@st.composite
def problems(draw):
    """A convolution of any kind with maps ahead of it, behind it or both."""
    kernel = "DHW"[3 - draw(st.integers(1, 3)) :]
    transposed = draw(st.booleans())
    groups, per_output, per_input = (draw(st.integers(1, 3)) for _ in range(3))
    letters = draw(st.permutations("OI" + kernel + "G" * draw(st.booleans())))
    after, before = draw(st.sampled_from([(True, False), (False, True), (True, True)]))
    side = draw(st.integers(1, 3))
    p = make(
        "".join(letters),
        groups * per_output,
        groups * per_input,
        groups=groups,
        transposed=transposed,
        bias=draw(st.booleans()),
        after=after,
        before=before,
        dtype=np.dtype(draw(st.sampled_from(["f4", "f8"]))),
        kernel=side,
        size=draw(st.integers(2 * side - 1, 6)),
        seed=draw(st.integers(0, 2**32)),
        stride=draw(st.integers(1, 3)),
        dilation=draw(st.integers(1, 2)),
        pad=draw(st.integers(0, 1)) if side > 1 else 0,
    )
    if before and transposed:
        p = p._replace(before=bnpp.Affine(p.before.scale, np.zeros(p.before.channels)))
    return p


@examples
@given(problems())
def test_any_convolution(p):
    shifted = p.before is not None and p.before.shift.any()
    if shifted and p.pad:
        with pytest.raises(ValueError, match="zeros of the padding"):
            assert_folds(p)
        assert_folds(p, padding="pad_value")
    else:
        assert_folds(p)


@examples
@given(st.data())
def test_any_linear(data):
    sizes = [data.draw(st.integers(1, 20)) for _ in range(2)]
    p = make(
        data.draw(st.sampled_from(["OI", "IO"])),
        *sizes,
        bias=data.draw(st.booleans()),
        before=data.draw(st.booleans()),
        dtype=np.dtype(data.draw(st.sampled_from(["f4", "f8"]))),
        seed=data.draw(st.integers(0, 2**32)),
    )
    assert_folds(p)


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@examples
@given(st.lists(st.tuples(finite, finite, finite, finite), min_size=1, max_size=6))
def test_any_numbers(rows):
    """Whatever the values: the bound holds, or the fold is refused because a result overflows."""
    weight, scale, shift, bias = np.array(rows, np.float32).T
    after = bnpp.Affine(scale, shift)
    largest = np.abs(after.scale) * np.maximum(np.abs(weight), np.abs(bias)) + np.abs(after.shift)
    try:
        folded = bnpp.fold_linear(weight[:, None], bias, after=after)
    except ValueError:
        assert largest.max() > np.finfo("f4").max, "refused without need"
        return
    wide = np.longdouble
    error = np.abs(after.scale.astype(wide) * weight - folded.weight[:, 0])
    assert np.all(error <= folded.report.weight_rounding)
    exact = after.scale.astype(wide) * bias + after.shift
    # The reference itself has 64 bits.
    slack = 2.0**-63 * (np.abs(after.scale * bias) + np.abs(after.shift))
    assert np.all(np.abs(exact - folded.bias) <= folded.report.bias_rounding + slack)
