"""The arrays of one case, alike for all peers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

EPS = 1e-5

#: Trips of a whole tensor to memory that a pass cannot avoid, as a multiple of a copy (one read, one
#: write): a backward reads x and dy and writes dx.
FLOORS = {"forward": 1.0, "backward": 1.5, "inference": 1.0}


@dataclass
class Variant:
    """A peer's calls, by the name of the pass; `array` turns what they return into NumPy's."""

    peer: str
    calls: dict[str, Callable[[], Any]]
    array: Callable[[Any], Array] = field(default=np.asarray)


class Problem:
    """A tensor as it lies in memory, a gradient like it, and the vectors of its channels.

    The vectors are float32 where the tensor is float16 or bfloat16, as in all frameworks.
    """

    def __init__(
        self, shape: tuple[int, ...], layout: str, dtype: str, threads: int, values: str = "noise"
    ):
        self.layout = layout
        self.dtype = dtype
        self.threads = threads
        self.axis = len(shape) - 1 if layout == "nhwc" else 1
        channels = shape[self.axis]
        rng = np.random.default_rng(0)
        images = [d for d in range(1, len(shape)) if d != self.axis and values == "smooth"]
        self.x = _random(rng, shape, dtype, images)
        self.dy = _random(rng, shape, dtype, [])
        vectors = rng.uniform(0.5, 1.5, (4, channels))
        self.gamma, self.beta, self.mean, self.var = vectors.astype(
            np.float64 if dtype == "float64" else np.float32
        )

    @property
    def reduced(self) -> tuple[int, ...]:
        """The axes that are reduced over."""
        return tuple(d for d in range(self.x.ndim) if d != self.axis)


def _random(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: str, smooth: list[int]
) -> Array:
    values = rng.standard_normal(shape, np.float64 if dtype == "float64" else np.float32)
    # Along these axes neighbours correlate by 0.95, as pixels of feature maps do.
    for axis in smooth:
        rows = np.moveaxis(values, axis, 0)
        for i in range(1, len(rows)):
            rows[i] = 0.95 * rows[i - 1] + np.sqrt(1 - 0.95**2) * rows[i]
    if dtype == "bfloat16":
        return values.astype(importlib.import_module("ml_dtypes").bfloat16)
    return values.astype(dtype, copy=False)
