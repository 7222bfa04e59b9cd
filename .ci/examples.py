"""The examples of README.md as type checkers see them, who read them as their users' own code.

    python .ci/examples.py PYTHON

runs `mypy --strict` and `pyright` on the statements of the README, in order and without prompts, with the bnpp
that is installed for the interpreter PYTHON. What they report must be exactly EXPECTED: neither more nor less.
"""

import doctest
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
GRADIENTS = "dx, dgamma, dbeta = bnpp.batch_norm_backward(np.ones_like(y), saved)"
AFFINE = "weight, bn = np.ones((3, 5, 3, 3), np.float32), bnpp.affine(*np.ones((4, 3)))"

#: Errors there are today: the checker, its code, the line. To be removed, one by one.
EXPECTED = {
    # Whether there is a dresidual is not part of the type of `saved`.
    ("mypy", "misc", GRADIENTS),
    ("pyright", "reportAssignmentType", GRADIENTS),
    # The rows of an array could be any number, and a fifth one would be eps.
    ("pyright", "reportArgumentType", AFFINE),
}

# As in the session that the README shows, a name may come to mean something of another type.
MYPY = ["--strict", "--allow-redefinition", "--output=json", "--python-executable", *sys.argv[1:]]
PYRIGHT = ["--outputjson", "--pythonpath", *sys.argv[1:]]


def mypy(text: str) -> Iterator[tuple[str, int, str]]:
    """Read mypy's errors: code, line, message."""
    for found in map(json.loads, text.splitlines()):
        if found["severity"] == "error":
            yield found["code"], found["line"], found["message"]


def pyright(text: str) -> Iterator[tuple[str, int, str]]:
    """Read pyright's errors; an expression that shows a value is only a warning."""
    for found in json.loads(text)["generalDiagnostics"]:
        if found["severity"] == "error":
            line = found["range"]["start"]["line"] + 1
            yield found.get("rule", "syntax"), line, found["message"].splitlines()[0]


examples = doctest.DocTestParser().get_examples(README.read_text(encoding="utf-8"))
lines = "".join(example.source for example in examples).splitlines()
if not lines:
    raise SystemExit(".ci/examples.py: README.md shows no examples")
errors = {}
for checker, options in ((mypy, MYPY), (pyright, PYRIGHT)):
    tool = checker.__name__
    with tempfile.TemporaryDirectory() as folder:  # away from the settings in pyproject.toml
        Path(folder, "readme.py").write_text("\n".join([*lines, ""]), encoding="utf-8")
        command = [sys.executable, "-m", tool, *options, "readme.py"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    try:
        for code, number, message in checker(done.stdout):
            errors[tool, code, lines[number - 1].partition("  #")[0]] = message
    except (ValueError, KeyError):
        said = (done.stderr or done.stdout).strip()
        raise SystemExit(f".ci/examples.py: {tool} did not run: {said}") from None
    if done.returncode > 1 or (done.returncode == 0) != all(tool != key[0] for key in errors):
        raise SystemExit(f".ci/examples.py: {tool} ended with {done.returncode}: {done.stderr}")

wrong = [
    f"{tool} reports {code} for `{line}`: {errors[tool, code, line]}"
    for tool, code, line in sorted(set(errors) - EXPECTED)
]
wrong += [
    f"{tool} no longer reports {code} for `{line}`: remove it from EXPECTED"
    for tool, code, line in sorted(EXPECTED - set(errors))
]
if wrong:
    raise SystemExit("\n".join(f".ci/examples.py: {sentence}" for sentence in wrong))
print(f"{len(lines)} lines of the README's examples, {len(EXPECTED)} expected errors of types")
