"""Instructions an element, counted by valgrind: a slower kernel is seen without timing anything.

    check_instructions.py count_instructions avx2

A count is that of whole calls on one thread: of N calls subtracted from that of 2N calls, which leaves what
happens in every one. Ends with 77, which ctest takes for a skipped test, where it cannot count.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Instructions an element on x86-64, as g++ 12.2 -O3 compiled the kernels; float32 but where it says otherwise. They are
# those of a run of this script: whoever makes a kernel faster lowers them. (The kernels of two shapes, a third of the
# code, raised those of AVX2 by up to 45 %, the baseline's by up to 35: see docs/performance.md.)
MEASURED = {
    "avx2": {
        ("NCHW", "forward"): 4.92,
        ("NCHW", "backward"): 6.26,
        ("NCHW", "inference"): 1.15,
        ("NHWC", "forward"): 3.41,
        ("NHWC", "backward"): 4.69,
        ("NHWC", "inference"): 1.44,
        ("(60, 100)", "forward"): 6.80,
        ("(60, 100)", "backward"): 7.73,
        ("(60, 100)", "inference"): 3.79,
        ("float16", "forward"): 7.68,
        ("float16", "backward"): 8.36,
        ("float16", "inference"): 3.78,
    },
    "base": {
        ("NCHW", "forward"): 9.97,
        ("NCHW", "backward"): 12.36,
        ("NCHW", "inference"): 2.17,
        ("NHWC", "forward"): 8.04,
        ("NHWC", "backward"): 11.15,
        ("NHWC", "inference"): 2.81,
        ("(60, 100)", "forward"): 15.13,
        ("(60, 100)", "backward"): 17.01,
        ("(60, 100)", "inference"): 7.24,
        ("float16", "forward"): 78.83,
        ("float16", "backward"): 115.77,
        ("float16", "inference"): 58.45,
    },
}
# Room for another compiler.
HEADROOM = 1.15
SKIPPED = 77


def skip(sentence):
    """Tell why nothing is counted."""
    print(sentence)
    sys.exit(SKIPPED)


def instructions(folder):
    """Instructions of each part that callgrind wrote, in order; the last one is what was left."""
    parts = sorted(folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))
    lines = [line for part in parts for line in part.read_text().splitlines()]
    return [int(line.split()[1]) for line in lines if line.startswith("summary:")]


def count(program, isa):
    """{(layout, call): instructions an element} of one instruction set."""
    if not shutil.which("valgrind"):
        skip("valgrind is not installed")
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--dump-before=getppid"]
        done = subprocess.run(
            [*command, f"--callgrind-out-file={folder}/out", program],
            env=os.environ | {"BNPP_ISA": isa, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if "unrecognised instruction" in done.stderr or "BNPP_ISA" in done.stderr:
            skip(f"this machine, or its valgrind, cannot run the instructions of {isa}")
        if done.returncode != 0:
            sys.exit(done.stderr)
        parts = instructions(Path(folder))
    found = {}
    for k, line in enumerate(done.stdout.splitlines()):
        layout, kind, calls, size = line.split("/")
        # A part before, N calls, a part between, 2N calls.
        single, double = parts[4 * k + 1], parts[4 * k + 3]
        found[layout, kind] = (double - single) / int(calls) / int(size)
    return found


program, isa = sys.argv[1:]
found, bounds = count(program, isa), MEASURED[isa]
if found.keys() != bounds.keys():
    sys.exit(f"MEASURED[{isa!r}] has other calls than were counted, which are {found}")
wrong = False
for what, measured in bounds.items():
    # A bound that is far too high guards nothing.
    holds = measured / 2 <= found[what] <= HEADROOM * measured
    wrong |= not holds
    print(f"{'' if holds else 'WRONG: '}{what}: {found[what]:.2f}, where {measured} were measured")
sys.exit(wrong)
