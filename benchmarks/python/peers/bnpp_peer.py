"""bnpp as its users call it, with and without ``out=``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import bnpp
import numpy as np

from benchmarks.python.problem import EPS, Array, Problem, Variant


def variants(p: Problem) -> Iterator[Variant]:
    _, saved = bnpp.batch_norm(p.x, p.gamma, p.beta, axis=p.axis, eps=EPS)
    out: dict[str, Any]
    for name, out in ("bnpp", {}), ("bnpp out=", {"out": np.empty_like(p.x)}):
        options: dict[str, Any] = {"axis": p.axis, "eps": EPS, **out}
        calls: dict[str, Callable[[], Any]] = {
            "forward": partial(bnpp.batch_norm, p.x, p.gamma, p.beta, **options),
            "backward": partial(bnpp.batch_norm_backward, p.dy, saved, **out),
            "inference": partial(
                bnpp.batch_norm_inference, p.x, p.gamma, p.beta, p.mean, p.var, **options
            ),
        }
        yield Variant(name, calls, _first)


def _first(result: Any) -> Array:
    y: Array = result[0] if isinstance(result, tuple) else result
    return y
