"""Instructions an element, counted by valgrind: a slower kernel is seen without timing anything.

A count is that of whole calls, their Python part among them: of N calls subtracted from that of 2N
calls, which leaves what happens in every one. One thread, `out` given.
"""

import os
import shutil
import subprocess
import sys

import pytest
from bnpp import _core

CALLS = 3

# Instructions an element, as g++ 12.2 -O3 compiled the release build; float32.
MEASURED = {
    "avx2": {
        ("NCHW", "forward"): 4.90,
        ("NCHW", "backward"): 4.25,
        ("NCHW", "inference"): 1.10,
        ("NHWC", "forward"): 3.15,
        ("NHWC", "backward"): 4.01,
        ("NHWC", "inference"): 1.05,
        ("(60, 100)", "forward"): 9.10,
        ("(60, 100)", "backward"): 9.78,
        ("(60, 100)", "inference"): 5.34,
        ("float16", "forward"): 6.10,
        ("float16", "backward"): 6.61,
        ("float16", "inference"): 2.94,
    },
    "base": {
        ("NCHW", "forward"): 9.83,
        ("NCHW", "backward"): 9.07,
        ("NCHW", "inference"): 1.85,
        ("NHWC", "forward"): 8.51,
        ("NHWC", "backward"): 10.81,
        ("NHWC", "inference"): 2.93,
        ("(60, 100)", "forward"): 19.02,
        ("(60, 100)", "backward"): 21.28,
        ("(60, 100)", "inference"): 9.87,
        ("float16", "forward"): 79.40,
        ("float16", "backward"): 117.20,
        ("float16", "inference"): 57.90,
    },
}
# Room for another compiler, Python or NumPy.
HEADROOM = 1.15

# getppid marks where a count ends: a function of libc that nothing else calls meanwhile.
PROGRAM = f"""
import os
import numpy as np
import bnpp

rng = np.random.default_rng(0)
for name, shape, axis in (
    ("NCHW", (4, 64, 28, 28), 1), ("NHWC", (4, 28, 28, 64), 3), ("(60, 100)", (60, 100), 1),
    ("float16", (4, 64, 28, 28), 1),
):
    x = rng.standard_normal(shape).astype("float16" if name == "float16" else "float32")
    dy, out = x[::-1].copy(), np.empty_like(x)
    gamma = np.ones(shape[axis], np.float32)
    saved = bnpp.batch_norm(x, gamma, gamma, axis=axis)[1]
    calls = {{
        "forward": lambda: bnpp.batch_norm(x, gamma, gamma, axis=axis, out=out),
        "backward": lambda: bnpp.batch_norm_backward(dy, saved, out=out),
        "inference": lambda: bnpp.batch_norm_inference(
            x, gamma, gamma, gamma, gamma, axis=axis, out=out),
    }}
    for kind, call in calls.items():
        call()
        for count in ({CALLS}, {2 * CALLS}):
            os.getppid()
            for _ in range(count):
                call()
            os.getppid()
        print(name, kind, x.size, sep="/")
"""


def instructions(folder):
    """Instructions of each part that callgrind wrote, in order; the last one is what was left."""
    parts = sorted(folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))
    lines = [line for part in parts for line in part.read_text().splitlines()]
    return [int(line.split()[1]) for line in lines if line.startswith("summary:")]


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Count once for each instruction set: {(layout, call): instructions an element}."""
    if _core.build_info()["build_type"] != "Release":
        pytest.skip("the bounds are those of a release build")
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")

    def count(isa):
        folder = tmp_path_factory.mktemp(isa)
        command = ["valgrind", "--tool=callgrind", "--dump-before=getppid"]
        done = subprocess.run(
            [*command, f"--callgrind-out-file={folder}/out", sys.executable, "-c", PROGRAM],
            env=os.environ | {"BNPP_ISA": isa, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if "unrecognised instruction" in done.stderr or "BNPP_ISA" in done.stderr:
            pytest.skip(f"this valgrind cannot run the instructions of {isa}, or of Python")
        assert done.returncode == 0, done.stderr
        parts, found = instructions(folder), {}
        for k, line in enumerate(done.stdout.splitlines()):
            layout, kind, size = line.split("/")
            # A part before, N calls, a part between, 2N calls.
            single, double = parts[4 * k + 1], parts[4 * k + 3]
            found[layout, kind] = (double - single) / CALLS / int(size)
        return found

    return count


@pytest.mark.parametrize("isa", MEASURED)
def test_instructions_an_element(isa, counted):
    if isa not in _core.usable_isas():
        pytest.skip(f"this machine has no {isa}")
    found, bounds = counted(isa), MEASURED[isa]
    table = "\n".join(f"{k}: {found[k]:.2f}, not {v}" for k, v in bounds.items())
    assert found.keys() == bounds.keys()
    for what, measured in bounds.items():
        assert found[what] <= HEADROOM * measured, table
        # A bound that is far too high guards nothing: whoever makes it faster lowers it.
        assert found[what] >= measured / 2, table
