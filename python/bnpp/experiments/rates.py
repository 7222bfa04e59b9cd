"""The learning rate of the table's baselines: the best of a few, without batch normalization.

All other variants are compared at multiples of it, so it is chosen for the baseline alone, from a seed that
the table does not use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnpp.experiments.data import Dataset
from bnpp.experiments.session import Session
from bnpp.experiments.settings import TABLE
from bnpp.experiments.table import NETWORKS, VARIANTS, Run, Spec, run_all

#: The learning rates that are tried.
RATES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

#: Of weights and order.
SEED = 1000


def try_all(
    session: Session, data: Dataset, networks: Sequence[str] = NETWORKS, steps: int | None = None
) -> list[Run]:
    """Train the baseline of each network with each learning rate.

    Parameters
    ----------
    session, data, networks, steps
        As in `bnpp.experiments.table.train_all`.

    Returns
    -------
    list of Run
        By network and learning rate.
    """
    specs = []
    for kind in networks:
        schedule = TABLE[data.name, kind].shortened(steps)
        specs += [
            Spec(kind, VARIANTS[0], replace(schedule, learning_rate=rate), SEED) for rate in RATES
        ]
    return run_all(session, data, "rates", specs)


HEADER = ("network", "learning rate", "best accuracy, %", "final accuracy, %", "diverged")


def rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Return one row for each learning rate."""
    return [
        (
            run.network,
            f"{run.learning_rate:g}",
            f"{100 * run.best:.2f}",
            f"{100 * run.accuracy[-1]:.2f}" if len(run.accuracy) else "",
            "yes" if run.diverged else "no",
        )
        for run in runs
    ]
