"""Tables of results, by tabulate where it is installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.python.results import Record

HEAD = ["layer", "shape", "layout", "peer", "copy", "forward", "backward", "inference"]
NOTE = "Each cell: multiple of a copy ± half the quartiles' distance, GB/s, time of a call."


def table(records: Iterable[Record], style: str = "simple") -> str:
    """Give a row for each peer on each layer."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for r in records:
        rows.setdefault((f"{r.network} {r.layer}", r.shape, r.layout, r.peer), {})[r.what] = _cell(
            r
        )
    lines = [[*key, *(cells.get(what, "") for what in HEAD[4:])] for key, cells in rows.items()]
    return f"{render(HEAD, lines, style)}\n\n{NOTE}"


def render(head: Sequence[str], rows: Sequence[Sequence[str]], style: str = "simple") -> str:
    """Align the columns."""
    try:
        from tabulate import tabulate  # noqa: PLC0415
    except ImportError:
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        rule = ["-" * width for width in widths]
        lines = (
            "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
            for row in (head, rule, *rows)
        )
        return "\n".join(lines)
    return str(tabulate(rows, head, tablefmt=style, disable_numparse=True))


def _cell(r: Record) -> str:
    spread = (r.copies.q3 - r.copies.q1) / 2
    return f"{r.copies.median:.2f} ±{spread:.2f}  {r.gb_per_s:.1f}  {duration(r.seconds.median)}"


def duration(seconds: float) -> str:
    """Give three digits and a unit.

    >>> duration(8.25e-6)
    '8.25 us'
    """
    for factor, unit in (1, "s"), (1e3, "ms"):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
