"""The figures of the studies, as PNG files that are written whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnpp.experiments.averages import Study, statistics
from bnpp.experiments.figure1 import VARIANTS, Curve
from bnpp.experiments.files import write_whole
from bnpp.experiments.optional import optional
from bnpp.experiments.table import VARIANTS as TABLE_VARIANTS
from bnpp.experiments.table import Run, targets


def _subplots(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Any, Any]:
    """Return a figure that needs no display, and its axes in rows."""
    figure: Any = optional("matplotlib.figure").Figure(
        figsize=(size[0] * columns, size[1] * rows), layout="constrained"
    )
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _save(figure: Any, path: Path) -> Path:
    # Without the version of matplotlib, the same numbers make the same file.
    write_whole(
        path, lambda file: figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    )
    return path


def figure_1(curves: Mapping[bool, Curve], path: Path, about: str) -> Path:
    """Draw Figure 1: test accuracy, and the percentiles of a typical sigmoid's input, without and with BN.

    Parameters
    ----------
    curves : mapping
        What was recorded, by whether there is batch normalization.
    path : pathlib.Path
        The PNG file.
    about : str
        The title.

    Returns
    -------
    pathlib.Path
        The file.
    """
    figure, (axes,) = _subplots(1, 3, (4.6, 3.8))
    for normalize, style in ((True, "-"), (False, "--")):
        curve = curves[normalize]
        axes[0].plot(curve.step, curve.accuracy, style, label=VARIANTS[normalize])
    axes[0].set(title="(a) test accuracy", xlabel="training steps", ylim=(0.7, 1.0))
    axes[0].legend(loc="lower right")
    low, high = np.inf, -np.inf
    for ax, letter, normalize in zip(axes[1:], "bc", (False, True), strict=True):
        curve = curves[normalize]
        unit = curve.typical()
        for i, name in ((2, "85th percentile"), (1, "median"), (0, "15th percentile")):
            ax.plot(curve.step, curve.percentiles[:, i, unit], color=f"C{i}", label=name)
        low = min(low, curve.percentiles[:, :, unit].min())
        high = max(high, curve.percentiles[:, :, unit].max())
        title = f"({letter}) {VARIANTS[normalize]}: input of sigmoid {unit}"
        ax.set(title=title, xlabel="training steps")
    margin = 0.05 * (high - low)
    for ax in axes[1:]:
        ax.set_ylim(low - margin, high + margin)
    axes[1].legend(loc="best", fontsize="small")
    figure.suptitle(about, fontsize="small")
    return _save(figure, path)


def table_figure(runs: Sequence[Run], path: Path, about: str) -> Path:
    """Draw test accuracy against steps for every variant: the median of the seeds and their range.

    Parameters
    ----------
    runs : sequence of Run
        All runs.
    path, about
        As in `figure_1`.

    Returns
    -------
    pathlib.Path
        The file.
    """
    goal = targets(runs)
    figure, (axes,) = _subplots(1, len(goal), (6.5, 4.6))
    for ax, (network, level) in zip(axes, goal.items(), strict=True):
        for i, variant in enumerate(TABLE_VARIANTS):
            group = [run for run in runs if (run.network, run.variant) == (network, variant.name)]
            _band(ax, [(run.step, run.accuracy) for run in group], f"C{i}", variant.name)
        best = max(run.best for run in runs if run.network == network)
        ax.axhline(level, color="black", linewidth=0.8, linestyle=":")
        ax.set(title=network, xlabel="training steps", ylabel="test accuracy")
        ax.set_ylim(max(0.0, level - 8 * (best - level) - 0.02), min(1.0, best + 0.01))
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    figure.suptitle(about, fontsize="small")
    return _save(figure, path)


def averages_figure(studies: Sequence[Study], path: Path, about: str) -> Path:
    """Draw for each network the accuracy with every kind of statistics, and that on shifted images.

    Parameters
    ----------
    studies : sequence of Study
        All networks and seeds.
    path, about
        As in `figure_1`.

    Returns
    -------
    pathlib.Path
        The file.
    """
    networks = list(dict.fromkeys(study.network for study in studies))
    figure, grid = _subplots(len(networks), 2, (6.2, 4.0))
    for row, network in zip(grid, networks, strict=True):
        group = [study for study in studies if study.network == network]
        names = statistics(group[0])
        for i, name in enumerate(names):
            curves = [(np.array(s.records["step"]), np.array(s.records[name])) for s in group]
            _band(row[0], curves, f"C{i}", name, "--" if name == "whole set" else "-")
        row[0].set(title=f"{network}: statistics", xlabel="training steps", ylabel="test accuracy")
        row[0].set_xscale("log")
        if network == networks[0]:
            row[0].legend(fontsize="small", loc="lower right")
        _shift_bars(row[1], group)
        row[1].set(title=f"{network}: shifted test images", ylim=(0, 1.25))
    figure.suptitle(about, fontsize="small")
    return _save(figure, path)


def _band(
    ax: Any, curves: Sequence[tuple[Any, Any]], color: str, label: str, style: str = "-"
) -> None:
    """Draw the median over the seeds with their range; runs that diverged end earlier."""
    shortest = min((len(step) for step, _ in curves), default=0)
    if shortest == 0:
        ax.plot([], [], color=color, label=label)  # the legend names it nevertheless
        return
    step = curves[0][0][:shortest]
    values = np.array([accuracy[:shortest] for _, accuracy in curves])
    ax.plot(step, np.median(values, axis=0), style, color=color, label=label)
    ax.fill_between(step, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, lw=0)


#: Enough bars stand side by side without these.
_NOT_DRAWN = ("moved by 1 batches", "moved by 100 batches")


def _shift_bars(ax: Any, studies: Sequence[Study]) -> None:
    shifts = list(studies[0].shifts)
    kinds = [name for name in studies[0].shifts[shifts[0]] if name not in _NOT_DRAWN]
    width = 0.8 / len(kinds)
    for k, name in enumerate(kinds):
        values = np.array([[found[name] for found in study.shifts.values()] for study in studies])
        middle = np.median(values, axis=0)
        errors = [middle - values.min(axis=0), values.max(axis=0) - middle]
        place = np.arange(len(shifts)) + (k - (len(kinds) - 1) / 2) * width
        ax.bar(place, middle, width, yerr=errors, label=name, error_kw={"linewidth": 0.8})
    ax.set_xticks(range(len(shifts)), shifts)
    ax.legend(fontsize="small", loc="upper center", ncols=2)
