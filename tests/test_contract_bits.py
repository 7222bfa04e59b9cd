"""Contract 2: the same bits for every instruction set, number of threads and alignment."""

import bnpp
import numpy as np
import pytest
from helpers.addresses import unaligned
from helpers.bits import outputs, same
from helpers.settings import THREADS, agree
from helpers.shapes import BITS, ORDERS, Case, cases, data


@cases(BITS)
def test_every_isa_and_number_of_threads(case, dtype):
    inputs = data(case, dtype, mean=1e3)
    agree(lambda: outputs(*inputs, case.axis), THREADS)


@pytest.mark.parametrize("order", ["gaps", "negative", "channels_last", "packed_field", "fortran"])
def test_every_setting_in_other_orders(order, dtype):
    case = Case((4, 6, 700, 3), 1, "")
    x, gamma, beta, residual, dy = data(case, dtype)
    x, dy, residual = (ORDERS[order](a) for a in (x, dy, residual))
    agree(lambda: outputs(x, gamma, beta, residual, dy, 1), THREADS)


@cases(BITS)
def test_alignment_and_out_do_not_matter(case, dtype, isa):
    x, gamma, beta, residual, dy = data(case, dtype, mean=1e3)
    expected = outputs(x, gamma, beta, residual, dy, case.axis)
    moved = [unaligned(a) for a in (x, gamma, beta, residual, dy)]
    same(expected, outputs(*moved, case.axis), "unaligned")
    for out in (np.empty_like(x), unaligned(x), np.empty(x.shape[::-1], dtype).T):
        found = outputs(x, gamma, beta, residual, dy, case.axis, out=out, dx=np.empty_like(out))
        same(expected, found, f"out with strides {out.strides}")


@cases(BITS)
def test_in_place_gives_the_same_bits(case, dtype):
    x, gamma, beta, residual, dy = data(case, dtype)
    keywords = {"axis": case.axis, "residual": residual, "activation": "relu"}
    y, saved = bnpp.batch_norm(x, gamma, beta, **keywords)
    gradients = bnpp.batch_norm_backward(dy.copy(), saved)
    same(gradients, bnpp.batch_norm_backward(dy, saved, out=dy), "out=dy")
    running = (beta, gamma * gamma)
    z = bnpp.batch_norm_inference(x, gamma, beta, *running, **keywords)
    twin = x.copy()
    same([y], bnpp.batch_norm(x, gamma, beta, **keywords, out=x)[:1], "out=x")
    found = bnpp.batch_norm_inference(twin, gamma, beta, *running, **keywords, out=twin)
    same([z], [found], "out=x")


@pytest.mark.parametrize("channels", [2, 3, 8, 10, 24, 40, 48, 63, 264])
def test_gaps_between_narrow_rows_do_not_matter(channels, dtype, isa):
    """Narrow rows are taken several at a time, in another way where they have gaps."""
    for rows in (7, 23, 1003):
        x, gamma, beta, residual, dy = data(Case((rows, channels), 1, ""), dtype)
        x[2:4, 1] = np.inf, np.nan
        expected = outputs(x, gamma, beta, residual, dy, 1)
        padded = [np.pad(a, ((0, 0), (0, 2)), constant_values=7) for a in (x, residual, dy)]
        apart = [a[:, :channels] for a in padded]
        found = outputs(apart[0], gamma, beta, *apart[1:], 1)
        same(expected, found, f"all {rows} with gaps")
        found = outputs(apart[0], gamma, beta, residual, dy, 1)
        same(expected, found, f"x of {rows} rows with gaps")
        found = outputs(x, gamma, beta, residual, apart[2], 1, out=apart[0], dx=apart[1])
        same(expected, found, f"dy and the outputs of {rows} rows with gaps")
        assert all((a[:, channels:] == 7).all() for a in padded), rows


@pytest.mark.parametrize("channels", [3, 24])
def test_gaps_between_narrow_rows_of_halves_do_not_matter(channels, isa):
    x, gamma, beta, residual, dy = data(Case((1003, channels), 1, ""), np.float16)
    apart = [np.pad(a, ((0, 0), (0, 2)))[:, :channels] for a in (x, residual, dy)]
    expected = outputs(x, gamma, beta, residual, dy, 1)
    same(expected, outputs(apart[0], gamma, beta, *apart[1:], 1), "all with gaps")


def test_collapsed_shapes_of_one_layout_agree(dtype):
    """(N, C, H, W) with its channels innermost is the matrix (N*H*W, C)."""
    x, gamma, beta, residual, dy = data(Case((3, 5, 6, 19), 3, ""), dtype)
    flat = [a.reshape(-1, 19) for a in (x, residual, dy)]
    seen = [np.moveaxis(a, 3, 1) for a in (x, residual, dy)]
    expected = outputs(x, gamma, beta, *(residual, dy), 3)
    matrix = outputs(flat[0], gamma, beta, *flat[1:], 1)
    images = outputs(seen[0], gamma, beta, *seen[1:], 1)
    same(expected, [a.reshape(x.shape) if a.ndim > 1 else a for a in matrix], "as a matrix")
    same(expected, [np.moveaxis(a, 1, 3) if a.ndim > 1 else a for a in images], "as images")
