"""The unit of all times: copying the tensor with NumPy, on as many threads as the others have."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
import numpy.typing as npt


class Copy:
    """Copy a contiguous array, each thread its own part.

    ``np.copyto`` releases the GIL. The threads meet once for all repeats, not at each, so that the unit
    is what the memory can do and holds nothing of Python's own cost.
    """

    def __init__(self, x: npt.NDArray[np.generic], threads: int):
        source = x.reshape(-1)
        target = np.empty_like(source)
        self._parts = list(
            zip(np.array_split(target, threads), np.array_split(source, threads), strict=True)
        )
        self._helpers = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def __call__(self, repeats: int) -> None:
        if self._helpers is None:
            _copy(self._parts[0], repeats)
            return
        others = [self._helpers.submit(_copy, part, repeats) for part in self._parts[1:]]
        _copy(self._parts[0], repeats)
        for other in others:
            other.result()


def _copy(part: tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]], repeats: int) -> None:
    target, source = part
    for _ in repeat(None, repeats):
        np.copyto(target, source)
