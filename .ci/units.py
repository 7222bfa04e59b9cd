"""How long the longest unit of kernels took to compile, and how many functions all of them have.

    python .ci/units.py build/cp311-cp311-linux_x86_64

The times are those of ninja's own log, of a folder that has been built with all cores. The bounds are to be lowered,
never raised in passing.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

#: Bounds of a unit's seconds, and of the functions in the kernels of all instruction sets.
SECONDS = 30
FUNCTIONS = 1500


def fail(sentence: str) -> NoReturn:
    """Say what is too heavy."""
    raise SystemExit(f".ci/units.py: {sentence}")


def main() -> None:
    """Check one build folder."""
    if len(sys.argv) != 2:
        fail(f"{len(sys.argv) - 1} arguments came, but the path of one build folder is needed")
    folder = Path(sys.argv[1])
    objects = sorted(folder.glob("CMakeFiles/bnpp_kernels_*/**/*.o"))
    log = folder / ".ninja_log"
    if not objects or not log.exists():
        fail(f"{folder} is not a folder in which ninja has built the kernels")
    seconds = {}
    for line in log.read_text().splitlines()[1:]:
        begin, end, _, path, _ = line.split("\t")
        if "bnpp_kernels_" in path:
            seconds[path] = (int(end) - int(begin)) / 1000
    longest = max(seconds, key=lambda path: seconds[path])
    functions = 0
    if nm := shutil.which("nm"):
        names = subprocess.run(
            [nm, "--defined-only", *objects], capture_output=True, text=True, check=True
        )
        functions = sum(line[17:18] in "tT" for line in names.stdout.splitlines() if line[17:18])
    told = f"{Path(longest).name} took {seconds[longest]:.0f} s, {functions} functions"
    if seconds[longest] > SECONDS:
        fail(f"{told}, but at most {SECONDS} s are allowed")
    if functions > FUNCTIONS:
        fail(f"{told}, but at most {FUNCTIONS} are allowed")
    print(f"The kernels: {told}")


if __name__ == "__main__":
    main()
