"""Bars against the floor, which is a black line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from benchmarks.python.problem import FLOORS
from benchmarks.python.results import TOTAL, Record


def plot(records: Sequence[Record], path: Path, about: str) -> None:
    """Draw each network's totals in each layout, or each layer where there are no totals."""
    shown = [r for r in records if r.what in FLOORS]
    shown = [r for r in shown if r.layer == TOTAL] or shown
    places = {(r.network, r.layer): None for r in shown}
    layouts = {r.layout: None for r in shown}
    peers = {r.peer: f"C{i}" for i, r in enumerate({r.peer: r for r in shown}.values())}
    figure, grid = plt.subplots(
        len(places),
        len(layouts),
        figsize=(5.5 * len(layouts), 3.2 * len(places)),
        squeeze=False,
        layout="constrained",
    )
    for row, (network, layer) in zip(grid, places, strict=True):
        for ax, layout in zip(row, layouts, strict=True):
            here = (network, layer, layout)
            group = [r for r in shown if (r.network, r.layer, r.layout) == here]
            if group:
                _panel(ax, group, peers)
                ax.set_title(f"{network} {layer}, {group[0].shape}, {layout}", fontsize="medium")
            else:
                ax.remove()
    handles = [Patch(color=color, label=peer) for peer, color in peers.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle(about, fontsize="small")
    figure.savefig(path, dpi=120)


def _panel(ax: Any, group: list[Record], colors: dict[str, str]) -> None:
    present = [peer for peer in colors if any(r.peer == peer for r in group)]
    width = 0.8 / len(present)
    for i, peer in enumerate(present):
        mine = {r.what: r.copies for r in group if r.peer == peer}
        offset = (i - (len(present) - 1) / 2) * width
        where = [j + offset for j, what in enumerate(FLOORS) if what in mine]
        bars = [mine[what] for what in FLOORS if what in mine]
        errors = [
            [max(0.0, q.median - q.q1) for q in bars],
            [max(0.0, q.q3 - q.median) for q in bars],
        ]
        drawn = ax.bar(where, [q.median for q in bars], width, yerr=errors, color=colors[peer])
        ax.bar_label(drawn, fmt="%.1f", fontsize="x-small")
    for j, floor in enumerate(FLOORS.values()):
        ax.hlines(floor, j - 0.45, j + 0.45, color="black", linewidth=1)
    ax.set_xticks(range(len(FLOORS)), list(FLOORS))
    ax.set_ylabel("time / time of a copy")
