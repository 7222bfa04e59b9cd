"""What a wheel holds, and how large it is.

    python .ci/wheel.py dist/bnpp-0.1.0-cp311-cp311-linux_x86_64.whl

Exactly the modules of python/bnpp, the compiled one with its stub, and the metadata: the list follows from the
checkout, so that a file which the build loses or brings along is found. It is for the wheel as it was built: one
that auditwheel has repaired holds libgomp too.
"""

import sys
import zipfile
from pathlib import Path
from typing import NoReturn

#: Bounds in bytes of the compiled module, unpacked, and of the wheel. To be lowered, never raised in passing.
MODULE_BYTES = 5_200_000
WHEEL_BYTES = 2_300_000

PYTHON = Path(__file__).parents[1] / "python"
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def fail(sentence: str) -> NoReturn:
    """Say what is wrong with the wheel."""
    raise SystemExit(f".ci/wheel.py: {sentence}")


def names(found: set[str]) -> str:
    """Join at most five names."""
    first = sorted(found)[:5]
    return ", ".join(first) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def main() -> None:
    """Check one wheel."""
    if len(sys.argv) != 2:
        fail(f"{len(sys.argv) - 1} arguments came, but the path of one wheel is needed")
    path = Path(sys.argv[1])
    if not zipfile.is_zipfile(path):
        fail(f"{path} is not a wheel")
    with zipfile.ZipFile(path) as wheel:
        sizes = {
            entry.filename: entry.file_size for entry in wheel.infolist() if not entry.is_dir()
        }
    info = "-".join(path.name.split("-")[:2]) + ".dist-info"

    modules = [name for name in sizes if name.startswith("bnpp/_core") and name.endswith(".so")]
    if len(modules) != 1:
        fail(f"{len(modules)} files of {path.name} are bnpp/_core*.so, but one is needed")
    sources = [*PYTHON.glob("bnpp/**/*.py"), PYTHON / "bnpp" / "py.typed"]
    wanted = {file.relative_to(PYTHON).as_posix() for file in sources}
    wanted |= {"bnpp/_core.pyi", *modules, *(f"{info}/{name}" for name in METADATA)}
    if missing := wanted - set(sizes):
        fail(f"{path.name} lacks {names(missing)}")
    if others := set(sizes) - wanted:
        fail(f"{path.name} holds {names(others)}, which no user of the package needs")

    measured = path.stat().st_size
    for what, size, bound in (
        (modules[0], sizes[modules[0]], MODULE_BYTES),
        (path.name, measured, WHEEL_BYTES),
    ):
        if size > bound:
            fail(f"{what} has {size / 1e6:.1f} MB, but at most {bound / 1e6:.1f} are allowed")
    print(
        f"{path.name}: {len(sizes)} files, {measured / 1e6:.1f} MB, "
        f"of which the module unpacked has {sizes[modules[0]] / 1e6:.1f}"
    )


if __name__ == "__main__":
    main()
