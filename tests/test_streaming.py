"""Outputs written past the caches have the bits of those that are stored, at any address."""

import bnpp
import numpy as np
import pytest
from bnpp import _core

SHAPES = [
    (5, 7, 300),  # rows: runs that begin at any address
    (3, 2, 40000),  # rows in several pieces
    (9, 65),  # columns whose rows begin off the lines
    (9, 64),  # columns whose rows begin on lines where the first one does
    (6, 32, 7, 7),  # short planes as columns
    (3, 32, 14, 14),  # the same in rows that are long enough to stream each for itself
    (4, 1100),  # more columns than a piece
    (3, 4100),  # long rows in groups
]


@pytest.fixture
def streaming():
    """Switch streaming on for all outputs, or off."""
    before = _core.set_stream_above(2**62)
    yield lambda on: _core.set_stream_above(0 if on else 2**62)
    _core.set_stream_above(before)


def at_offset(shape, dtype, offset):
    """An empty array that begins `offset` elements after a cache line."""
    size, item = int(np.prod(shape)), np.dtype(dtype).itemsize
    memory = np.full(size * item + 256, 0xAA, np.uint8)
    start = -memory.ctypes.data % 64 + offset * item
    return memory, memory[start : start + size * item].view(dtype).reshape(shape)


def everything(x, dy, offset, activation, in_place):
    results = []
    for call in ("forward", "inference", "backward", "jvp"):
        memory, out = at_offset(x.shape, x.dtype, offset)
        c = x.shape[1]
        if call == "backward":
            saved = bnpp.batch_norm(x, activation=activation)[1]
            out[...] = dy
            bnpp.batch_norm_backward(out if in_place else dy, saved, out=out)
        elif call == "jvp":
            saved = bnpp.batch_norm(x, residual=dy, activation=activation)[1]
            out[...] = dy
            bnpp.batch_norm_jvp(saved, x, residual_dot=out if in_place else dy, out=out)
        else:
            out[...] = x
            given = out if in_place else x
            if call == "forward":
                bnpp.batch_norm(given, activation=activation, out=out)
            else:
                stats = np.zeros(c), np.ones(c)
                bnpp.batch_norm_inference(given, None, None, *stats, activation=activation, out=out)
        results.append(out.copy())
        results.append((memory == 0xAA).sum() >= 256 - 64)  # nothing beside out is touched
    return results


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_at_every_address(shape, in_place, activation, dtype, streaming):
    rng = np.random.default_rng(1)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    streaming(False)
    expected = everything(x, dy, 0, activation, in_place)
    streaming(True)
    before = bnpp.get_isa()
    try:
        for isa in bnpp.usable_isas():
            bnpp.set_isa(isa)
            for offset in range(0, 16, 1 if isa == before else 5):
                found = everything(x, dy, offset, activation, in_place)
                assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    finally:
        bnpp.set_isa(before)
