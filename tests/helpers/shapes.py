"""The shapes and memory orders that the tests share, each with the reason why it is here."""

import contextlib
from typing import NamedTuple

import numpy as np
import pytest

from helpers.addresses import unaligned


class Case(NamedTuple):
    """A shape, its channel axis, and why it is tested."""

    shape: tuple[int, ...]
    axis: int
    reason: str

    def __str__(self):
        return "x".join(map(str, self.shape)) + f"@{self.axis}"


CASES = [
    Case((4, 3, 5, 7), 1, "a small image with an odd number of channels"),
    Case((2, 5, 7, 7), 1, "7x7 planes, shorter than a cache line and odd"),
    Case((8, 6), 1, "(N, C): channels innermost"),
    Case((3, 4, 6), -1, "channels last"),
    Case((5, 4, 3), 0, "channels first of all"),
    Case((6, 1, 3, 3), 1, "C = 1"),
    Case((7, 1), 1, "C = 1 with the channel innermost"),
    Case((9, 4, 1, 1), 1, "HW = 1"),
    Case((1, 3, 4, 4), 1, "a batch of one image"),
    Case((1, 5), 1, "n = 1: one value a channel"),
    Case((0, 3, 4, 4), 1, "an empty batch"),
    Case((2, 3, 0), 1, "empty planes"),
    Case((0, 5), 1, "an empty batch, channels innermost"),
    Case((2, 0, 4), 1, "no channels"),
    Case((2, 3, 2, 1, 2, 1, 2, 3), 1, "8 dimensions"),
    Case((2, 2, 3, 2, 3, 2, 2, 4), 7, "8 dimensions, channels innermost"),
    Case((2, 3, 2, 2, 3), 2, "5 dimensions, channels in the middle"),
    Case((2, 2, 16385), 1, "one value more than 16384 in a row"),
    Case((33000, 3), 1, "more than 32768 rows of channels"),
    Case((3, 2, 130, 127), 1, "more than 16384 values a plane, no block border at its end"),
    Case((5, 15, 3, 3), 1, "one channel less than 16"),
    Case((5, 16, 2, 2), 1, "16 channels"),
    Case((300, 17), 1, "one channel more than 16, innermost"),
    Case((1001, 8), 1, "narrow rows, taken many at a time; mask bits of whole bytes"),
    Case((1003, 24), 1, "narrow rows, more channels than a vector, some rows left"),
    Case((300, 63), 1, "one channel less than 64, innermost"),
    Case((257, 65), 1, "one channel more than 64, innermost, a row more than 256"),
    Case((4, 65, 9), 1, "one channel more than 64"),
    Case((2000, 129, 1), 1, "many channels, inner length 1, large enough for threads"),
    Case((8, 16, 56, 56), 1, "large enough for threads by default"),
]

# Lengths 0 to two vectors of 16 lanes and one more: as planes, as rows and as channels.
LANES = {
    "planes": [Case((2, 3, n), 1, "the length of a plane") for n in range(34)],
    "rows": [Case((n, 3), 1, "the number of rows") for n in range(34)],
    "channels": [Case((3, n), 1, "the number of channels") for n in range(34)],
}

# Fewer, for what is multiplied by every instruction set and number of threads.
BITS = [
    Case((4, 3, 5, 7), 1, "small"),
    Case((37, 5), 1, "channels innermost"),
    Case((3, 2, 130, 127), 1, "several blocks a channel"),
    Case((1, 1, 70001), 1, "one channel in many blocks"),
    Case((9000, 19), 1, "many blocks of rows, channels no multiple of 16"),
    Case((1003, 24), 1, "narrow rows, some left when several are taken at a time"),
    Case((70, 264), 1, "a group of 256 channels and a narrow one"),
    Case((700, 70), 1, "more channels than a stripe of 64"),
    Case((3, 40, 7, 7), 1, "many short planes"),
    Case((6, 7, 300), 0, "channels outermost"),
]


def cases(table):
    """The cases as parameters, named by their shape."""
    return pytest.mark.parametrize("case", table, ids=str)


#: The lengths about the lane width as parameters: all of a layout in one.
lanes = pytest.mark.parametrize("lanes", LANES.values(), ids=LANES)


@contextlib.contextmanager
def within(*case):
    """Let a failure inside a loop over cases tell in which it was."""
    try:
        yield
    except Exception as error:
        where = ", ".join(map(str, case))
        raise AssertionError(f"in {where}: {type(error).__name__}: {error}") from error


def data(case, dtype=np.float32, seed=0, mean=3.0, std=2.0):
    """Values of a case: normal, about the given mean; plus gamma, beta, residual and dy."""
    rng = np.random.default_rng([seed, *case.shape])
    channels = case.shape[case.axis]
    x, residual, dy = rng.standard_normal((3, *case.shape))
    gamma, beta = rng.uniform(0.5, 2, channels), rng.standard_normal(channels)
    return [a.astype(dtype) for a in (x * std + mean, gamma, beta, residual, dy)]


def channels_last(x):
    """Stored with axis 1 innermost, seen with axis 1 in its place."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def gaps(x):
    """Every second element of the last axis of a larger array."""
    big = np.full((*x.shape[:-1], 2 * x.shape[-1] + 1), np.nan, x.dtype)
    big[..., 1::2] = x
    return big[..., 1::2]


def negative(x):
    """Every axis backwards."""
    back = (slice(None, None, -1),) * x.ndim
    return np.ascontiguousarray(x[back])[back]


def broadcast(x):
    """Stride 0: the first item, repeated along the first axis."""
    return np.broadcast_to(x[:1], x.shape)


def packed_field(x):
    """A field of packed records: strides that are no multiple of the item size."""
    records = np.zeros(x.shape, [("tag", "u1"), ("value", x.dtype)])
    records["value"] = x
    return records["value"]


def read_only(x):
    """Not writeable."""
    x = x.copy()
    x.flags.writeable = False
    return x


ORDERS = {
    "c": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "channels_last": channels_last,
    "reversed_axes": lambda x: np.ascontiguousarray(x.T).T,
    "gaps": gaps,
    "negative": negative,
    "broadcast": broadcast,
    "unaligned": unaligned,
    "unaligned_channels_last": lambda x: unaligned(channels_last(x)),
    "packed_field": packed_field,
    "read_only": read_only,
}
