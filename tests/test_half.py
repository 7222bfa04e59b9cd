"""float16 and bfloat16: within one unit in the last place of the wide result rounded to half."""

import itertools

import bnpp
import numpy as np
import pytest
from bnpp import _core
from reference import assert_exact, backward, forward, moments
from settings import every_setting
from shapes import ORDERS, Case, cases, channels_last, data, unaligned
from test_contract_bits import outputs
from test_streaming import at_offset

PARAMETERS = ["float16", "bfloat16", "float32", "float64"]
MEANS = [0.0, 1.0, 30.0, 1e3]

CASES = [
    Case((4, 3, 5, 7), 1, "small planes of odd length"),
    Case((3, 2, 40, 41), 1, "rows with a rest"),
    Case((37, 21), 1, "channels innermost"),
    Case((3, 6, 5, 19), -1, "channels last"),
    Case((5, 40, 7, 7), 1, "many short planes"),
    Case((6, 5, 30), 0, "channels outermost"),
]

# What one bit may depend on: rows, columns, short planes, several blocks each.
BITS = [
    Case((3, 2, 130, 127), 1, "rows of several blocks"),
    Case((9000, 19), 1, "columns, many blocks of rows"),
    Case((37, 129), 1, "columns, more than a stripe, rows at any address"),
    Case((6, 40, 7, 7), 1, "short planes"),
]


def dtype_of(name):
    """A dtype by its name; bfloat16 where ml_dtypes is installed."""
    if name == "bfloat16":
        reason = "bfloat16 is ml_dtypes', which is not installed"
        return np.dtype(pytest.importorskip("ml_dtypes", reason=reason).bfloat16)
    return np.dtype(name)


@pytest.fixture(params=["float16", "bfloat16"])
def half(request):
    """The dtypes of two bytes."""
    return dtype_of(request.param)


def bits(array):
    """The bits of the elements, as unsigned integers: -0 is not 0, and NaN is itself."""
    return array.view(f"u{array.dtype.itemsize}")


def floats(array):
    """The values as float64; ml_dtypes warns of a NaN that it casts."""
    with np.errstate(invalid="ignore"):
        return array.astype(np.float64)


def all_values(half):
    """Every bit pattern there is."""
    return np.arange(2**16, dtype=np.uint16).view(half).reshape(256, 256)


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
def test_every_value_is_rounded_once_more_than_in_float32(scale, shift, layout, half, isa):
    """Terms are rounded thrice, by 2**-24 of themselves; what is small beside them is not."""
    x = all_values(half)
    x = np.where(np.isfinite(floats(x)), x, half.type(1)).astype(half)
    x = x.reshape(256, 32, 8) if layout == "short planes" else x
    axis = 0 if layout == "rows" else 1
    one = np.ones(x.shape[axis])
    y = bnpp.batch_norm_inference(x, scale * one, shift * one, 0 * one, one, axis=axis, eps=0.0)
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
def test_nan_and_inf_are_kept(axis, activation, half, isa):
    x, one = all_values(half), np.ones(256)
    y = bnpp.batch_norm_inference(
        x, None, None, 0 * one, one, axis=axis, eps=0.0, activation=activation
    )
    values = floats(x)
    expected = np.maximum(values, 0) if activation else values
    assert np.array_equal(floats(y), expected, equal_nan=True)
    assert np.isnan(floats(y)).sum() == np.isnan(values).sum() > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_value_spoils_its_channel_only(value, half, isa):
    x, gamma, beta, _, dy = data(CASES[0], half)
    expected = bnpp.batch_norm(x, gamma, beta)[0]
    x[1, 2, 3, 4] = value
    y, saved = bnpp.batch_norm(x, gamma, beta)
    got = bnpp.batch_norm_backward(dy, saved)
    assert np.isnan(floats(y[:, 2])).all()
    assert np.isnan(floats(got.dx[:, 2])).all()
    assert np.array_equal(bits(y[:, :2].copy()), bits(expected[:, :2].copy()))
    assert np.isfinite(floats(got.dx[:, :2])).all()


def test_beyond_the_range_is_infinite(isa):
    x = np.array([[1.0], [-1.0], [0.5]], np.float16)
    scale = np.array([65519.0]), np.array([65520.0])
    below, above = (
        bnpp.batch_norm_inference(x, s, None, np.zeros(1), np.ones(1), eps=0.0) for s in scale
    )
    assert below.ravel().tolist() == [65504, -65504, 32752]
    assert above.ravel().tolist() == [np.inf, -np.inf, 32768]


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
@cases(CASES)
def test_against_the_reference(case, frozen, activation, residual, mean, half):
    """In every layout, with every epilogue, also where half has few values about the mean."""
    x, gamma, beta, r, dy = data(case, half, mean=mean)
    keywords = {"axis": case.axis, "activation": activation}
    seen = {**keywords, "residual": r if residual else None}
    exact = {**keywords, "residual": r.astype("f4") if residual else None}
    x4, dy4, gamma4, beta4 = (a.astype(np.float32) for a in (x, dy, gamma, beta))
    if frozen:
        given = (mean + beta4, 4 * gamma4**2)
        f = forward(x4, gamma4, beta4, mean=given[0], var=given[1], **exact)
        y, saved = bnpp.batch_norm_inference(x, gamma, beta, *given, save=True, **seen)
        got = bnpp.batch_norm_inference_backward(dy, saved)
    else:
        f = forward(x4, gamma4, beta4, **exact)
        y, saved = bnpp.batch_norm(x, gamma, beta, **seen)
        got = bnpp.batch_norm_backward(dy, saved)
    assert_one_unit(y, f.y, half, "y")
    std = np.sqrt(f.var)
    assert_exact(saved.mean, f.mean, abs(f.mean) + std, np.float32, "mean")
    assert_exact(saved.var, f.var, f.var, np.float32, "var")
    assert_exact(saved.inv_std, f.inv_std, f.inv_std, np.float32, "inv_std")
    expected = backward(dy4, f, gamma4, axis=case.axis, frozen=frozen)
    for name in got._fields:
        wanted = getattr(expected, name)
        if name in ("dx", "dresidual"):
            assert_one_unit(getattr(got, name), wanted, half, name)
        else:
            assert_exact(getattr(got, name), wanted, expected.sizes[name], np.float32, name)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("mean", [0.0, 3.0])
@cases([*CASES, Case((9, 1024), 1, "columns that are one run"), Case((40, 600), 1, "long rows")])
def test_gradients_that_cancel(case, mean, activation, half, isa):
    """dy = x leaves of dx what eps makes of it: every element is small beside its terms."""
    x, gamma, beta, _, _ = data(case, half, mean=mean)
    x4, gamma4, beta4 = (a.astype(np.float32) for a in (x, gamma, beta))
    f = forward(x4, gamma4, beta4, axis=case.axis, activation=activation)
    _, saved = bnpp.batch_norm(x, gamma, beta, axis=case.axis, activation=activation)
    got = bnpp.batch_norm_backward(x, saved)
    assert_one_unit(got.dx, backward(x4, f, gamma4, axis=case.axis).dx, half, "dx")


@pytest.mark.parametrize("stream", [False, True], ids=["stored", "streamed"])
@cases([*CASES, Case((9, 1024), 1, "columns that are one run"), Case((40, 600), 1, "long rows")])
def test_outputs_that_cancel(case, stream, half, isa):
    """beta and residual take away most of x, wherever the kernel finds a channel's parameters."""
    x = data(case, half)[0]
    channels = x.shape[case.axis]
    shape = [1] * x.ndim
    shape[case.axis] = channels
    scale, beta = np.linspace(0.7, 1.9, channels), np.linspace(-2, 2, channels)
    r = -floats(x) * scale.reshape(shape) * (1 + 2.0**-10)
    r = r.astype(half)
    given = np.zeros(channels), np.ones(channels)
    before = _core.set_stream_above(0 if stream else 2**62)
    try:
        y = bnpp.batch_norm_inference(x, scale, beta, *given, axis=case.axis, eps=0.0, residual=r)
    finally:
        _core.set_stream_above(before)
    exact = floats(x) * scale.reshape(shape) + (beta.reshape(shape) + floats(r))
    assert_one_unit(y, exact, half)


@pytest.mark.parametrize("mean", MEANS)
@cases(CASES)
def test_moments_are_exact(case, mean, half):
    x = data(case, half, mean=mean)[0]
    m = bnpp.moments(x, axis=case.axis)
    count, expected, m2 = moments(x.astype(np.float32), case.axis, np.longdouble)
    assert np.array_equal(m.count, np.full(len(m.count), count))
    size = np.abs(expected) + np.sqrt(m2 / count)
    assert_exact(m.mean, expected, size, np.float64, "mean")
    assert_exact(m.m2, m2, m2, np.float64, "m2")


@pytest.mark.parametrize("memory", sorted(ORDERS.keys() - {"broadcast"}))
def test_any_memory_order(memory, half):
    x, gamma, beta, r, dy = data(CASES[0], half)
    expected = outputs(x, gamma, beta, r, dy, 1)
    x, r, dy = (ORDERS[memory](a) for a in (x, r, dy))
    found = outputs(x, gamma, beta, r, dy, 1)
    for a, b in zip(expected, found, strict=True):
        assert_exact_or_same(a, b)
    assert bnpp.batch_norm(x)[0].strides == np.empty_like(x).strides


def assert_exact_or_same(a, b):
    """Another memory order sums in another order: half shows none of it, the statistics a little."""
    if a.dtype.itemsize == 2:
        assert np.abs(order(a.copy()) - order(b.copy())).max() <= 1
    else:
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_any_dtype(name, half):
    x, gamma, beta, _, dy = data(CASES[0], half)
    given = [a.astype(dtype_of(name)) for a in (gamma, beta)]
    given += [given[1], given[0] * given[0]]
    same = [a.astype(np.float64) for a in given]
    for take in (2, 4):
        call = bnpp.batch_norm if take == 2 else bnpp.batch_norm_inference
        keywords = {} if take == 2 else {"save": True}
        back = bnpp.batch_norm_backward if take == 2 else bnpp.batch_norm_inference_backward
        (y, saved), (z, kept) = (call(x, *p[:take], **keywords) for p in (given, same))
        assert np.array_equal(bits(y), bits(z))
        for a, b in zip(back(dy, saved), back(dy, kept), strict=True):
            assert np.array_equal(bits(a), bits(b))


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_half_parameters_of_wider_data(name, half):
    x, gamma, beta, _, _ = data(CASES[0], np.dtype(name))
    gamma, beta = gamma.astype(half), beta.astype(half)
    expected = bnpp.batch_norm(x, gamma.astype(x.dtype), beta.astype(x.dtype))[0]
    assert np.array_equal(bnpp.batch_norm(x, gamma, beta)[0], expected)


def assert_same_bits(found, expected, where):
    """Every array of both lists."""
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.dtype == b.dtype
        assert np.array_equal(*(bits(np.ascontiguousarray(c)) for c in (a, b))), (
            f"output {i} differs: {where}"
        )


@pytest.mark.parametrize("stream", [False, True], ids=["stored", "streamed"])
@cases(BITS)
def test_same_bits_with_every_setting(case, stream, half):
    inputs = data(case, half, mean=30.0)
    expected = outputs(*inputs, case.axis)
    before = _core.set_stream_above(0 if stream else 2**62)
    try:
        for setting in every_setting():
            assert_same_bits(outputs(*inputs, case.axis), expected, setting)
    finally:
        _core.set_stream_above(before)


@pytest.mark.parametrize("stream", [False, True], ids=["stored", "streamed"])
@cases(BITS)
def test_same_bits_at_every_address(case, stream, half, isa):
    x, gamma, beta, residual, dy = data(case, half, mean=30.0)
    expected = outputs(x, gamma, beta, residual, dy, case.axis)
    before = _core.set_stream_above(0 if stream else 2**62)
    try:
        for offset in (0, 1, 5, 16, 31):
            (m1, out), (m2, dx) = (at_offset(x.shape, half, offset) for _ in range(2))
            found = outputs(x, gamma, beta, residual, dy, case.axis, out=out, dx=dx)
            assert_same_bits(found, expected, f"out {offset} elements after a line")
            for memory, used in ((m1, out), (m2, dx)):
                start = used.ctypes.data - memory.ctypes.data
                beside = np.delete(memory, slice(start, start + used.nbytes))
                assert (beside == 0xAA).all(), "something beside out was written"
        moved = [unaligned(a) for a in (x, gamma, beta, residual, dy)]
        found = outputs(*moved, case.axis, out=unaligned(x), dx=unaligned(x))
        assert_same_bits(found, expected, "unaligned")
    finally:
        _core.set_stream_above(before)


def test_in_place(half, isa):
    for case, last in itertools.product(BITS, (False, True)):
        x, gamma, beta, _, dy = data(case, half)
        if last and case.axis == 1:
            x, dy = channels_last(x), channels_last(dy)
        y, saved = bnpp.batch_norm(x, gamma, beta, axis=case.axis, activation="relu")
        expected = [y, bnpp.batch_norm_backward(dy.copy(order="K"), saved).dx]
        dx = bnpp.batch_norm_backward(dy, saved, out=dy).dx
        y = bnpp.batch_norm(x, gamma, beta, axis=case.axis, activation="relu", out=x)[0]
        assert_same_bits([y, dx], expected, case)


def refusal(call):
    """The one sentence of a TypeError."""
    with pytest.raises(TypeError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_other_byte_orders_are_refused(half):
    x = np.ones((3, 4), half)
    swapped = (
        x.astype(half.newbyteorder("S")) if half == np.float16 else x.view(half.newbyteorder("S"))
    )
    saved = bnpp.batch_norm(np.ones((3, 4), half))[1]
    stats = np.zeros(4), np.ones(4)
    for name, call in {
        "batch_norm: x": lambda: bnpp.batch_norm(swapped),
        "batch_norm: gamma": lambda: bnpp.batch_norm(x, swapped[0]),
        "batch_norm: residual": lambda: bnpp.batch_norm(x, residual=swapped),
        "batch_norm: out": lambda: bnpp.batch_norm(x, out=swapped),
        "batch_norm_inference: x": lambda: bnpp.batch_norm_inference(swapped, None, None, *stats),
        "batch_norm_backward: dy": lambda: bnpp.batch_norm_backward(swapped, saved),
        "moments: x": lambda: bnpp.moments(swapped),
    }.items():
        message = refusal(call)
        assert message.startswith(f"{name} has dtype >"), message
        assert message.endswith("(byte-swapped), but native byte order is needed")
    assert (x == 1).all()


def test_the_two_are_not_mixed():
    x = np.ones((3, 4), np.float16)
    other = x.astype(dtype_of("bfloat16"))
    saved = bnpp.batch_norm(x)[1]
    for name, call in {
        "out": lambda: bnpp.batch_norm(x, out=other),
        "residual": lambda: bnpp.batch_norm(x, residual=other),
        "dy": lambda: bnpp.batch_norm_backward(other, saved),
    }.items():
        message = refusal(call)
        assert name in message
        assert "bfloat16" in message
        assert "float16" in message.replace("bfloat16", "")


@pytest.mark.parametrize("dtype", ["V2", "u2", "i2"])
def test_bits_of_bfloat16_are_not_taken_for_it(dtype):
    """An array of bfloat16 that was saved with numpy.save is loaded as V2."""
    message = refusal(lambda: bnpp.batch_norm(np.zeros((3, 4), dtype)))
    assert message.endswith(", but float16, bfloat16, float32 or float64 is needed")


class NoNumPy:
    """A tensor of a dtype that NumPy has not, as other libraries answer it."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType")


TOLD = (
    "has dtype {}, which NumPy does not have, but an array of float16, float32, float64 or "
    "ml_dtypes.bfloat16 is needed"
)


@pytest.mark.parametrize("text", ["bfloat16", "lib.bfloat16", "<dtype: 'bfloat16'>"])
def test_bfloat16_of_other_libraries(text):
    message = refusal(lambda: bnpp.batch_norm(NoNumPy(text)))
    assert message == f"batch_norm: x (NoNumPy) {TOLD.format(text)}"
    assert "Got unsupported" in refusal(lambda: bnpp.batch_norm(NoNumPy("lib.float8")))


def test_torch_tensors(half):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, gamma, _, _, _ = data(CASES[0], half)
    expected = bnpp.batch_norm(x, gamma)[0]
    if half == np.float16:
        found = bnpp.batch_norm(torch.from_numpy(x), torch.from_numpy(gamma))[0]
        assert np.array_equal(bits(found), bits(expected))
        return
    tensor = torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    told = TOLD.format("torch.bfloat16")
    for name, call in {
        "batch_norm: x": lambda: bnpp.batch_norm(tensor),
        "batch_norm: gamma": lambda: bnpp.batch_norm(x, tensor[0, :, 0, 0]),
        "moments: x": lambda: bnpp.moments(tensor),
        "batch_norm: residual": lambda: bnpp.batch_norm(x, residual=tensor),
    }.items():
        assert refusal(call) == f"{name} (Tensor) {told}"
    found = bnpp.batch_norm(tensor.view(torch.int16).numpy().view(half), gamma)[0]
    assert np.array_equal(bits(found), bits(expected))
