"""float16 and bfloat16: within one unit in the last place of the wide result rounded to half."""

from itertools import product

import bnpp
import numpy as np
import pytest
from bnpp import _core
from helpers.addresses import assert_untouched_beside, at_offset, unaligned
from helpers.bits import outputs, same
from helpers.halves import assert_one_unit, dtype_of, floats, order
from helpers.reference import assert_exact, backward, forward, moments
from helpers.settings import THREADS, agree
from helpers.shapes import ORDERS, Case, cases, channels_last, data, within

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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_value_spoils_its_channel_only(value, half):
    x, gamma, beta, _, dy = data(CASES[0], half)
    expected = bnpp.batch_norm(x, gamma, beta)[0]
    x[1, 2, 3, 4] = value

    def call():
        y, saved = bnpp.batch_norm(x, gamma, beta)
        return y, bnpp.batch_norm_backward(dy, saved).dx

    y, dx = agree(call)
    assert np.isnan(floats(y[:, 2])).all()
    assert np.isnan(floats(dx[:, 2])).all()
    same(y[:, :2], expected[:, :2])
    assert np.isfinite(floats(dx[:, :2])).all()


@pytest.mark.parametrize("mean", MEANS)
@cases(CASES)
def test_against_the_reference(case, mean, half):
    """In every layout and mode, with every epilogue, also where half has few values about the mean."""
    for frozen, activation, residual in product((False, True), (None, "relu"), (False, True)):
        with within(f"frozen {frozen}", activation, f"residual {residual}"):
            check(case, frozen, activation, residual, mean, half)


def check(case, frozen, activation, residual, mean, half):
    """Forward, backward and statistics of one call."""
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
def test_gradients_that_cancel(case, mean, activation, half):
    """dy = x leaves of dx what eps makes of it: every element is small beside its terms."""
    x, gamma, beta, _, _ = data(case, half, mean=mean)
    x4, gamma4, beta4 = (a.astype(np.float32) for a in (x, gamma, beta))
    f = forward(x4, gamma4, beta4, axis=case.axis, activation=activation)
    _, saved = bnpp.batch_norm(x, gamma, beta, axis=case.axis, activation=activation)
    dx = agree(lambda: bnpp.batch_norm_backward(x, saved).dx)
    assert_one_unit(dx, backward(x4, f, gamma4, axis=case.axis).dx, half, "dx")


@pytest.mark.parametrize("stream", [False, True], ids=["stored", "streamed"])
@cases([*CASES, Case((9, 1024), 1, "columns that are one run"), Case((40, 600), 1, "long rows")])
def test_outputs_that_cancel(case, stream, half):
    """beta and residual take away most of x, wherever the kernel finds a channel's parameters."""
    x = data(case, half)[0]
    channels = x.shape[case.axis]
    shape = [1] * x.ndim
    shape[case.axis] = channels
    scale, beta = np.linspace(0.7, 1.9, channels), np.linspace(-2, 2, channels)
    r = -floats(x) * scale.reshape(shape) * (1 + 2.0**-10)
    r = r.astype(half)
    given = np.zeros(channels), np.ones(channels)
    _core.set_stream_above(0 if stream else 2**62)
    keywords = {"axis": case.axis, "eps": 0.0, "residual": r}
    y = agree(lambda: bnpp.batch_norm_inference(x, scale, beta, *given, **keywords))
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
    wide = [a.astype(np.float64) for a in given]
    for take in (2, 4):
        call = bnpp.batch_norm if take == 2 else bnpp.batch_norm_inference
        keywords = {} if take == 2 else {"save": True}
        back = bnpp.batch_norm_backward if take == 2 else bnpp.batch_norm_inference_backward
        (y, saved), (z, kept) = (call(x, *p[:take], **keywords) for p in (given, wide))
        same(y, z)
        same(back(dy, saved), back(dy, kept))


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_half_parameters_of_wider_data(name, half):
    x, gamma, beta, _, _ = data(CASES[0], np.dtype(name))
    gamma, beta = gamma.astype(half), beta.astype(half)
    expected = bnpp.batch_norm(x, gamma.astype(x.dtype), beta.astype(x.dtype))[0]
    assert np.array_equal(bnpp.batch_norm(x, gamma, beta)[0], expected)


@pytest.mark.parametrize("stream", [False, True], ids=["stored", "streamed"])
@cases(BITS)
def test_same_bits_with_every_setting(case, stream, half):
    inputs = data(case, half, mean=30.0)
    expected = outputs(*inputs, case.axis)
    _core.set_stream_above(0 if stream else 2**62)
    same(expected, agree(lambda: outputs(*inputs, case.axis), THREADS), "streamed or not")


@pytest.mark.parametrize("stream", [False, True], ids=["stored", "streamed"])
@cases(BITS)
def test_same_bits_at_every_address(case, stream, half, isa):
    x, gamma, beta, residual, dy = data(case, half, mean=30.0)
    expected = outputs(x, gamma, beta, residual, dy, case.axis)
    _core.set_stream_above(0 if stream else 2**62)
    for offset in (0, 1, 5, 16, 31):
        (m1, out), (m2, dx) = (at_offset(x.shape, half, offset) for _ in range(2))
        found = outputs(x, gamma, beta, residual, dy, case.axis, out=out, dx=dx)
        same(expected, found, f"out {offset} elements after a line")
        assert_untouched_beside(m1, out)
        assert_untouched_beside(m2, dx)
    moved = [unaligned(a) for a in (x, gamma, beta, residual, dy)]
    found = outputs(*moved, case.axis, out=unaligned(x), dx=unaligned(x))
    same(expected, found, "unaligned")


def test_in_place(half, isa):
    for case, last in product(BITS, (False, True)):
        x, gamma, beta, _, dy = data(case, half)
        if last and case.axis == 1:
            x, dy = channels_last(x), channels_last(dy)
        y, saved = bnpp.batch_norm(x, gamma, beta, axis=case.axis, activation="relu")
        expected = [y, bnpp.batch_norm_backward(dy.copy(order="K"), saved).dx]
        dx = bnpp.batch_norm_backward(dy, saved, out=dy).dx
        y = bnpp.batch_norm(x, gamma, beta, axis=case.axis, activation="relu", out=x)[0]
        same(expected, [y, dx], case)


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


def with_torch():
    """PyTorch, or skip."""
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def test_torch_tensors_of_float16():
    torch = with_torch()
    x, gamma, _, _, _ = data(CASES[0], np.float16)
    found = bnpp.batch_norm(torch.from_numpy(x), torch.from_numpy(gamma))[0]
    same(bnpp.batch_norm(x, gamma)[0], found)


def test_torch_tensors_of_bfloat16():
    """NumPy has no such dtype, so they need a view; the message tells of it."""
    torch, half = with_torch(), dtype_of("bfloat16")
    x, gamma, _, _, _ = data(CASES[0], half)
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
    same(bnpp.batch_norm(x, gamma)[0], found)
