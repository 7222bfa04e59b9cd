"""Interleaved timing: every round calls everything once, so that a slow moment meets all alike."""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Hashable
from itertools import repeat
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Key = TypeVar("Key", bound=Hashable)

#: Makes a call so many times.
Run = Callable[[int], object]


def loop(call: Callable[[], object]) -> Run:
    """Make a call repeatable."""

    def run(repeats: int) -> None:
        for _ in repeat(None, repeats):
            call()

    return run


def interleave(
    runs: dict[Key, Run], *, rounds: int, min_time: float
) -> dict[Key, npt.NDArray[np.float64]]:
    """Time calls in rounds, in a new order each round.

    Parameters
    ----------
    runs : dict
        What is timed.
    rounds : int
        Samples of each.
    min_time : float
        A sample repeats the call until it takes about as many seconds.

    Returns
    -------
    dict
        The seconds of one call, for each round.
    """
    repeats = {key: _calibrate(run, min_time) for key, run in runs.items()}
    seconds: dict[Key, list[float]] = {key: [] for key in runs}
    order, shuffle = list(runs), random.Random(0).shuffle
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for key in order:
                seconds[key].append(_sample(runs[key], repeats[key]))
    finally:
        gc.enable()
    return {key: np.array(values) for key, values in seconds.items()}


def _sample(run: Run, repeats: int) -> float:
    _settle()
    if repeats > 1:
        run(1)  # brings into the cache what fits there, as a call in a loop would find it
    start = time.perf_counter_ns()
    run(repeats)
    return (time.perf_counter_ns() - start) * 1e-9 / repeats


def _calibrate(run: Run, min_time: float) -> int:
    run(1)
    repeats = 1
    while (seconds := _sample(run, repeats)) * repeats < min_time:
        repeats = max(2 * repeats, round(min_time / seconds))
    return repeats


def _settle() -> None:
    """Wait until the others' threads sleep: OpenMP's spin for some milliseconds after a call."""
    me = str(os.getpid())
    for _ in range(200):
        tasks = (path for path in Path("/proc/self/task").iterdir() if path.name != me)
        if not any(_runs(path / "stat") for path in tasks):
            return
        time.sleep(2e-4)


def _runs(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "R"
    except OSError:  # the thread has ended
        return False
