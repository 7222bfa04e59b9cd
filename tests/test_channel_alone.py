"""What float32 has no room for in one channel changes no bit of another, in whatever tile it lies."""

import bnpp
import numpy as np
import pytest
from bnpp import _core
from helpers.bits import bits
from helpers.halves import HALVES, dtype_of
from helpers.settings import agree
from helpers.shapes import Case, cases

CASES = [
    Case((5, 40, 14, 14), 1, "planes as columns, mapped by runs"),
    Case((6, 40, 7, 7), 1, "short planes"),
    Case((7, 6, 28, 28), 1, "rows"),
    Case((40, 700), 1, "channels innermost, in groups"),
    Case((9, 64), 1, "channels innermost, in one run"),
]
TINY = 1e-34


def calls(x, dy, r, gamma, activation):
    """Outputs of every map of batch norm, as bits."""
    c = x.shape[1]
    stats = np.linspace(-1, 1, c), np.linspace(0.5, 2, c)
    keywords = {"activation": activation, "residual": r}
    y, saved = bnpp.batch_norm(x, gamma, None, **keywords)
    got = bnpp.batch_norm_backward(dy, saved)
    z, frozen = bnpp.batch_norm_inference(x, gamma, None, *stats, save=True, **keywords)
    through = bnpp.batch_norm_inference_backward(dy, frozen)
    return [bits(a) for a in (y, z, got.dx, through.dx)]


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("narrow", [*HALVES, "float32"])
@cases(CASES)
def test_a_tiny_scale_leaves_other_channels_alone(case, narrow, residual, activation):
    """For the dtypes whose maps are float32 arithmetic."""
    narrow = dtype_of(narrow)
    rng = np.random.default_rng(3)
    x, dy, r = (rng.standard_normal(case.shape).astype(narrow) for _ in range(3))
    r = r if residual else None
    gamma = np.linspace(0.5, 1.5, case.shape[1])
    tiny = np.where(np.arange(len(gamma)) == 1, TINY, gamma)
    expected = calls(x, dy, r, gamma, activation)

    def found():
        return calls(x, dy, r, tiny, activation)

    first = found()
    # Fused, in memory order where that is done, and streamed.
    for above in (2**62, 4 * x.nbytes - (0 if residual else 1), 0):
        _core.set_stream_above(above)
        for a, b, once in zip(agree(found, (1, 3)), expected, first, strict=True):
            assert np.array_equal(a, once), above
            assert np.array_equal(np.delete(a, 1, axis=1), np.delete(b, 1, axis=1)), above


def test_bfloat16_terms_that_float32_has_no_room_for_cancel(isa):
    """x * scale is beyond float32, y is not."""
    bfloat16 = dtype_of("bfloat16")
    one = np.ones(2)
    for shape in ((40, 2), (3, 2, 40)):
        x = np.full(shape, 3e38).astype(bfloat16)
        y = bnpp.batch_norm_inference(x, 1.5 * one, None, 0 * one, one, eps=0.0, residual=-x)
        assert np.array_equal(y.astype(np.float64), 0.5 * x.astype(np.float64))
