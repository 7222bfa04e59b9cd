"""Training that can be stopped at any step and resumed with the very same result.

Everything that the next step depends on is in `Training.state`: parameters, statistics, the number of the
step. Which images a step takes follows from the seed and that number, so no generator has to be saved.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bnpp.experiments.data import Dataset
from bnpp.experiments.files import ExperimentError, load_arrays, save_arrays
from bnpp.experiments.interrupts import GOES_ON, Interrupted, Stop
from bnpp.experiments.layers import softmax_cross_entropy
from bnpp.experiments.network import Network, accuracy, sgd

#: Images in a mini-batch, as in the paper.
BATCH = 60

#: Seconds between two savings of a run that goes on.
SAVE_EVERY = 15.0

State = dict[str, NDArray[Any]]


class Recorder(Protocol):
    """What is measured during training."""

    def after_step(self, network: Network) -> None:
        """See the network after each step."""

    def record(self, network: Network, data: Dataset) -> Mapping[str, Any]:
        """Return numbers and arrays by name, the same names and shapes each time."""

    def state(self) -> State:
        """Return what the next step depends on."""

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` returned."""


class TestAccuracy:
    """Records the accuracy on the test images in inference; the simplest `Recorder`."""

    __test__ = False  # for pytest, which takes it for a test

    def after_step(self, network: Network) -> None:
        """Nothing happens between recordings."""

    def record(self, network: Network, data: Dataset) -> Mapping[str, Any]:
        """Return ``accuracy``."""
        return {"accuracy": accuracy(network, data.test.x, data.test.labels)}

    def state(self) -> State:
        """Nothing is kept."""
        return {}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Nothing is kept."""


class Training:
    """A network in training, from its first step to its last.

    Parameters
    ----------
    network : Network
        With its initial weights; changed in place.
    data : Dataset
        Images as the network takes them.
    learning_rate : float
        Of plain stochastic gradient descent, the same in every step.
    record_at : sequence of int
        The steps after which something is recorded, ascending; the last one ends the training.
    seed : int
        Decides the order of the images.
    recorder : Recorder, optional
        What is measured; `TestAccuracy` if not given.

    Attributes
    ----------
    step : int
        Steps made.
    seconds : float
        Time they took, with the recordings.
    diverged : bool
        Whether the loss became infinite or NaN, after which no step is made.
    records : dict of list
        What was recorded, by name; ``step`` has the steps, ``loss`` the mini-batch's.
    """

    def __init__(
        self,
        network: Network,
        data: Dataset,
        *,
        learning_rate: float,
        record_at: Sequence[int],
        seed: int,
        recorder: Recorder | None = None,
    ) -> None:
        self.network, self.data = network, data
        self.learning_rate, self.seed = learning_rate, seed
        self.record_at, self.steps = frozenset(record_at), record_at[-1]
        self.recorder: Recorder = recorder or TestAccuracy()
        self.step, self.seconds, self.diverged = 0, 0.0, False
        self.records: dict[str, list[Any]] = {}
        self._order: tuple[int, NDArray[np.intp]] | None = None

    def done(self) -> bool:
        """Whether there is no step left to make."""
        return self.diverged or self.step >= self.steps

    def advance(self) -> None:
        """Make one step, and record if it is time to."""
        images = self._batch()
        # A run that diverges passes through infinities on its way.
        with np.errstate(all="ignore"):
            logits = self.network.forward(self.data.train.x[images], training=True)
            loss, dlogits = softmax_cross_entropy(logits, self.data.train.labels[images])
            self.diverged = not np.isfinite(loss)
            if self.diverged:
                return
            self.network.backward(dlogits)
            sgd(self.network, self.learning_rate)
            for layer in self.network.normalizations():
                layer.track()
            self.recorder.after_step(self.network)
            self.step += 1
            if self.step in self.record_at:
                found = self.recorder.record(self.network, self.data)
                for name, value in {"step": self.step, "loss": loss, **found}.items():
                    self.records.setdefault(name, []).append(value)

    def _batch(self) -> NDArray[np.intp]:
        """Return the step's images: a part of a random order that is new in every epoch."""
        a_epoch = len(self.data.train.x) // BATCH
        epoch, place = divmod(self.step, a_epoch)
        if self._order is None or self._order[0] != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.data.train.x))
            self._order = epoch, order
        return self._order[1][place * BATCH : (place + 1) * BATCH]

    def state(self) -> State:
        """Return everything that `load_state` needs to go on from here."""
        return {
            "step": np.array(self.step),
            "seconds": np.array(self.seconds),
            "diverged": np.array(self.diverged),
            **{f"record {name}": np.array(values) for name, values in self.records.items()},
            **{f"network {name}": value for name, value in self.network.state().items()},
            **{f"recorder {name}": value for name, value in self.recorder.state().items()},
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` returned."""
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.diverged = bool(state["diverged"])
        self.records = {name: list(values) for name, values in _part(state, "record ").items()}
        self.network.load_state(_part(state, "network "))
        self.recorder.load_state(_part(state, "recorder "))


def _part(state: Mapping[str, NDArray[Any]], prefix: str) -> State:
    return {name[len(prefix) :]: state[name] for name in state if name.startswith(prefix)}


class Progress(Protocol):
    """Where steps are counted: a bar of tqdm."""

    def update(self, steps: int) -> object:
        """Count so many steps more."""


def train(
    training: Training, path: Path, identity: Mapping[str, Any], stop: Stop, progress: Progress
) -> None:
    """Train to the end, from where the file says; save there now and then, when stopped, and at the end.

    Parameters
    ----------
    training : Training
        At its first step.
    path : pathlib.Path
        Where the run is kept. If it is there, the run goes on from it.
    identity : mapping
        What the run depends on, in types that JSON has. A file of another run is refused.
    stop : Stop
        Asked after each step.
    progress : Progress
        Told of the steps, also those made before.

    Raises
    ------
    Interrupted
        If `stop` became true; the run has been saved.
    ExperimentError
        If the file is of another run, is damaged, or cannot be written.
    """
    resume(training, path, identity)
    if training.done():
        progress.update(training.steps)
        return
    progress.update(training.step)
    counted = training.step
    began = saved = time.monotonic()
    before = training.seconds
    while not training.done():
        training.advance()
        now = time.monotonic()
        training.seconds = before + now - began
        if stop or training.done() or now - saved > SAVE_EVERY:
            save_arrays(path, training.state(), identity)
            saved = now
        if stop and not training.done():
            raise Interrupted(f"stopped after step {training.step} of {training.steps}; {GOES_ON}")
        if training.step - counted >= 10 or training.done():  # a bar is slower than a step
            progress.update(training.step - counted)
            counted = training.step
    progress.update(training.steps - training.step)  # what a diverged run does not make


def resume(training: Training, path: Path, identity: Mapping[str, Any]) -> None:
    """Bring a training to where its file says; without a file it stays at its first step.

    Raises
    ------
    ExperimentError
        If the file is of another run or is damaged.
    """
    if not path.exists():
        return
    state, about = load_arrays(path)
    for name, value in identity.items():
        if about.get(name) != value:
            raise ExperimentError(
                f"{path} is of a run with {name} {about.get(name)}, but this one has {value}: "
                "name another folder with --output, or begin anew with --restart"
            )
    try:
        training.load_state(state)
    except KeyError as error:
        raise ExperimentError(f"{path} lacks {error}: remove it to begin that run anew") from error
