"""The libraries compared. Each module's ``variants(problem)`` gives their calls for the problem's layout.

A new peer is one module here and one line below.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator

from benchmarks.python.problem import Problem, Variant

#: Name -> module, layouts.
PEERS = {
    "bnpp": ("bnpp", ("nchw", "nhwc", "nc")),
    "numpy": ("numpy", ("nchw", "nhwc", "nc")),
    "torch": ("torch", ("nchw", "nc")),
    "torch-channels-last": ("torch", ("nhwc",)),
    "jax": ("jax", ("nchw", "nhwc", "nc")),
    "tensorflow": ("tensorflow", ("nhwc", "nc")),
}


def importable(names: Iterable[str]) -> list[str]:
    """Give those that can be imported, and import them."""
    found = []
    for name in names:
        try:
            importlib.import_module(f"{__name__}.{PEERS[name][0]}_peer")
        except ImportError as error:
            print(f"{name} is left out: {error}")
        else:
            found.append(name)
    return found


def variants(names: Iterable[str], problem: Problem) -> Iterator[Variant]:
    """Give the calls of these peers, where they have the problem's layout."""
    for name in names:
        module, layouts = PEERS[name]
        if problem.layout in layouts:
            yield from importlib.import_module(f"{__name__}.{module}_peer").variants(problem)
