"""How long and how fast each study trains, on the embedded digits and on MNIST.

The learning rates are those of the baseline *without* batch normalization, chosen for it alone; how is told
in docs/paper_experiments.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Steps of a training, steps from one recording to the next, learning rate."""

    steps: int
    every: int
    learning_rate: float

    @property
    def record_at(self) -> tuple[int, ...]:
        """The steps after which something is recorded; the last one is among them."""
        return (*range(self.every, self.steps, self.every), self.steps)

    def changed(self, steps: int | None, learning_rate: float | None) -> Schedule:
        """Return the same with another number of steps and learning rate, where they are given.

        Examples
        --------
        >>> Schedule(1000, 50, 0.1).changed(30, None)
        Schedule(steps=30, every=30, learning_rate=0.1)
        """
        steps = steps or self.steps
        return Schedule(steps, min(self.every, steps), learning_rate or self.learning_rate)


#: Section 4.1: the network with three hidden layers of 100 sigmoids.
FIGURE1 = {"digits": Schedule(15_000, 50, 0.1), "mnist": Schedule(50_000, 200, 0.1)}

#: Section 4.1: standard deviation of the initial weights, which the paper calls small.
FIGURE1_STD = 0.1

#: Section 4.2: the networks of the table.
TABLE = {
    ("digits", "mlp"): Schedule(1000, 20, 0.1),
    ("digits", "convnet"): Schedule(600, 20, 0.2),
    ("mnist", "mlp"): Schedule(10_000, 100, 0.1),
    ("mnist", "convnet"): Schedule(1500, 50, 0.2),
}

#: Hidden layers of the table's fully connected network, all of 100 units.
MLP_DEPTH = 8

#: Channels of the convolutions of the table's convolutional network.
CONV_CHANNELS = (8, 16, 16, 16)

#: Moving averages: the trainings, at five times the table's learning rates.
AVERAGES = {
    ("digits", "mlp"): Schedule(1000, 20, 0.5),
    ("digits", "convnet"): Schedule(600, 20, 1.0),
    ("mnist", "mlp"): Schedule(10_000, 100, 0.5),
    ("mnist", "convnet"): Schedule(1500, 50, 1.0),
}
