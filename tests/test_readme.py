"""The examples of the README and of the documentation run as printed."""

import doctest
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("page", "examples"),
    [
        ("README.md", 11),
        ("docs/folding.md", 8),
        ("docs/derivatives.md", 25),
        ("docs/variants.md", 16),
        ("docs/whitening.md", 4),
    ],
)
def test_examples(page, examples):
    path = Path(__file__).parents[1] / page
    if not path.is_file():
        pytest.skip(f"the tests are not in a checkout, so there is no {page}")
    found = doctest.testfile(str(path), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted >= examples
    assert found.failed == 0
