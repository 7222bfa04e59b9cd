"""What the studies share: the folder for results, the bar of progress, trainings that are resumed.

A study trains its networks through `Session.train`, and what it finds is written by `Session.save_csv` and
the like. Each training is one file in the folder ``runs``; a study that finds it finished reads it.
"""

from __future__ import annotations

import csv
import io
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import bnpp
from bnpp.experiments.files import load_arrays, save_arrays, writable_folder, write_text
from bnpp.experiments.interrupts import GOES_ON, Interrupted, Stop
from bnpp.experiments.optional import optional
from bnpp.experiments.settings import Schedule
from bnpp.experiments.training import Progress, Training, train


@dataclass(frozen=True)
class Session:
    """One call of the command.

    Attributes
    ----------
    folder : pathlib.Path
        Where results go; writable.
    stop : Stop
        Becomes true when the user wants to stop.
    restart : bool
        Whether to forget trainings of before.
    steps, learning_rate : int, float, optional
        What the user wants instead of a study's own.
    """

    folder: Path
    stop: Stop
    restart: bool = False
    steps: int | None = None
    learning_rate: float | None = None

    def schedule(self, usual: Schedule) -> Schedule:
        """Return a study's schedule as the user wants it."""
        return usual.changed(self.steps, self.learning_rate)

    def bar(self, total: int, what: str) -> Any:
        """Return a context manager: a bar of progress on standard error, if that is a terminal."""
        return optional("tqdm").tqdm(total=total, desc=what, unit="step", disable=None)

    def train(
        self, training: Training, name: str, identity: Mapping[str, Any], progress: Progress
    ) -> Training:
        """Bring a training to its end, from where an earlier call of the command left it.

        Parameters
        ----------
        training : Training
            At its first step.
        name : str
            The run's name, unique within the study.
        identity : mapping
            What the run depends on besides data, seed and learning rate.
        progress : Progress
            Told of the steps.

        Returns
        -------
        Training
            The same object.

        Raises
        ------
        Interrupted, ExperimentError
            As `bnpp.experiments.training.train`.
        """
        path = writable_folder(self.folder / "runs") / f"{name}.npz"
        if self.restart:
            path.unlink(missing_ok=True)
        whole = {
            "data": training.data.name,
            "seed": training.seed,
            "learning_rate": training.learning_rate,
            "steps": training.steps,
            "records": len(training.record_at),
            **identity,
        }
        train(training, path, whole, self.stop, progress)
        return training

    def remember(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return what a function returned in an earlier call of the command, or call it now.

        Parameters
        ----------
        name : str
            The result's name, unique as those of the trainings are.
        compute : callable
            Depends on finished trainings only, and returns what JSON has types for.

        Returns
        -------
        object
            What `compute` returned.
        """
        path = writable_folder(self.folder / "runs") / f"{name}.npz"
        if self.restart or not path.exists():
            save_arrays(path, {}, {"found": compute()})
        return load_arrays(path)[1].get("found")

    def check(self) -> None:
        """Raise if the user wants to stop, for what takes long between trainings.

        Raises
        ------
        Interrupted
            Everything trained so far has been saved.
        """
        if self.stop:
            raise Interrupted(f"stopped between two trainings; {GOES_ON}")

    def save_csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
        """Write a table with comma-separated values and return its path."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        path = self.folder / name
        write_text(path, text.getvalue())
        return path


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table for people, which Markdown reads too."""
    return str(
        optional("tabulate").tabulate(rows, header, tablefmt="github", disable_numparse=True)
    )


def machine() -> str:
    """Tell in one line where something was measured.

    Examples
    --------
    >>> machine()
    'bnpp ..., NumPy ..., Python ..., ... cores (...)'
    """
    return (
        f"bnpp {bnpp.__version__}, NumPy {np.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores ({platform.machine()}, {bnpp.get_isa()})"
    )
