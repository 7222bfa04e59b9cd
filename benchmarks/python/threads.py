"""One number of threads for everybody. Imported before NumPy and the peers, who look only once."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Count the cores this process may run on."""
    return len(os.sched_getaffinity(0))


def limit_threads(n: int) -> None:
    """Let this process have `n` cores, so that every library in it takes as many threads."""
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= n <= len(cores):
        raise SystemExit(f"--threads is {n}, but this process may use {len(cores)} cores")
    os.sched_setaffinity(0, cores[:n])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(n)
