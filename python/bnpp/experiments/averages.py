"""Moving averages against population statistics, and what becomes of both when the images change.

Running averages with several momenta follow one and the same training, which they do not influence. At some
steps the network is tested with each of them, and with population statistics. Then the test images
are shifted, and the statistics are estimated anew from shifted training images without their labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnpp.experiments.data import Dataset, Images
from bnpp.experiments.layers import Array
from bnpp.experiments.network import Network, accuracy, batches
from bnpp.experiments.population import algorithm_2, whole_set
from bnpp.experiments.session import Session
from bnpp.experiments.settings import AVERAGES
from bnpp.experiments.table import NETWORKS, Variant, build, spread
from bnpp.experiments.training import BATCH, State, Training

Vector = NDArray[np.float64]

#: Weights of the new value; None is the average over all batches.
MOMENTA = (0.5, 0.1, 0.01, 0.001, None)

#: Training images from which population statistics are taken.
POPULATION = 6000

#: The network of the study: batch normalization, five times the baseline's learning rate.
STUDIED = Variant("BN-x5", True, "relu", 5)


class MovingAverage:
    """Running statistics of all batch normalizations of a network, with one momentum.

    Parameters
    ----------
    network : Network
        Whose statistics are followed.
    momentum : float or None
        Weight of the new value; None is the average over all batches.
    """

    def __init__(self, network: Network, momentum: float | None) -> None:
        layers = network.normalizations()
        self.momentum, self.batches = momentum, 0
        self.means: list[Vector] = [np.zeros_like(layer.mean) for layer in layers]
        self.vars: list[Vector] = [np.ones_like(layer.var) for layer in layers]

    def update(self, network: Network) -> None:
        """Take in the statistics of the network's last mini-batch in training."""
        self.batches += 1
        a = 1 / self.batches if self.momentum is None else self.momentum
        for i, layer in enumerate(network.normalizations()):
            assert layer.saved is not None, "forward in training comes first"
            unbiased = layer.saved.count / (layer.saved.count - 1)
            self.means[i] = (1 - a) * self.means[i] + a * layer.saved.mean
            self.vars[i] = (1 - a) * self.vars[i] + a * layer.saved.var * unbiased

    def apply(self, network: Network) -> None:
        """Let the network's inference use them."""
        for layer, mean, var in zip(network.normalizations(), self.means, self.vars, strict=True):
            layer.mean, layer.var = mean, var


def label(momentum: float | None) -> str:
    """Return the name of a moving average in tables and figures.

    Examples
    --------
    >>> label(0.1), label(None)
    ('momentum 0.1', 'all batches')
    """
    return "all batches" if momentum is None else f"momentum {momentum:g}"


class Averages:
    """Follows a training with all `MOMENTA`, and records the accuracy in inference with each."""

    def __init__(self, network: Network) -> None:
        self.averages = [MovingAverage(network, momentum) for momentum in MOMENTA]

    def after_step(self, network: Network) -> None:
        """Take in the mini-batch."""
        for average in self.averages:
            average.update(network)

    def record(self, network: Network, data: Dataset) -> Mapping[str, Any]:
        """Return accuracies by name; the network's own statistics stay as they are."""
        kept = MovingAverage(network, None)
        kept.means = [layer.mean for layer in network.normalizations()]
        kept.vars = [layer.var for layer in network.normalizations()]
        found = {}
        for average in self.averages:
            average.apply(network)
            found[label(average.momentum)] = _tested(network, data.test)
        x = data.train.x[:POPULATION]
        algorithm_2(network, x, BATCH)
        found["Algorithm 2"] = _tested(network, data.test)
        whole_set(network, x)
        found["whole set"] = _tested(network, data.test)
        kept.apply(network)
        return found

    def state(self) -> State:
        """Return all averages."""
        state: State = {"batches": np.array([average.batches for average in self.averages])}
        for i, average in enumerate(self.averages):
            state.update({f"{i}.mean{j}": mean for j, mean in enumerate(average.means)})
            state.update({f"{i}.var{j}": var for j, var in enumerate(average.vars)})
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` returned."""
        for i, average in enumerate(self.averages):
            average.batches = int(state["batches"][i])
            average.means = [state[f"{i}.mean{j}"] for j in range(len(average.means))]
            average.vars = [state[f"{i}.var{j}"] for j in range(len(average.vars))]


def _tested(network: Network, images: Images) -> float:
    return accuracy(network, images.x, images.labels)


def _inverted(x: Array) -> Array:
    return 1 - x


def _faded(x: Array) -> Array:
    """Take away most of the contrast, around middle grey."""
    return np.float32(0.35) + np.float32(0.3) * x


def _blurred(x: Array) -> Array:
    """Take the mean over 3 x 3 pixels, twice."""
    for _ in range(2):
        for axis in (2, 3):
            pad = [(0, 0)] * 4
            pad[axis] = (1, 1)
            padded, size = np.pad(x, pad), x.shape[axis]
            parts = [np.take(padded, range(i, i + size), axis=axis) for i in range(3)]
            x = ((parts[0] + parts[1] + parts[2]) / np.float32(3)).astype(np.float32)
    return x


def _noisy(x: Array) -> Array:
    """Gaussian noise with a standard deviation of 0.3, always the same."""
    noise = np.random.default_rng(0).normal(0, 0.3, x.shape)
    return (x + noise).astype(np.float32)


#: How images change between training and inference.
SHIFTS: dict[str, Callable[[Array], Array]] = {
    "none": lambda x: x,
    "faded": _faded,
    "blurred": _blurred,
    "noisy": _noisy,
    "inverted": _inverted,
}

#: Shifted mini-batches that a moving average sees after the shift.
ADAPTED_BATCHES = (1, 10, 100)


def tested_on(network: Network, data: Dataset, shift: str, flat: bool) -> dict[str, float]:
    """Test a trained network on shifted images, by what inference normalizes with.

    "Old statistics" are population statistics of the images of the training. "Moved" is the moving average that
    goes on from them over so many mini-batches of shifted training images, without labels; "estimated anew"
    are population statistics of these. Last, the mini-batches of test images normalize themselves.

    Parameters
    ----------
    network : Network
        Trained; its statistics change.
    data : Dataset
        Images of the shape (N, 1, H, W).
    shift : str
        One of `SHIFTS`.
    flat : bool
        Whether the network takes the pixels in rows.

    Returns
    -------
    dict of float
        Test accuracies. The parameters stay as they are.
    """

    def given(x: Array) -> Array:
        return x.reshape(len(x), -1) if flat else x

    change, clean = SHIFTS[shift], data.train.x[:POPULATION]
    train = given(change(clean))
    test = Images(given(change(data.test.x)), data.test.labels)
    algorithm_2(network, given(clean), BATCH)
    found = {"old statistics": _tested(network, test), **_moved(network, train, test)}
    algorithm_2(network, train, BATCH)
    found["estimated anew"] = _tested(network, test)
    found["each batch's own"] = _by_batch(network, test)
    return found


def _moved(network: Network, train: Array, test: Images) -> dict[str, float]:
    """Let the network's own moving average go on with shifted mini-batches."""
    found = {}
    for seen, x in zip(range(1, ADAPTED_BATCHES[-1] + 1), cycle(batches(train, BATCH))):
        network.forward(x, training=True)
        for layer in network.normalizations():
            layer.track()
        if seen in ADAPTED_BATCHES:
            found[f"moved by {seen} batches"] = _tested(network, test)
    return found


def _by_batch(network: Network, test: Images) -> float:
    """Normalize each mini-batch of test images by itself."""
    x = test.x[: len(test.x) - len(test.x) % BATCH]
    logits = np.concatenate([network.forward(part, training=True) for part in batches(x, BATCH)])
    return float(np.mean(logits.argmax(axis=1) == test.labels[: len(x)]))


class Study(NamedTuple):
    """A training from one seed with all averages, and its tests on shifted images."""

    network: str
    seed: int
    records: Mapping[str, Sequence[float]]
    shifts: Mapping[str, Mapping[str, float]]
    seconds: float


def study_all(
    session: Session,
    data: Dataset,
    seeds: Iterable[int],
    networks: Sequence[str] = NETWORKS,
) -> list[Study]:
    """Train the networks from every seed with all averages, or read them, and test them on shifts.

    Parameters
    ----------
    session, data, seeds, networks
        As in `bnpp.experiments.table.train_all`.

    Returns
    -------
    list of Study
        By network and seed.
    """
    done = []
    for kind in networks:
        schedule = session.schedule(AVERAGES[data.name, kind])
        for seed in seeds:
            network = build(kind, data, STUDIED, seed)
            training = Training(
                network,
                data if kind == "convnet" else data.rows(),
                learning_rate=schedule.learning_rate,
                record_at=spaced(schedule.every, schedule.steps),
                seed=seed,
                recorder=Averages(network),
            )
            with session.bar(schedule.steps, f"{kind}, seed {seed}") as bar:
                name = f"averages-{data.name}-{kind}-seed{seed}"
                session.train(training, name, {"variant": STUDIED.name}, bar)
            shifts = {}
            for shift in SHIFTS:
                session.check()
                test = partial(tested_on, network, data, shift, flat=kind != "convnet")
                shifts[shift] = session.remember(f"{name}-{shift}", test)
            done.append(Study(kind, seed, training.records, shifts, training.seconds))
    return done


def spaced(first: int, last: int) -> list[int]:
    """Return steps from the first to the last, each about 1.5 times the one before.

    Examples
    --------
    >>> spaced(20, 200)
    [20, 30, 45, 67, 101, 151, 200]
    """
    count = max(2, 1 + round(np.log(last / first) / np.log(1.5))) if last > first else 1
    steps = [first * 1.5**i for i in range(count)]
    return sorted({int(step) for step in steps if step < last} | {last})


#: Recorded steps that a printed table has room for.
COLUMNS = 5


def accuracy_tables(studies: Sequence[Study]) -> list[list[dict[str, str]]]:
    """Return a table for each network: a row for each kind of statistics, median and range in percent."""
    tables = []
    for network, group in _by_network(studies).items():
        steps = group[0].records["step"]
        shown = np.unique(np.linspace(0, len(steps) - 1, COLUMNS).round().astype(int))
        rows = []
        for name in statistics(group[0]):
            values = 100 * np.array([study.records[name] for study in group])
            cells = {f"step {steps[k]}": spread(values[:, k].tolist(), ".1f") for k in shown}
            rows.append({network: name, **cells})
        tables.append(rows)
    return tables


def statistics(study: Study) -> list[str]:
    """Return the names of the kinds of statistics that were recorded."""
    return [name for name in study.records if name not in ("step", "loss")]


def shift_rows(studies: Sequence[Study]) -> list[dict[str, str]]:
    """Return one row for each network and shift, with median and range of the accuracies in percent."""
    rows = []
    for network, group in _by_network(studies).items():
        for shift in SHIFTS:
            found = [study.shifts[shift] for study in group]
            values = {name: spread([100 * row[name] for row in found], ".1f") for name in found[0]}
            rows.append({"network": network, "test images": shift, **values})
    return rows


def _by_network(studies: Sequence[Study]) -> dict[str, list[Study]]:
    groups: dict[str, list[Study]] = {}
    for study in studies:
        groups.setdefault(study.network, []).append(study)
    return groups


CSV_HEADER = ("network", "seed", "statistics", "test_images", "step", "accuracy")


def csv_rows(studies: Sequence[Study]) -> list[tuple[Any, ...]]:
    """Return one row for each number that was measured."""
    rows: list[tuple[Any, ...]] = []
    for study in studies:
        steps = study.records["step"]
        for name, values in study.records.items():
            if name not in ("step", "loss"):
                for step, value in zip(steps, values, strict=True):
                    rows.append(
                        (study.network, study.seed, name, "none", int(step), f"{value:.6f}")
                    )
        for shift, found in study.shifts.items():
            for name, value in found.items():
                rows.append(
                    (study.network, study.seed, name, shift, int(steps[-1]), f"{value:.6f}")
                )
    return rows
