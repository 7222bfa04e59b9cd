"""Nothing in the kernels' object files may end up in code for another instruction set, or come from elsewhere.

    check_symbols.py avx2 moments.cpp.o affine.cpp.o ...

takes the objects of one instruction set. Ends with 77, which ctest takes for a skipped test, without nm.
"""

import re
import shutil
import subprocess
import sys

# fma has one result, whoever computes it; it merges blocks where the instruction set has no instruction.
ALLOWED = {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail", "fma"}
SKIPPED = 77


def symbols(path, which):
    """Names of the defined or undefined symbols that the linker sees."""
    command = ["nm", "--extern-only", "--demangle", "--format=posix", which, path]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # "name type value size", where a demangled name has spaces.
    return {re.match(r"(.*) [A-Za-z](?: |$)", line)[1] for line in out.splitlines()}


isa, *paths = sys.argv[1:]
if not shutil.which("nm"):
    print("nm (binutils) is not installed")
    sys.exit(SKIPPED)
own = f"bnpp::{isa}::"
defined, needed, wrong = set(), set(), []
for path in paths:
    names = symbols(path, "--defined-only")
    defined |= names
    needed |= symbols(path, "--undefined-only")
    # The linker keeps one copy of a name: it might be the one with the most modern instructions.
    wrong += [
        f"{path} defines {name} outside of {own}" for name in names if own not in name.split("(")[0]
    ]
if f"{own}table" not in defined:
    wrong.append(f"no object defines {own}table")
# A call of libm or of the C++ library would make bits depend on code that is not ours.
wrong += [f"the kernels call {name}" for name in sorted(needed - defined - ALLOWED)]
print("\n".join(wrong) or f"{len(paths)} objects, {len(defined)} symbols in {own}")
sys.exit(bool(wrong))
