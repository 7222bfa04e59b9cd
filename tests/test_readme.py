"""The README's examples run as printed."""

import doctest
from pathlib import Path

import pytest


def test_readme():
    readme = Path(__file__).parents[1] / "README.md"
    if not readme.is_file():
        pytest.skip("the tests are not in a checkout, so there is no README.md")
    found = doctest.testfile(str(readme), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted >= 5
    assert found.failed == 0
