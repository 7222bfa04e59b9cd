"""What float32 has no room for in one channel changes no bit of another, in whatever tile it lies."""

import bnpp
import numpy as np
import pytest
from bnpp import _core
from shapes import Case, cases

CASES = [
    Case((5, 40, 14, 14), 1, "planes as columns, mapped by runs"),
    Case((6, 40, 7, 7), 1, "short planes"),
    Case((7, 6, 28, 28), 1, "rows"),
    Case((40, 700), 1, "channels innermost, in groups"),
    Case((9, 64), 1, "channels innermost, in one run"),
]
TINY = 1e-34


@pytest.fixture(params=["float16", "bfloat16", "float32"])
def narrow(request):
    """The dtypes whose maps are float32 arithmetic."""
    if request.param == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(request.param)


def calls(x, dy, r, gamma, activation):
    """Outputs of every map of batch norm, as bits."""
    c = x.shape[1]
    stats = np.linspace(-1, 1, c), np.linspace(0.5, 2, c)
    keywords = {"activation": activation, "residual": r}
    y, saved = bnpp.batch_norm(x, gamma, None, **keywords)
    got = bnpp.batch_norm_backward(dy, saved)
    z, frozen = bnpp.batch_norm_inference(x, gamma, None, *stats, save=True, **keywords)
    through = bnpp.batch_norm_inference_backward(dy, frozen)
    outputs = (y, z, got.dx, through.dx)
    return [a.view(f"u{a.dtype.itemsize}") for a in outputs]


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("residual", [False, True])
@cases(CASES)
def test_a_tiny_scale_leaves_other_channels_alone(case, residual, activation, narrow, isa):
    rng = np.random.default_rng(3)
    x, dy, r = (rng.standard_normal(case.shape).astype(narrow) for _ in range(3))
    r = r if residual else None
    gamma = np.linspace(0.5, 1.5, case.shape[1])
    expected = calls(x, dy, r, gamma, activation)
    gamma[1] = TINY
    before = _core.set_stream_above(2**62)
    try:
        first = None
        # Fused, in memory order where that is done, and streamed.
        for above in (2**62, 4 * x.nbytes - (0 if residual else 1), 0):
            for threads in (1, 3):
                _core.set_stream_above(above)
                with bnpp.thread_limit(threads):
                    found = calls(x, dy, r, gamma, activation)
                first = first or found
                for a, b, same in zip(found, expected, first, strict=True):
                    assert np.array_equal(a, same), (above, threads)
                    others = np.delete(a, 1, axis=1), np.delete(b, 1, axis=1)
                    assert np.array_equal(*others), (above, threads)
    finally:
        _core.set_stream_above(before)


def test_bfloat16_terms_that_float32_has_no_room_for_cancel(isa):
    """x * scale is beyond float32, y is not."""
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    one = np.ones(2)
    for shape in ((40, 2), (3, 2, 40)):
        x = np.full(shape, 3e38).astype(bfloat16)
        y = bnpp.batch_norm_inference(x, 1.5 * one, None, 0 * one, one, eps=0.0, residual=-x)
        assert np.array_equal(y.astype(np.float64), 0.5 * x.astype(np.float64))
