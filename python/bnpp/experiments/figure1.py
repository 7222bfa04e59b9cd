"""Section 4.1 of Ioffe & Szegedy 2015: the network of three layers of 100 sigmoids, and Figure 1.

It is trained without and with batch normalization from the same weights on the same mini-batches. Then
the trained network becomes one for inference: population statistics, folding, the speed of both.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnpp.experiments.data import Dataset
from bnpp.experiments.folding import FoldedNetwork, fold, fold_bound
from bnpp.experiments.layers import Array, Sigmoid
from bnpp.experiments.models import mlp
from bnpp.experiments.network import Network, accuracy, predict
from bnpp.experiments.population import algorithm_2
from bnpp.experiments.session import Session
from bnpp.experiments.settings import FIGURE1, FIGURE1_STD
from bnpp.experiments.training import BATCH, State, Training

#: The percentiles of Figures 1b and 1c.
PERCENTILES = (15, 50, 85)

#: Training images on which they are measured, always the same.
PROBE = 1000

#: The names of the two networks in tables and figures.
VARIANTS = {False: "without BN", True: "with BN"}


class SigmoidInputs:
    """Records test accuracy and the percentiles of what each sigmoid of the last hidden layer gets.

    They are measured on the first training images, normalized by their own statistics as in training.
    """

    def after_step(self, network: Network) -> None:
        """Nothing happens between recordings."""

    def record(self, network: Network, data: Dataset) -> Mapping[str, Any]:
        """Return ``accuracy`` and ``percentiles``, of shape (3, units)."""
        inputs = last_sigmoid_inputs(network, data.train.x[:PROBE])
        return {
            "accuracy": accuracy(network, data.test.x, data.test.labels),
            "percentiles": np.percentile(inputs, PERCENTILES, axis=0).astype(np.float32),
        }

    def state(self) -> State:
        """Nothing is kept."""
        return {}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Nothing is kept."""


def last_sigmoid_inputs(network: Network, x: Array) -> Array:
    """Return what the last sigmoids of the network get for these images in training, (N, units)."""
    last = max(i for i, layer in enumerate(network.layers) if isinstance(layer, Sigmoid))
    return Network(network.layers[:last]).forward(x, training=True)


@dataclass(frozen=True)
class Curve:
    """What was recorded of one network."""

    step: NDArray[np.intp]
    accuracy: NDArray[np.float64]
    percentiles: NDArray[np.float32]
    seconds: float

    @classmethod
    def of(cls, training: Training) -> Curve:
        """Take it from a training that has ended."""
        records = {name: np.array(values) for name, values in training.records.items()}
        return cls(records["step"], records["accuracy"], records["percentiles"], training.seconds)

    def drift(self) -> NDArray[np.float64]:
        """Return how far the median of each unit's input moved, in widths of its distribution.

        The range that the median covers over the training, over the mean distance from the 15th to the
        85th percentile.
        """
        low, median, high = np.moveaxis(self.percentiles.astype(np.float64), 1, 0)
        drift: NDArray[np.float64] = np.ptp(median, axis=0) / (high - low).mean(axis=0)
        return drift

    def widening(self) -> NDArray[np.float64]:
        """Return the largest over the smallest distance from the 15th to the 85th percentile, by unit."""
        width = (self.percentiles[:, 2] - self.percentiles[:, 0]).astype(np.float64)
        widening: NDArray[np.float64] = width.max(axis=0) / width.min(axis=0)
        return widening

    def typical(self) -> int:
        """Return the unit whose drift is the median of all."""
        return int(np.argsort(self.drift())[len(self.drift()) // 2])

    def first_step(self, level: float) -> int | None:
        """Return the first recorded step with at least that test accuracy."""
        reached = np.flatnonzero(self.accuracy >= level)
        return int(self.step[reached[0]]) if len(reached) else None


@dataclass(frozen=True)
class Inference:
    """What became of the trained network with batch normalization.

    Attributes
    ----------
    moving, population, folded : float
        Test accuracy with moving averages, with population statistics, and of the folded network.
    alike : int
        Test images that both classify alike, of `images`.
    difference : float
        Largest difference between the logits of the two last on the test images.
    exact_difference, bound : float
        The same with all sums in float64, so that only the rounding of the folded weights is left, and
        the bound on it.
    seconds, folded_seconds : float
        Time of a mini-batch in inference before and after folding, median.
    """

    moving: float
    population: float
    folded: float
    alike: int
    images: int
    difference: float
    exact_difference: float
    bound: float
    seconds: float
    folded_seconds: float


def train_both(session: Session, data: Dataset, seed: int) -> dict[bool, Training]:
    """Train the network without and with batch normalization.

    Parameters
    ----------
    session : Session
        Where the trainings are kept.
    data : Dataset
        Digits or MNIST.
    seed : int
        Of the weights and the order of the images.

    Returns
    -------
    dict of Training
        By whether there is batch normalization.
    """
    schedule, rows = session.schedule(FIGURE1[data.name]), data.rows()
    trained = {}
    for normalize, name in VARIANTS.items():
        network = mlp(
            (rows.train.x.shape[1], 100, 100, 100, 10),
            normalize=normalize,
            activation="sigmoid",
            rng=np.random.default_rng(seed),
            std=FIGURE1_STD,
        )
        training = Training(
            network,
            rows,
            learning_rate=schedule.learning_rate,
            record_at=schedule.record_at,
            seed=seed,
            recorder=SigmoidInputs(),
        )
        with session.bar(training.steps, name) as bar:
            run = f"figure1-{data.name}-{name.replace(' ', '-')}"
            session.train(training, run, {"std": FIGURE1_STD}, bar)
        trained[normalize] = training
    return trained


def to_inference(training: Training) -> Inference:
    """Give a trained network its population statistics, fold it, and compare."""
    network, data = training.network, training.data
    test = data.test
    moving = accuracy(network, test.x, test.labels)
    algorithm_2(network, data.train.x, BATCH)
    folded = fold(network)
    images = test.x.astype(np.float64)
    same = predict(network, test.x) == predict(folded.network, test.x)
    before, after = _inference_seconds(network, folded.network, test.x[:BATCH])
    return Inference(
        moving=moving,
        population=accuracy(network, test.x, test.labels),
        folded=accuracy(folded.network, test.x, test.labels),
        alike=int(same.sum()),
        images=len(same),
        difference=_largest_change(network, folded, test.x),
        exact_difference=_largest_change(network, folded, images),
        bound=float(fold_bound(network, folded, images).max()),
        seconds=before,
        folded_seconds=after,
    )


def _largest_change(network: Network, folded: FoldedNetwork, x: NDArray[Any]) -> float:
    return float(np.abs(network.forward(x) - folded.network.forward(x)).max())


def _inference_seconds(a: Network, b: Network, x: Array, rounds: int = 200) -> tuple[float, float]:
    """Return the median time of a forward of each, measured in turns."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        a.forward(x)
        middle = time.perf_counter()
        b.forward(x)
        times.append((middle - begin, time.perf_counter() - middle))
    first, second = np.median(times, axis=0)
    return float(first), float(second)


CURVE_HEADER = (
    "", "final accuracy", "best", "steps to 90 %", "to 95 %", "drift", "widening", "seconds",
)  # fmt: skip


def curve_rows(curves: Mapping[bool, Curve]) -> list[tuple[str, ...]]:
    """Return a row for each network; drift and widening are medians over the units."""
    return [
        (
            VARIANTS[normalize],
            f"{curve.accuracy[-1]:.2%}",
            f"{curve.accuracy.max():.2%}",
            *(str(curve.first_step(level) or "never") for level in (0.9, 0.95)),
            f"{np.median(curve.drift()):.2f}",
            f"{np.median(curve.widening()):.2f}",
            f"{curve.seconds:.0f}",
        )
        for normalize, curve in curves.items()
    ]


INFERENCE_HEADER = ("inference of the network with BN", "")


def inference_rows(inference: Inference) -> list[tuple[str, str]]:
    """Return what happened to the network with batch normalization after its training."""
    faster = inference.seconds / inference.folded_seconds
    return [
        ("test accuracy, moving averages", f"{inference.moving:.2%}"),
        ("test accuracy, population statistics (Algorithm 2)", f"{inference.population:.2%}"),
        ("test accuracy, folded into linear layers", f"{inference.folded:.2%}"),
        ("test images that both classify alike", f"{inference.alike} of {inference.images}"),
        ("largest change of a logit, computed in float32", f"{inference.difference:.1e}"),
        ("the same computed in float64", f"{inference.exact_difference:.1e}"),
        ("its bound, from the rounding of the folded weights", f"{inference.bound:.1e}"),
        (f"time of {BATCH} images before folding", f"{1e6 * inference.seconds:.0f} us"),
        ("after", f"{1e6 * inference.folded_seconds:.0f} us ({faster:.1f} times as fast)"),
    ]
