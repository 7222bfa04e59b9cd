"""The kernels' object files: nothing in them may end up in code for another instruction set.

They are those of a fresh build, or of the one that BNPP_BUILD_DIR names.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from bnpp import _core


@pytest.fixture(scope="module")
def objects(request):
    """The object files of kernels.cpp, one an instruction set."""
    if not shutil.which("nm"):
        pytest.skip("nm (binutils) is not installed")
    build = os.environ.get("BNPP_BUILD_DIR") or request.getfixturevalue("core_build")
    found = sorted(Path(build).rglob("kernels.cpp.o"))
    assert len(found) >= len(_core.usable_isas()), f"{build} holds {found}"
    return found


def symbols(path):
    """(type, name) of every defined symbol that the linker sees."""
    out = subprocess.run(
        ["nm", "--extern-only", "--defined-only", "--demangle", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [line.split(maxsplit=2)[1:] for line in out.splitlines() if line.strip()]


def test_no_weak_symbol_can_leak(objects):
    """The linker keeps one copy of a weak symbol: it might be the one of the largest ISA."""
    for path in objects:
        weak = [name for kind, name in symbols(path) if kind in "WVuwv"]
        leaks = [n for n in weak if "_MachineFlagsTemplate" not in n and "DW.ref" not in n]
        assert not leaks, f"{path}: {leaks}"


def test_one_symbol_is_exported(objects):
    tables = set()
    for path in objects:
        strong = [(kind, name) for kind, name in symbols(path) if kind not in "WVuwv"]
        assert len(strong) == 1, f"{path}: {strong}"
        kind, name = strong[0]
        assert kind in "RDB"
        assert name.startswith("bnpp::")
        assert name.endswith("::table")
        tables.add(name)
    assert len(tables) == len(objects), "each ISA has its own"


def test_no_call_leaves_the_kernels(objects):
    """A call of libm or of the C++ library would make bits depend on code that is not ours."""
    for path in objects:
        out = subprocess.run(
            ["nm", "--undefined-only", path], capture_output=True, text=True, check=True
        ).stdout
        names = {line.split()[-1] for line in out.splitlines() if line.strip()}
        allowed = {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
        # fma has one result, whoever computes it; it merges blocks where the ISA has no instruction.
        allowed.add("fma")
        assert names <= allowed, f"{path}: {names - allowed}"
