"""Recycled memory of large outputs: laid out as NumPy would, reused only when nothing looks at it."""

import copy
import functools
import gc
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import bnpp
import numpy as np
import pytest
from bnpp import _core
from helpers.shapes import ORDERS

MIB = 2**20
# Blocks are whole huge pages of this size.
PAGE = 2 * MIB


@pytest.fixture(autouse=True, scope="module")
def _frozen():
    """What was there before these tests is no garbage of theirs: their collections pass it by."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def cap():
    """An empty pool with the usual cap before each test, and the same cap after it."""
    gc.collect()
    bnpp.clear_memory()
    before = _core.pool_state()[1]
    yield before
    _core.set_pool_cap(before)
    bnpp.clear_memory()


def image(mib, seed=0, dtype=np.float32):
    """Values of `mib` MiB in 16 channels."""
    shape = (4, 16, -1)
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal(int(mib * MIB) // np.dtype(dtype).itemsize).astype(dtype).reshape(shape)
    )


def address(array):
    """Where its memory begins."""
    return array.__array_interface__["data"][0]


def normalized(x):
    """A large output."""
    return bnpp.batch_norm(x)[0]


def held():
    """Bytes the pool keeps."""
    return _core.pool_state()[0]


def run(code, **environment):
    """Run code in a fresh process that must end; returns the finished process."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("mib", [0.25, 0.5, 1, 1.5, 2, 3, 9])
def test_outputs_begin_on_cache_lines(mib, dtype):
    x = image(mib, dtype=dtype)
    y, saved = bnpp.batch_norm(x, residual=x, activation="relu")
    z = bnpp.batch_norm_inference(x, None, None, saved.mean, saved.var)
    got = bnpp.batch_norm_backward(x, saved)
    for array in (y, z, got.dx, got.dresidual):
        if array.nbytes >= MIB:
            assert address(array) % 64 == 0
        assert array.flags.writeable
        assert array.flags.aligned
        assert (array.shape, array.dtype) == (x.shape, x.dtype)
    for a in (y, z, got.dx):
        for b in (z, got.dx, got.dresidual):
            assert a is b or not np.shares_memory(a, b)


def test_memory_is_reused():
    x = image(3)
    y = normalized(x)
    where, expected = address(y), y.copy()
    assert held() == 0, "memory in use is not held"
    del y
    assert held() == 2 * PAGE
    again = normalized(x)
    assert address(again) == where
    assert held() == 0
    assert np.array_equal(again, expected)


def test_memory_of_masks_has_a_cap_too():
    """They are too small for the pool, but kept for the next call as well: 64 MiB of them."""
    x = np.random.default_rng(0).standard_normal((1 << 23, 1)).astype(np.float32)
    out = np.empty_like(x)
    saved = [bnpp.batch_norm(x, activation="relu", out=out)[1] for _ in range(100)]
    assert saved[0].mask_nbytes >= MIB
    _core.set_pool_cap(0)
    del saved
    assert bnpp.clear_memory() <= 64 * MIB


VIEWS = {
    "the array": lambda y: y,
    "a slice": lambda y: y[1:, 3:5, ::7],
    "a number's view": lambda y: y[3, 15, -1:],
    "reshaped": lambda y: y.reshape(-1),
    "transposed": lambda y: y.T[5],
    "another dtype": lambda y: y.view(np.uint8),
    "a view of a view": lambda y: y[0][2][5:9],
    "broadcast": lambda y: np.broadcast_to(y[0, 0], (3, *y[0, 0].shape)),
    "a memoryview": lambda y: memoryview(y)[1:2],
    "from the buffer": lambda y: np.frombuffer(y, np.float32)[7:9],
    "DLPack": lambda y: np.from_dlpack(y)[2],
    "the saved state": lambda y: bnpp.batch_norm(y)[1],
    "a subclass": lambda y: y.view(np.recarray)[1],
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_keeps_the_memory(view):
    x = image(3)
    y = normalized(x)
    where, expected = address(y), y.copy()
    kept, wanted = VIEWS[view](y), VIEWS[view](expected)
    del y
    others = [normalized(image(3, seed)) for seed in range(1, 4)]
    assert where not in [address(other) for other in others]
    if view == "the saved state":
        dx = bnpp.batch_norm_backward(x, kept).dx
        assert np.array_equal(dx, bnpp.batch_norm_backward(x, wanted).dx)
        del dx
    else:
        assert np.array_equal(np.asarray(kept), np.asarray(wanted))
    bnpp.clear_memory()
    del kept, others
    gc.collect()
    last = [normalized(x) for _ in range(4)]
    assert where in [address(y) for y in last], "with the last view it is free again"


def test_only_large_outputs_come_from_the_pool():
    x = image(1)
    small = x.reshape(-1)[: -4 * 16].reshape(4, 16, -1)
    y = normalized(small)
    assert y.base is None
    del y
    assert held() == 0
    y = normalized(x)
    assert type(y.base) is _core.Block
    del y
    assert held() == PAGE


def test_memory_of_another_size_is_not_taken():
    y = normalized(image(3))
    where = address(y)
    del y
    first, second = normalized(image(5)), normalized(image(1))
    assert held() == 2 * PAGE
    assert not np.shares_memory(first, second)
    fits = normalized(image(4))  # 3 MiB were two huge pages too
    assert address(fits) == where


def test_arrays_of_another_dtype_and_shape_reuse_it():
    y = normalized(image(4))
    where = address(y)
    del y
    x = image(4, dtype=np.float64).transpose(0, 2, 1)
    y, _ = bnpp.batch_norm(x, axis=2)
    assert address(y) == where
    expected = np.empty_like(x)
    assert np.array_equal(y, bnpp.batch_norm(x, axis=2, out=expected)[0])


def test_the_cap_is_never_passed():
    _core.set_pool_cap(8 * PAGE)
    rng = np.random.default_rng(0)
    alive, inputs = [], [image(mib) for mib in (1, 3, 5, 7, 11, 13)]
    for _ in range(150):
        if alive and rng.random() < 0.5:
            alive.pop(rng.integers(len(alive)))
        else:
            alive.append(normalized(inputs[rng.integers(len(inputs))]))
        assert 0 <= held() <= 8 * PAGE
        assert held() % PAGE == 0
    alive.clear()
    assert held() <= 8 * PAGE


def test_arrays_larger_than_the_cap_leave_the_others():
    _core.set_pool_cap(2 * PAGE)
    y, large = normalized(image(3)), normalized(image(5))
    where = address(y)
    del y, large
    assert held() == 2 * PAGE, "what cannot be kept drives nothing out"
    assert address(normalized(image(4))) == where


def test_what_was_kept_longest_goes_first():
    _core.set_pool_cap(3 * PAGE)
    old, new = normalized(image(1)), normalized(image(3))
    where = address(new)
    del old
    del new
    assert held() == 3 * PAGE
    third = normalized(image(2))
    fourth = normalized(image(2))
    del third
    del fourth  # now the 3 MiB are the oldest
    assert held() == 2 * PAGE
    assert address(normalized(image(2))) != where


def test_a_smaller_cap_frees_at_once():
    arrays = [normalized(image(3)) for _ in range(4)]
    arrays.clear()
    assert held() == 8 * PAGE
    _core.set_pool_cap(5 * PAGE)
    assert _core.pool_state() == (4 * PAGE, 5 * PAGE)
    assert bnpp.clear_memory() == 4 * PAGE
    assert bnpp.clear_memory() == 0


def test_cap_zero_keeps_nothing():
    _core.set_pool_cap(0)
    x = image(3)
    expected = bnpp.batch_norm(x, out=np.empty_like(x))[0]
    for _ in range(3):
        y = normalized(x)
        assert np.array_equal(y, expected)
        del y
        assert held() == 0


STATE = """
import numpy as np, bnpp
x = np.ones((4, 16, 2**15), np.float32)
y = bnpp.batch_norm(x)[0]
del y
print(*bnpp._core.pool_state())
"""


@pytest.mark.parametrize(
    ("text", "state"),
    [("", (8 * MIB, 512 * MIB)), ("0", (0, 0)), ("8388608", (8 * MIB, 8 * MIB)),
     ("8388607", (0, 8388607))],
)  # fmt: skip
def test_the_environment_sets_the_cap(text, state):
    done = run(STATE, BNPP_POOL_BYTES=text)
    assert done.stdout.split() == [str(n) for n in state], done.stderr


@pytest.mark.parametrize("text", ["1e9", "512M", "-1", " 5", "5 ", "0x10", "many", "1.5", "+5"])
def test_a_bad_cap_in_the_environment_is_one_sentence(text):
    done = run(STATE, BNPP_POOL_BYTES=text)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        f"ValueError: the environment variable BNPP_POOL_BYTES is '{text}', "
        "but it needs to be a number of bytes, 0 for no pool"
    )


BIG = (8, 16, 64, 64)

LAYOUTS = {
    **{order: functools.partial(lambda order: ORDERS[order](np.ones(BIG, np.float32)), order)
       for order in ("c", "fortran", "channels_last", "gaps", "negative", "reversed_axes",
                     "broadcast", "unaligned_channels_last", "packed_field", "read_only")},
    "every second row": lambda: np.ones((8, 16, 128, 64), np.float32)[:, :, ::2],
    "some channels": lambda: np.ones((8, 64, 64, 64), np.float32)[:, 5:37],
    "some channels, last": lambda: np.ones((8, 64, 64, 64), np.float32)[..., 5:37].transpose(
        0, 3, 1, 2),
    "permuted": lambda: np.ones((16, 64, 8, 64), np.float32).transpose(2, 0, 3, 1),
    "permuted float64": lambda: np.ones((16, 64, 8, 64)).transpose(2, 0, 3, 1),
    "broadcast channels": lambda: np.broadcast_to(np.ones((8, 1, 64, 64), np.float32), BIG),
    "broadcast planes": lambda: np.broadcast_to(np.ones((8, 16, 1, 1), np.float32), BIG),
    "broadcast images, channels": lambda: np.broadcast_to(np.ones((64, 64), np.float32), BIG),
    "broadcast, all": lambda: np.broadcast_to(np.float32(1), BIG),
    "broadcast channels last": lambda: np.broadcast_to(np.ones(16, np.float32), (8, 64, 64, 16))
        .transpose(0, 3, 1, 2),
    "a length of 1": lambda: np.ones((1024, 1, 512), np.float32),
    "two lengths of 1": lambda: np.ones((1, 1024, 1, 512), np.float32),
    "a length of 1, Fortran": lambda: np.ones((1024, 1, 512), np.float32, order="F"),
    "1x1 planes": lambda: np.ones((2048, 256, 1, 1), np.float32),
    "1x1 planes, channels last": lambda: np.ones((2048, 1, 1, 256), np.float32).transpose(
        0, 3, 1, 2),
    "one row, channels last": lambda: np.ones((8, 1, 256, 256), np.float32).transpose(0, 3, 1, 2),
    "one image, channels last": lambda: np.ones((1, 64, 64, 128), np.float32).transpose(0, 3, 1, 2),
    "one of two columns": lambda: np.ones((2048, 256, 1, 2), np.float32)[..., :1],
    "one of four channels": lambda: np.ones((2048, 4, 256, 1), np.float32)[:, 1:2],
    "equal strides": lambda: np.lib.stride_tricks.as_strided(
        np.ones(1536, np.float32), (1024, 512), (4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_are_those_of_empty_like(layout):
    x = LAYOUTS[layout]()
    assert x.nbytes >= MIB
    y, saved = bnpp.batch_norm(x)
    outputs = [
        y,
        bnpp.batch_norm_backward(x, saved).dx,
        bnpp.batch_norm_inference(x, None, None, saved.mean, saved.var),
    ]
    expected = np.empty_like(x)
    for output in outputs:
        assert type(output.base) is _core.Block
        assert output.strides == expected.strides
        assert output.flags.c_contiguous == expected.flags.c_contiguous
        assert output.flags.f_contiguous == expected.flags.f_contiguous


RSS = """
import os
import numpy as np, bnpp
x = np.random.default_rng(0).standard_normal((4, 16, 64, 64), dtype=np.float32)
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def calls(n):
    for _ in range(n):
        bnpp.batch_norm(x)
calls(500)
before = rss()
calls(10_000)
print(rss() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system has no /proc")
def test_memory_does_not_grow():
    done = run(RSS, OMP_NUM_THREADS="1")
    assert int(done.stdout or 2**60) < 4 * MIB, done.stderr


def test_threads_take_and_give_at_once():
    _core.set_pool_cap(6 * PAGE)
    inputs = [image(1 + k % 3 * 2, k) for k in range(6)]
    expected = [bnpp.batch_norm(x, out=np.empty_like(x))[0] for x in inputs]
    wrong, together = [], threading.Barrier(len(inputs))

    def work(k):
        together.wait()
        before = None
        for i in range(40):
            y = normalized(inputs[k])
            # The previous output is still alive: it has kept its values beside the new one.
            for z in (y, before):
                if z is not None and not np.array_equal(z, expected[k]):
                    wrong.append((k, i))
            before = y if i % 3 else None
            if held() > 6 * PAGE or (k == 0 and i % 10 == 0 and bnpp.clear_memory() > 6 * PAGE):
                wrong.append((k, i, "cap"))

    workers = [threading.Thread(target=work, args=(k,)) for k in range(len(inputs))]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert wrong == []


def test_an_array_given_back_by_another_thread():
    arrays = [normalized(image(3))]
    where = address(arrays[0])
    other = threading.Thread(target=arrays.clear)
    other.start()
    other.join()
    assert held() == 2 * PAGE
    assert address(normalized(image(3))) == where


FORK = """
import os, threading
import numpy as np, bnpp
x = np.random.default_rng(0).standard_normal((4, 16, 2**15), dtype=np.float32)
expected = bnpp.batch_norm(x, out=np.empty_like(x))[0]
alive, kept = bnpp.batch_norm(x)[0], bnpp.batch_norm(x)[0]
del kept
stop = threading.Event()
def work():
    while not stop.is_set():
        bnpp.batch_norm(x)
def right():
    others = [bnpp.batch_norm(x)[0] for _ in range(5)]
    return all(np.array_equal(a, expected) for a in [alive, *others])
other = threading.Thread(target=work)
other.start()
for _ in range(20):  # also while the other thread is anywhere in a call
    pid = os.fork()
    if pid == 0:
        ok = right() and bnpp.clear_memory() > 0
        alive[...] = 0
        os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
other.join()
assert right()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_a_pool_of_its_own():
    done = run(FORK)
    assert done.stdout == "done\n", done.stderr


COPIES = {
    "pickle": lambda y: pickle.loads(pickle.dumps(y)),
    "pickle 5": lambda y: pickle.loads(pickle.dumps(y, protocol=5)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "method": lambda y: y.copy(),
    "numpy.array": np.array,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("order", ["c", "channels_last"])
def test_copies_have_memory_of_their_own(how, order):
    x = ORDERS[order](np.random.default_rng(0).standard_normal(BIG))
    y = normalized(x)
    twin, expected = COPIES[how](y), y.tobytes()
    assert not np.shares_memory(y, twin)
    assert (twin.shape, twin.dtype) == (y.shape, y.dtype)
    del y
    normalized(x * -3)
    assert twin.tobytes() == expected


def test_pickle_out_of_band_keeps_the_memory():
    buffers = []
    y = normalized(image(3))
    where, expected = address(y), y.copy()
    data = pickle.dumps(y, protocol=5, buffer_callback=buffers.append)
    del y
    assert address(normalized(image(3, 1))) != where
    assert np.array_equal(pickle.loads(data, buffers=buffers), expected)


def test_the_memory_cannot_be_resized_away():
    y = normalized(image(3))
    with pytest.raises(ValueError, match="own"):
        y.resize((4, 16), refcheck=False)
