"""Two results side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.python.results import Quartiles, Record
from benchmarks.python.tables import render

HEAD = ["layer", "layout", "peer", "pass", "A", "B", "B / A", ""]

#: What may differ without a word.
VOLATILE = {"date", "load_avg", "load_before", "mhz_per_cpu"}


def compare(a: Iterable[Record], b: Iterable[Record], style: str = "simple") -> str:
    """Compare the multiples of what is in both.

    Where the quartile ranges overlap, the difference is called noise.
    """
    before = {r.key: r for r in a}
    rows = [_row(before[r.key], r) for r in b if r.key in before and r.what != "copy"]
    return render(HEAD, rows, style)


def _row(a: Record, b: Record) -> list[str]:
    ratio = b.copies.median / a.copies.median
    verdict = "faster" if ratio < 1 else "slower"
    return [
        f"{b.network} {b.layer} {b.shape}",
        b.layout,
        b.peer,
        b.what,
        _range(a.copies),
        _range(b.copies),
        f"{ratio:.3f}",
        "noise" if a.copies.overlaps(b.copies) else verdict,
    ]


def _range(q: Quartiles) -> str:
    return f"{q.median:.3f} ({q.q1:.3f}-{q.q3:.3f})"


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Tell how the machines, versions and settings differ."""
    keys = [k for k in {**a, **b} if k not in VOLATILE and a.get(k) != b.get(k)]
    return [f"{key}: A {a.get(key)}, B {b.get(key)}" for key in keys]
