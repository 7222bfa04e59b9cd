"""Which arrays are taken as they lie, what order the outputs have, and the rules of out=."""

import mmap

import bnpp
import numpy as np
import pytest
from helpers.addresses import unaligned
from helpers.reference import assert_exact, backward, forward, moments
from helpers.shapes import ORDERS, Case, data

CASE = Case((4, 5, 6, 7), 1, "no two lengths alike")


def check(x, gamma, beta, residual, dy, axis):
    """Every operation on these very arrays against the reference; returns y and dx."""
    dtype, copies = x.dtype, [np.array(a) for a in (x, residual, dy)]
    f = forward(copies[0], gamma, beta, axis=axis, residual=copies[1], activation="relu")
    expected = backward(copies[2], f, gamma, axis=axis)
    keywords = {"axis": axis, "residual": residual, "activation": "relu"}
    y, saved = bnpp.batch_norm(x, gamma, beta, **keywords)
    assert_exact(y, f.y, f.size, dtype, "y")
    got = bnpp.batch_norm_backward(dy, saved)
    for name in ("dx", "dgamma", "dbeta", "dresidual"):
        size = expected.sizes[name]
        assert_exact(getattr(got, name), getattr(expected, name), size, dtype, name)
    frozen = forward(copies[0], gamma, beta, axis=axis, mean=beta, var=gamma**2)
    z = bnpp.batch_norm_inference(x, gamma, beta, beta, gamma**2, axis=axis)
    assert_exact(z, frozen.y, frozen.size, dtype, "inference")
    m, (_, mean, m2) = bnpp.moments(x, axis=axis), moments(copies[0], axis, np.longdouble)
    assert_exact(m.mean, mean, np.abs(mean) + np.sqrt(f.var), name="moments.mean")
    assert_exact(m.m2, m2, m2, name="moments.m2")
    for before, after in zip(copies, (x, residual, dy), strict=True):
        assert np.array_equal(before, after)
    return y, z, got.dx


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("axis", [0, 1, 3])
def test_orders(order, axis, dtype):
    x, gamma, beta, residual, dy = data(CASE._replace(axis=axis), dtype)
    x = ORDERS[order](x)
    for out in check(x, gamma, beta, ORDERS[order](residual), ORDERS[order](dy), axis):
        if 0 not in x.strides:
            assert out.strides == np.empty_like(x).strides, "the output keeps the memory order"


@pytest.mark.parametrize("order", ORDERS)
def test_orders_mixed(order, dtype):
    """x in C order, the others not; and the other way round."""
    x, gamma, beta, residual, dy = data(CASE, dtype)
    other = [ORDERS[order](a) for a in (x, residual, dy)]
    y, _, dx = check(x, gamma, beta, *other[1:], 1)
    assert y.flags.c_contiguous
    assert dx.flags.c_contiguous
    check(other[0], gamma, beta, residual, dy, 1)


@pytest.mark.parametrize("axis", range(-8, 8))
def test_eight_dimensions_permuted(axis, dtype):
    x, gamma, beta, residual, dy = data(Case((2, 3, 1, 2, 3, 2, 2, 2), axis, ""), dtype)
    turn = np.random.default_rng(axis % 8).permutation(8)
    seen = [np.transpose(np.ascontiguousarray(np.transpose(a, turn)), np.argsort(turn)) for a in
            (x, residual, dy)]  # fmt: skip
    check(seen[0], gamma, beta, *seen[1:], axis)


@pytest.mark.parametrize("order", sorted(ORDERS.keys() - {"broadcast", "read_only"}))
def test_out_of_any_order(order, dtype):
    x, gamma, beta, _, dy = data(CASE, dtype)
    expected, saved = bnpp.batch_norm(x, gamma, beta)
    gradients = bnpp.batch_norm_backward(dy, saved)
    out = ORDERS[order](np.zeros_like(x))
    y, _ = bnpp.batch_norm(x, gamma, beta, out=out)
    assert y is out
    assert np.array_equal(out, expected)
    out[...] = 0
    assert bnpp.batch_norm_backward(dy, saved, out=out).dx is out
    assert np.array_equal(out, gradients.dx)
    out[...] = 0
    assert bnpp.batch_norm_inference(x, gamma, beta, beta, gamma, out=out) is out
    assert np.array_equal(out, bnpp.batch_norm_inference(x, gamma, beta, beta, gamma))


def test_out_leaves_the_gaps_alone(dtype):
    x, gamma, beta, _, _ = data(CASE, dtype)
    big = np.full((4, 5, 6, 15), 7, dtype)
    bnpp.batch_norm(x, gamma, beta, out=big[..., 1::2])
    assert np.array_equal(big[..., 0::2], np.full((4, 5, 6, 8), 7))


@pytest.mark.parametrize("order", ["c", "channels_last", "gaps", "negative", "unaligned"])
def test_in_place(order, dtype):
    x, gamma, beta, _, dy = data(CASE, dtype)
    x = ORDERS[order](x)
    expected, _ = bnpp.batch_norm(x, gamma, beta)
    y, saved = bnpp.batch_norm(x, gamma, beta, out=x[:])
    assert np.array_equal(x, expected)
    assert np.shares_memory(x, y)
    assert "x was overwritten" in saved.reason
    with pytest.raises(ValueError, match=r"batch_norm_backward: .*x was overwritten"):
        bnpp.batch_norm_backward(dy, saved)


def test_in_place_on_the_residual(dtype):
    x, gamma, beta, residual, dy = data(CASE, dtype)
    expected, kept = bnpp.batch_norm(x, gamma, beta, residual=residual.copy(), activation="relu")
    y, saved = bnpp.batch_norm(x, gamma, beta, residual=residual, activation="relu", out=residual)
    assert y is residual
    assert np.array_equal(y, expected)
    got, same = bnpp.batch_norm_backward(dy, saved), bnpp.batch_norm_backward(dy, kept)
    assert np.array_equal(got.dx, same.dx)


class HasArray:
    """An object that NumPy can only turn into an array by asking it."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class HasDLPack:
    """A DLPack producer on the CPU that is no NumPy array."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize(
    "wrap",
    [HasArray, HasDLPack, memoryview, lambda a: a.view(type("Sub", (np.ndarray,), {}))],
    ids=["__array__", "dlpack", "buffer", "subclass"],
)
def test_other_objects_that_hold_arrays(wrap, dtype):
    x, gamma, beta, residual, dy = data(CASE, dtype)
    expected, kept = bnpp.batch_norm(x, gamma, beta, residual=residual)
    y, saved = bnpp.batch_norm(wrap(x), wrap(gamma), wrap(beta), residual=wrap(residual))
    assert isinstance(y, np.ndarray)
    assert np.array_equal(y, expected)
    dx = bnpp.batch_norm_backward(wrap(dy), saved).dx
    assert np.array_equal(dx, bnpp.batch_norm_backward(dy, kept).dx)
    z = bnpp.batch_norm_inference(wrap(x), wrap(gamma), wrap(beta), wrap(beta), wrap(gamma))
    assert np.array_equal(z, bnpp.batch_norm_inference(x, gamma, beta, beta, gamma))
    assert np.array_equal(bnpp.moments(wrap(x)).m2, bnpp.moments(x).m2)


def test_lists_of_floats():
    y, _ = bnpp.batch_norm([[0.0, 1.0], [2.0, 5.0]], [1.0, 2.0], [0.0, 3.0], eps=0.0)
    assert np.array_equal(y, [[-1, 1], [1, 5]])
    assert y.dtype == np.float64


def test_torch_tensors(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, gamma, beta, residual, dy = data(CASE, dtype)
    expected, kept = bnpp.batch_norm(x, gamma, beta, residual=residual)
    tensors = [torch.from_numpy(a) for a in (x, gamma, beta, residual, dy)]
    y, saved = bnpp.batch_norm(*tensors[:3], residual=tensors[3])
    assert isinstance(y, np.ndarray)
    assert np.array_equal(y, expected)
    dx = bnpp.batch_norm_backward(tensors[4], saved).dx
    assert np.array_equal(dx, bnpp.batch_norm_backward(dy, kept).dx)
    last = tensors[0].contiguous(memory_format=torch.channels_last)
    y, _ = bnpp.batch_norm(last)
    assert y.strides == tuple(s * dtype.itemsize for s in last.stride()), "no copy to NCHW"


def test_offsets_beyond_two_to_the_31_elements():
    """A few thousand values, spread over more than 2**31 elements of untouched memory."""
    try:
        memory = mmap.mmap(-1, 4 * (2**31 + 2**21))
    except OSError:
        pytest.skip("this machine does not hand out 8 GiB of untouched memory")
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # or each value touched takes 2 MiB
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    big = np.frombuffer(memory, np.float32)
    x, _, _, _, dy = data(Case((1, 2, big.size // 2**21), 1, ""))
    for spread in (
        big[: x.size * 2**20].reshape(1, 2, -1, 2**20)[..., 0],
        big[: x.size * 2**20].reshape(1, -1, 2, 2**20)[..., 0].transpose(0, 2, 1),
    ):
        spread[...] = x
        y, saved = bnpp.batch_norm(spread, np.ones(2), np.zeros(2))
        f = forward(x)
        assert_exact(y, f.y, f.size)
        expected = backward(dy, f)
        spread_dx = bnpp.batch_norm_backward(dy, saved).dx
        assert_exact(spread_dx, expected.dx, expected.sizes["dx"])
        bnpp.batch_norm(x, out=spread)
        assert np.array_equal(spread, bnpp.batch_norm(x)[0])


def test_unaligned_parameters(dtype):
    x, gamma, beta, _, _ = data(CASE, dtype)
    moved = [unaligned(a) for a in (gamma, beta)]
    assert np.array_equal(bnpp.batch_norm(x, *moved)[0], bnpp.batch_norm(x, gamma, beta)[0])
