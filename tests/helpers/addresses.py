"""Arrays at addresses of one's choice."""

import numpy as np


def at_offset(shape, dtype, offset):
    """An empty array that begins `offset` elements after a cache line, and the bytes around it."""
    size, item = int(np.prod(shape)), np.dtype(dtype).itemsize
    memory = np.full(size * item + 256, 0xAA, np.uint8)
    start = -memory.ctypes.data % 64 + offset * item
    return memory, memory[start : start + size * item].view(dtype).reshape(shape)


def assert_untouched_beside(memory, used):
    """Nothing was written beside an array that `at_offset` made."""
    start = used.ctypes.data - memory.ctypes.data
    beside = np.delete(memory, slice(start, start + used.nbytes))
    assert (beside == 0xAA).all(), "something beside out was written"


def unaligned(x):
    """In the same order, one byte off."""
    flat = x.ravel(order="K")
    bytes_ = np.zeros(flat.nbytes + 1, np.uint8)
    bytes_[1:] = flat.view(np.uint8)
    base = bytes_[1:].view(x.dtype)
    assert x.size == 0 or not base.flags.aligned
    return np.lib.stride_tricks.as_strided(base, x.shape, np.empty_like(x).strides)
