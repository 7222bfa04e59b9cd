"""The shape of section 4.2's table on images that one processor can learn.

A fully connected network and a small convolutional one are trained as a baseline without batch
normalization and in variants with it and with higher learning rates, each from several seeds: how many
steps does a variant need to the baseline's best test accuracy, and how far does it get?
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnpp.experiments.data import Dataset
from bnpp.experiments.models import Activation, convnet, mlp
from bnpp.experiments.network import Network
from bnpp.experiments.session import Session
from bnpp.experiments.settings import CONV_CHANNELS, MLP_DEPTH, TABLE, Schedule
from bnpp.experiments.training import Training

#: The networks of the table.
NETWORKS = ("mlp", "convnet")


class Variant(NamedTuple):
    """A row of the table: the factor is that of the baseline's learning rate."""

    name: str
    normalize: bool
    activation: Activation
    factor: int


#: The paper's rows, and the baselines that it says failed.
VARIANTS = (
    Variant("baseline", False, "relu", 1),
    Variant("baseline-x5", False, "relu", 5),
    Variant("baseline-x30", False, "relu", 30),
    Variant("BN", True, "relu", 1),
    Variant("BN-x5", True, "relu", 5),
    Variant("BN-x30", True, "relu", 30),
    Variant("BN-x5-sigmoid", True, "sigmoid", 5),
    Variant("sigmoid-x5", False, "sigmoid", 5),
)


@dataclass(frozen=True)
class Run:
    """A training of one variant from one seed.

    Attributes
    ----------
    network, variant : str
    learning_rate : float
    seed : int
    step, accuracy : numpy.ndarray
        The test accuracy recorded after each of these steps.
    diverged : bool
        Whether the loss became infinite or NaN.
    seconds : float
        Time of the training.
    """

    network: str
    variant: str
    learning_rate: float
    seed: int
    step: NDArray[np.intp]
    accuracy: NDArray[np.float64]
    diverged: bool
    seconds: float

    @property
    def best(self) -> float:
        """The best test accuracy; 0 if nothing was recorded before the run diverged."""
        return float(self.accuracy.max(initial=0.0))

    def first_step(self, level: float) -> int | None:
        """Return the first recorded step with at least that test accuracy."""
        reached = np.flatnonzero(self.accuracy >= level)
        return int(self.step[reached[0]]) if len(reached) else None


def build(kind: str, data: Dataset, variant: Variant, seed: int) -> Network:
    """Return the network of a run, at its first step."""
    rng = np.random.default_rng(seed)
    channels, height, width = data.train.x.shape[1:]
    normalize, activation = variant.normalize, variant.activation
    if kind == "convnet":
        sizes = (channels, *CONV_CHANNELS)
        return convnet(sizes, 10, normalize=normalize, activation=activation, rng=rng)
    sizes = (channels * height * width, *[100] * MLP_DEPTH, 10)
    return mlp(sizes, normalize=normalize, activation=activation, rng=rng)


def train_all(
    session: Session,
    data: Dataset,
    seeds: Iterable[int],
    networks: Sequence[str] = NETWORKS,
) -> list[Run]:
    """Train every variant of every network from every seed, or read those trained before.

    Parameters
    ----------
    session : Session
        Where the trainings are kept.
    data : Dataset
        Digits or MNIST.
    seeds : iterable of int
        Of the weights and the order of the images; the same for all variants.
    networks : sequence of str
        Of ``"mlp"`` and ``"convnet"``.

    Returns
    -------
    list of Run
        By network, seed and variant.
    """
    specs = []
    for kind in networks:
        schedule = session.schedule(TABLE[data.name, kind])
        for seed in seeds:
            for variant in VARIANTS:
                rate = schedule.learning_rate * variant.factor
                specs.append(Spec(kind, variant, replace(schedule, learning_rate=rate), seed))
    return run_all(session, data, "table", specs)


class Spec(NamedTuple):
    """What to train: a network, a variant of it, how, and from which seed."""

    network: str
    variant: Variant
    schedule: Schedule
    seed: int


def run_all(session: Session, data: Dataset, study: str, specs: Sequence[Spec]) -> list[Run]:
    """Train all of these under one bar of progress, or read those that a call before has trained.

    Parameters
    ----------
    session : Session
        Where the trainings are kept.
    data : Dataset
        Digits or MNIST.
    study : str
        The beginning of the runs' names.
    specs : sequence of Spec
        The trainings.

    Returns
    -------
    list of Run
        In the same order.
    """
    runs = []
    with session.bar(sum(spec.schedule.steps for spec in specs), study) as bar:
        for spec in specs:
            kind, variant, schedule, seed = spec
            rate = schedule.learning_rate
            bar.set_description(f"{kind}, {variant.name}, rate {rate:g}, seed {seed}")
            training = Training(
                build(kind, data, variant, seed),
                data if kind == "convnet" else data.rows(),
                learning_rate=rate,
                record_at=schedule.record_at,
                seed=seed,
            )
            name = f"{study}-{data.name}-{kind}-{variant.name}-rate{rate:g}-seed{seed}"
            session.train(training, name, {"variant": variant.name}, bar)
            runs.append(_run(kind, variant, training))
    return runs


def _run(kind: str, variant: Variant, training: Training) -> Run:
    records = training.records
    return Run(
        network=kind,
        variant=variant.name,
        learning_rate=training.learning_rate,
        seed=training.seed,
        step=np.array(records.get("step", []), np.intp),
        accuracy=np.array(records.get("accuracy", []), np.float64),
        diverged=training.diverged,
        seconds=training.seconds,
    )


def targets(runs: Iterable[Run]) -> dict[str, float]:
    """Return for each network what the others have to reach: the mean of its baselines' best accuracies."""
    best: dict[str, list[float]] = {}
    for run in runs:
        if run.variant == "baseline":
            best.setdefault(run.network, []).append(run.best)
    # Rounded, so that an accuracy equal to the mean is not below it by the last bit of a float.
    return {network: round(float(np.mean(values)), 9) for network, values in best.items()}


CSV_HEADER = (
    "network", "variant", "learning_rate", "seed", "steps_to_target", "best_accuracy",
    "final_accuracy", "diverged", "target_accuracy", "seconds",
)  # fmt: skip


def csv_rows(runs: Iterable[Run]) -> list[tuple[Any, ...]]:
    """Return one row a run; an empty field where the target was not reached or nothing recorded."""
    runs = list(runs)
    goal = targets(runs)
    return [
        (
            run.network,
            run.variant,
            f"{run.learning_rate:g}",
            run.seed,
            run.first_step(goal[run.network]) or "",
            f"{run.best:.4f}",
            f"{run.accuracy[-1]:.4f}" if len(run.accuracy) else "",
            int(run.diverged),
            f"{goal[run.network]:.5f}",
            f"{run.seconds:.1f}",
        )
        for run in runs
    ]


SUMMARY_HEADER = (
    "network", "variant", "learning rate", "steps to the baseline's best", "reached by",
    "best accuracy, %", "diverged",
)  # fmt: skip


def summary_rows(runs: Iterable[Run]) -> Sequence[tuple[str, ...]]:
    """Return one row a variant, with medians and ranges over the seeds."""
    runs = list(runs)
    goal = targets(runs)
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.network, run.variant), []).append(run)
    rows = []
    for (network, variant), group in groups.items():
        steps = [run.first_step(goal[network]) for run in group]
        reached = [step for step in steps if step is not None]
        rows.append(
            (
                network,
                variant,
                f"{group[0].learning_rate:g}",
                spread(reached, ".0f"),
                f"{len(reached)} of {len(group)}",
                spread([100 * run.best for run in group], ".2f"),
                f"{sum(run.diverged for run in group)} of {len(group)}",
            )
        )
    return rows


def spread(values: Collection[float], spec: str) -> str:
    """Return the median and the range of some values as text.

    Examples
    --------
    >>> spread([3, 1, 2], ".1f"), spread([], ".1f")
    ('2.0 (1.0 to 3.0)', 'never')
    """
    if not values:
        return "never"
    low, median, high = (format(q, spec) for q in np.quantile(list(values), (0, 0.5, 1)))
    return f"{median} ({low} to {high})"
