"""Outputs written past the caches have the bits of those that are stored, at any address."""

import bnpp
import numpy as np
import pytest
from bnpp import _core
from helpers.addresses import assert_untouched_beside, at_offset, unaligned
from helpers.bits import same

SHAPES = [
    (5, 7, 300),  # rows: runs that begin at any address
    (3, 2, 40000),  # rows in several pieces
    (9, 65),  # columns whose rows begin off the lines
    (9, 64),  # columns whose rows begin on lines where the first one does
    # Narrow rows, which are one run where the parameters come round several times a vector.
    (400, 3),
    (300, 7),
    (50, 1),
    (2, 3),  # fewer values than lie before the first whole line
    (6, 32, 7, 7),  # short planes as columns
    (3, 32, 14, 14),  # the same in rows that are long enough to stream each for itself
    (4, 1100),  # more columns than a piece
    (3, 4100),  # long rows in groups
]


def streaming(on):
    """Switch streaming on for all outputs, or off."""
    _core.set_stream_above(0 if on else 2**62)


def everything(x, dy, offset, activation, in_place):
    """The large output of each call, written at an address of its own and in place or not."""
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
                # Another scale and shift for each channel, so that none can stand for another.
                gamma, beta = np.linspace(-2, 2, 2 * c).reshape(2, c)
                stats = np.linspace(-1, 1, c), np.linspace(1, 2, c)
                bnpp.batch_norm_inference(
                    given, gamma, beta, *stats, activation=activation, out=out
                )
        results.append(out.copy())
        assert_untouched_beside(memory, out)
    return results


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_at_every_address(shape, in_place, activation, dtype):
    rng = np.random.default_rng(1)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    streaming(False)
    expected = everything(x, dy, 0, activation, in_place)
    streaming(True)
    best = bnpp.get_isa()
    for isa in bnpp.usable_isas():
        bnpp.set_isa(isa)
        for offset in range(0, 16, 1 if isa == best else 5):
            found = everything(x, dy, offset, activation, in_place)
            same(expected, found, f"{isa}, {offset} elements after a line")


LONG_ROWS = [
    (5, 40, 14, 14),  # columns, in tiles of several rows
    (3, 9, 13, 13),  # the same, of odd length
    (7, 6, 28, 28),  # rows
    (2, 90, 20, 20),  # rows longer than a tile
    (3, 130, 8, 16),  # columns longer than a tile
]


def one_after_the_other(x, dy, residual, activation):
    """Outputs of all calls that map in memory order."""
    c = x.shape[1]
    stats = np.linspace(-1, 1, c), np.linspace(0.5, 2, c)
    keywords = {"residual": residual, "activation": activation}
    y, saved = bnpp.batch_norm(x, *stats, **keywords)
    got = bnpp.batch_norm_backward(dy, saved)
    frozen, given = bnpp.batch_norm_inference(x, None, None, *stats, save=True, **keywords)
    through = bnpp.batch_norm_inference_backward(dy, given)
    inference = bnpp.batch_norm_inference(x, *stats, *stats, **keywords)
    return [a for a in (y, *got, frozen, *through, inference) if a is not None]


def lying_otherwise(x):
    """A copy whose channels lie outermost."""
    return np.moveaxis(np.moveaxis(x, 1, 0).copy(), 0, 1)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", LONG_ROWS, ids=str)
def test_memory_order_gives_the_same_bits(shape, residual, activation, dtype, isa):
    """Maps of what fills half the last-level cache go through memory as it lies."""
    rng = np.random.default_rng(2)
    x, dy, r = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    r = r if residual else None
    streaming(False)
    expected = one_after_the_other(x, dy, r, activation)
    # Above half of this for any call, and not above it for any.
    _core.set_stream_above(4 * x.nbytes - (0 if residual else 1))
    alike = {
        "all alike": (x, dy),
        "x otherwise": (np.repeat(x, 2, axis=1)[:, ::2], dy),
        "dy otherwise": (x, lying_otherwise(dy)),
        "dy unaligned": (x, unaligned(dy)),
    }
    for name, (given, gradient) in alike.items():
        for threads in (1, 3):
            with bnpp.thread_limit(threads):
                found = one_after_the_other(given, gradient, r, activation)
            same(expected, found, f"{name}, {threads} threads")
