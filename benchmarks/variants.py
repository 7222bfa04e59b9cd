"""What the variants of batch norm cost beside batch norm itself: the numbers of docs/variants.md and whitening.md.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.variants --threads 1

Times are medians over interleaved rounds, in milliseconds and as multiples of batch_norm's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import bnpp
import numpy as np

from benchmarks.python.machine import describe
from benchmarks.python.timing import interleave, loop


def calls(shape: tuple[int, ...]) -> dict[tuple[str, str], Callable[[], Any]]:
    """Every variant's forward and backward on one tensor."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, *shape), dtype=np.float32)
    gamma, beta = rng.standard_normal((2, shape[1]), dtype=np.float32)
    rows = np.broadcast_to(gamma, (shape[0], shape[1])), np.broadcast_to(beta, (shape[0], shape[1]))
    running = {"running_mean": np.zeros(shape[1]), "running_var": np.ones(shape[1])}
    half = max(shape[0] // 2, 1)
    variants: dict[str, tuple[Callable[[], Any], Callable[..., Any]]] = {
        "batch_norm": (lambda: bnpp.batch_norm(x, gamma, beta), bnpp.batch_norm_backward),
        "ghost_batch_norm, 2 sub-batches": (
            lambda: bnpp.ghost_batch_norm(x, gamma, beta, size=half),
            bnpp.ghost_batch_norm_backward,
        ),
        "batch_renorm": (
            lambda: bnpp.batch_renorm(x, gamma, beta, **running),
            bnpp.batch_renorm_backward,
        ),
        "step_batch_norm, the samples as steps": (
            lambda: bnpp.step_batch_norm(x, gamma, beta, step_axis=0, axis=1),
            bnpp.step_batch_norm_backward,
        ),
        "conditional_batch_norm": (
            lambda: bnpp.conditional_batch_norm(x, *rows),
            bnpp.conditional_batch_norm_backward,
        ),
    }
    for size in (1, 4, 16, 64):
        variants[f"iter_norm, groups of {size}"] = (
            lambda size=size: bnpp.iter_norm(x, gamma, beta, group_size=size),
            bnpp.iter_norm_backward,
        )
    found: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, (forward, backward) in variants.items():
        saved = forward()[1]
        found[name, "forward"] = forward
        found[name, "backward"] = lambda backward=backward, saved=saved: backward(dy, saved)
    return found


def main() -> None:
    """Print the machine and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs="+", default=[32, 64, 56, 56])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    machine = describe()
    print(machine["cpu"], machine["versions"], f"{options.threads} threads", options.shape)
    with bnpp.thread_limit(options.threads):
        runs = {key: loop(call) for key, call in calls(tuple(options.shape)).items()}
        times = interleave(runs, rounds=options.rounds, min_time=0.02)
    medians = {key: 1e3 * float(np.median(seconds)) for key, seconds in times.items()}
    print("| | forward, ms | times | backward, ms | times |\n|---|---|---|---|---|")
    for name in dict.fromkeys(name for name, _ in medians):
        cells = [
            f"{medians[name, way]:.2f} | {medians[name, way] / medians['batch_norm', way]:.2f}"
            for way in ("forward", "backward")
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
