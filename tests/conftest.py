"""Fixtures: instruction sets, numbers of threads, dtypes. Whatever a test sets is put back.

Tests are parametrized by full products, of which by default only as many cases run as have every two
values together (helpers/selection.py). `--exhaustive` runs all of them; `--sample SEED` runs a tenth
of those left out beside the default ones, another tenth for another seed.
"""

import gc
import random

import bnpp
import numpy as np
import pytest
from bnpp import _core

# Before they are imported: else a failing helper shows no values.
pytest.register_assert_rewrite("helpers")

from helpers.halves import HALVES, dtype_of
from helpers.rows import NORMS
from helpers.selection import pairwise
from helpers.settings import THREADS

# Not tests, but --doctest-modules would import them.
collect_ignore = ["helpers"]


def pytest_addoption(parser):
    group = parser.getgroup("bnpp")
    group.addoption("--exhaustive", action="store_true", help="run all cases, not pairwise ones")
    group.addoption(
        "--sample", type=int, metavar="SEED", help="run also a tenth of the cases left out"
    )


def pytest_report_header(config):
    if config.getoption("exhaustive"):
        return "cases: all"
    seed = config.getoption("sample")
    return "cases: pairwise" + ("" if seed is None else f", and a tenth of the others: {seed=}")


def pytest_collection_modifyitems(config, items):
    if config.getoption("exhaustive"):
        return
    left_out = pairwise(items)
    seed = config.getoption("sample")
    if seed is not None:
        ordered = sorted(left_out)
        left_out -= set(random.Random(seed).sample(ordered, len(ordered) // 10))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]


def pytest_collection_finish():
    """What is there by now stays: no collection of garbage needs to walk it again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _restored():
    """Put back the process-wide settings, also after a test that failed half-way."""
    isa = bnpp.get_isa()
    settings = (_core.set_thread_limit, _core.set_min_work, _core.set_stream_above)
    before = [put(1) for put in settings]
    for put, value in zip(settings, before, strict=True):
        put(value)
    yield
    bnpp.set_isa(isa)
    for put, value in zip(settings, before, strict=True):
        put(value)


@pytest.fixture(params=bnpp.usable_isas())
def isa(request):
    """Each instruction set that this machine can run."""
    bnpp.set_isa(request.param)
    return request.param


@pytest.fixture(params=THREADS)
def threads(request):
    """Numbers of threads, with shapes of any size run by all of them."""
    _core.set_min_work(1)
    with bnpp.thread_limit(request.param):
        yield request.param


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    """The dtypes of the data."""
    return np.dtype(request.param)


@pytest.fixture(params=HALVES)
def half(request):
    """The dtypes of two bytes."""
    return dtype_of(request.param)


@pytest.fixture(params=NORMS)
def norm(request):
    """The norms of rows, by name: helpers/rows.py."""
    return request.param
