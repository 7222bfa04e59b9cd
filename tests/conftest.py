"""Fixtures: instruction sets, numbers of threads, dtypes. Whatever a test sets is put back."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import bnpp
import numpy as np
import pytest
from bnpp import _core
from settings import THREADS

# Not tests, but --doctest-modules would import them.
collect_ignore = [] if find_spec("onnx") else ["onnx_backend.py", "onnx_nets.py"]


@pytest.fixture(autouse=True)
def _restored():
    """Put back the process-wide settings, also after a test that failed half-way."""
    isa = bnpp.get_isa()
    limit = _core.set_thread_limit(0)
    work = _core.set_min_work(1)
    _core.set_thread_limit(limit)
    _core.set_min_work(work)
    yield
    bnpp.set_isa(isa)
    _core.set_thread_limit(limit)
    _core.set_min_work(work)


@pytest.fixture(params=bnpp.usable_isas())
def isa(request):
    """Each instruction set that this machine can run, the plain scalar table among them."""
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


@pytest.fixture(scope="session")
def core_build(tmp_path_factory):
    """A build directory of the C++ library, made from the checkout as a C++ user would."""
    source = Path(__file__).parents[1]
    if not (source / "CMakeLists.txt").is_file():
        pytest.skip("the tests are not in a checkout, so there is no C++ source")
    if not shutil.which("cmake") or not any(
        map(shutil.which, (os.environ.get("CXX", "c++"), "g++"))
    ):
        pytest.skip("cmake or a C++ compiler is not installed")
    build = tmp_path_factory.mktemp("build")
    quickly = "-DBNPP_KERNEL_OPTIMIZATION=-O2"  # minutes less
    for command in (["-S", source, "-B", build, quickly], ["--build", build, "--parallel", "2"]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build
