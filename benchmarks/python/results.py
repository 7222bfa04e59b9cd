"""What a run leaves: records, written as JSON. Google Benchmark's JSON is read into the same records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

#: The layer of records that stand for a whole network.
TOTAL = "total"


class Quartiles(NamedTuple):
    """The first quartile, the median and the third."""

    q1: float
    median: float
    q3: float

    @classmethod
    def of(cls, values: npt.NDArray[np.float64]) -> Quartiles:
        return cls(*np.percentile(values, (25, 50, 75)).tolist())

    def scale(self, factor: float) -> Quartiles:
        return Quartiles(*(factor * value for value in self))

    def overlaps(self, other: Quartiles) -> bool:
        return self.q1 <= other.q3 and other.q1 <= self.q3


@dataclass(frozen=True)
class Record:
    """One call on one layer.

    Attributes
    ----------
    network, layer, shape, layout, times
        What was normalized, and how many times that layer occurs.
    peer, what
        Whose call: "forward", "backward", "inference" or "copy".
    seconds : Quartiles
        Of one call.
    copies : Quartiles
        Of the time as a multiple of the copy's in the same round.
    copy_seconds : float
        The median of the copy, the unit.
    gb_per_s : float
        Bytes that the call cannot avoid to move, over the median time.
    """

    network: str
    layer: str
    shape: str
    layout: str
    times: int
    peer: str
    what: str
    seconds: Quartiles
    copies: Quartiles
    copy_seconds: float
    gb_per_s: float

    @property
    def key(self) -> tuple[str, ...]:
        return self.network, self.layer, self.shape, self.layout, self.peer, self.what


def totals(records: Iterable[Record]) -> list[Record]:
    """Sum over the layers of each network, each as often as it occurs.

    The multiple of a total is the mean of its layers' multiples, weighted by the time of all their copies.
    Where every layer occurs once it is a list of single cases, and there is no total.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for r in records:
        groups.setdefault((r.network, r.layout, r.peer, r.what), []).append(r)
    return [_total(group) for group in groups.values() if any(r.times > 1 for r in group)]


def _total(group: list[Record]) -> Record:
    times = np.array([r.times for r in group])
    copies = times * [r.copy_seconds for r in group]
    seconds = times @ np.array([r.seconds for r in group])
    multiple = copies @ np.array([r.copies for r in group]) / copies.sum()
    moved = sum(r.times * r.gb_per_s * r.seconds.median for r in group)
    return replace(
        group[0],
        layer=TOTAL,
        shape=f"{times.sum()} layers",
        times=1,
        seconds=Quartiles(*seconds.tolist()),
        copies=Quartiles(*multiple.tolist()),
        copy_seconds=float(copies.sum()),
        gb_per_s=moved / float(seconds[1]),
    )


def save(path: Path, machine: dict[str, Any], records: Iterable[Record]) -> None:
    """Write the machine and the records."""
    rows = [
        asdict(r) | {k: getattr(r, k)._asdict() for k in ("seconds", "copies")} for r in records
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "records": rows}, indent=1) + "\n")


def load(path: Path) -> tuple[dict[str, Any], list[Record]]:
    """Read the machine and the records, also from Google Benchmark's JSON of the C++ driver."""
    content = json.loads(path.read_text())
    if "benchmarks" in content:
        machine = {
            k: v for k, v in content["context"].items() if k not in ("host_name", "executable")
        }
        return machine, _from_google(content["benchmarks"])
    return content["machine"], [_record(row) for row in content["records"]]


def _record(row: dict[str, Any]) -> Record:
    quartiles = {k: Quartiles(**row[k]) for k in ("seconds", "copies")}
    return Record(**{**row, **quartiles})


def _from_google(rows: Iterable[dict[str, Any]]) -> list[Record]:
    """Read names ``network:layer:shape:layout:peer:what`` and the counters of ``benchmarks/cpp``."""
    records = []
    for row in rows:
        if "copies" not in row or row["run_type"] == "aggregate" or row.get("repetition_index"):
            continue
        network, layer, shape, layout, peer, what = row["name"].split(":")[:6]
        seconds, copies = (
            Quartiles(*(row[f"{name}{suffix}"] for suffix in ("_q1", "", "_q3")))
            for name in ("seconds", "copies")
        )
        times, unit, rate = int(row["times"]), row["copy_seconds"], row["GB/s"]
        records.append(
            Record(
                network,
                layer,
                shape,
                layout,
                times,
                peer,
                what.partition("/")[0],
                seconds,
                copies,
                unit,
                rate,
            )
        )
    return records + totals(records)
