"""The learning rate of the table's baselines: the best of a few, without batch normalization.

All other variants are compared at multiples of it, so it is chosen for the baseline alone, from seeds that
the table does not use, by the mean of their best accuracies: one bad seed rules a rate out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnpp.experiments.data import Dataset
from bnpp.experiments.session import Session
from bnpp.experiments.settings import TABLE
from bnpp.experiments.table import NETWORKS, VARIANTS, Run, Spec, run_all

#: The learning rates that are tried.
RATES = (0.05, 0.1, 0.2, 0.5, 1.0)

#: Of weights and order.
SEEDS = (1000, 1001, 1002)


def try_all(session: Session, data: Dataset, networks: Sequence[str] = NETWORKS) -> list[Run]:
    """Train the baseline of each network with each learning rate.

    Parameters
    ----------
    session, data, networks
        As in `bnpp.experiments.table.train_all`.

    Returns
    -------
    list of Run
        By network, learning rate and seed.
    """
    specs = []
    for kind in networks:
        schedule = session.schedule(TABLE[data.name, kind])
        specs += [
            Spec(kind, VARIANTS[0], replace(schedule, learning_rate=rate), seed)
            for rate in RATES
            for seed in SEEDS
        ]
    return run_all(session, data, "rates", specs)


HEADER = ("network", "learning rate", "mean of the best accuracies, %", "best accuracies, %")


def rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Return one row for each network and learning rate."""
    groups: dict[tuple[str, float], list[float]] = {}
    for run in runs:
        groups.setdefault((run.network, run.learning_rate), []).append(100 * run.best)
    return [
        (network, f"{rate:g}", f"{np.mean(best):.2f}", " ".join(f"{value:.2f}" for value in best))
        for (network, rate), best in groups.items()
    ]
