"""What ships beside the code for type checkers: the stub of `_core` and the marker py.typed."""

import ast
from pathlib import Path

import bnpp
from bnpp import _core

PACKAGE = Path(bnpp.__file__).parent
SHIPPED = Path(_core.__file__).parent


def test_the_marker_is_there():
    assert (PACKAGE / "py.typed").is_file()


def test_the_stub_names_everything():
    tree = ast.parse((SHIPPED / "_core.pyi").read_text())
    named = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    public = {n for n in dir(_core) if not n.startswith("_")}
    assert public <= named, f"the stub lacks {public - named}"
    assert {n for n in named if not n.startswith("_")} <= public
    saved = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Saved")
    attributes = {n.name for n in saved.body if isinstance(n, ast.FunctionDef)}
    assert {n for n in dir(_core.Saved) if not n.startswith("_")} <= attributes


def test_everything_public_is_documented():
    for name in bnpp.__all__:
        thing = getattr(bnpp, name)
        assert name == "__version__" or thing.__doc__, name
