"""Time every peer on every layer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import bnpp
import numpy as np

from benchmarks.python import family, machine, peers
from benchmarks.python.copying import Copy
from benchmarks.python.problem import FLOORS, Array, Problem, Variant
from benchmarks.python.results import Quartiles, Record, totals
from benchmarks.python.shapes import Layer
from benchmarks.python.timing import Run, interleave, loop

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What a run was asked for."""

    threads: int
    dtype: str
    batch: int
    rounds: int
    min_time: float
    peers: tuple[str, ...]
    layouts: tuple[str, ...]
    values: str = "noise"


def run_family(cases: list[family.Case], settings: Settings) -> tuple[dict[str, Any], list[Record]]:
    """Time the cases of the other norms; the results are those of `run`."""
    about = _describe(settings)
    named = [(f"{case.name} {case.layout}", case) for case in cases]
    return about, [r for _, case in _progress(named) for r in _measure_case(case, settings)]


def run(layers: Iterable[Layer], settings: Settings) -> tuple[dict[str, Any], list[Record]]:
    """Time the layers; the totals of networks come last.

    Returns
    -------
    dict
        The machine and the settings.
    list of Record
    """
    found = peers.importable(["bnpp", *settings.peers])
    about = {**_describe(settings), "peers": found}
    cases = [(y, t) for y in layers for t in y.layouts if t in (*settings.layouts, "nc")]
    named = [(f"{y.network} {y.name} {t}", (y, t)) for y, t in cases]
    records = [r for _, case in _progress(named) for r in _measure(*case, found, settings)]
    return about, records + totals(records)


def _describe(settings: Settings) -> dict[str, Any]:
    """Tell the machine and the settings, once it is what they say."""
    if bnpp.get_threads() != settings.threads:
        raise SystemExit(f"bnpp has {bnpp.get_threads()} threads, not {settings.threads}")
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"WARNING: the load is {load:.1f}: others use the machine, and the times will be off")
    return {**machine.describe(), **vars(settings), "load_before": load}


def _progress(cases: list[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    try:
        from tqdm import tqdm  # noqa: PLC0415
    except ImportError:
        for i, case in enumerate(cases):
            print(f"{i + 1}/{len(cases)} {case[0]}", flush=True)
            yield case
    else:
        with tqdm(cases, unit="case") as bar:
            for case in bar:
                bar.set_postfix_str(case[0])
                yield case


def _measure(layer: Layer, layout: str, found: list[str], settings: Settings) -> list[Record]:
    shape = layer.shape(layout, settings.batch)
    problem = Problem(shape, layout, settings.dtype, settings.threads, settings.values)
    calls = {
        (variant.peer, what): call
        for variant in _checked(list(peers.variants(found, problem)))
        for what, call in variant.calls.items()
    }
    about = {"network": layer.network, "layer": layer.name, "layout": layout, "times": layer.times}
    return _records(problem.x, calls, FLOORS, settings, about)


def _measure_case(case: family.Case, settings: Settings) -> list[Record]:
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(case.shape, np.float32) for _ in range(2))
    floors = dict(zip(("forward", "backward"), case.floors, strict=True))
    about = {"network": family.NETWORK, "layer": case.name, "layout": case.layout, "times": 1}
    return _records(x, case.calls(x, dy), floors, settings, about)


def _records(
    x: Array,
    calls: family.Calls,
    floors: dict[str, float],
    settings: Settings,
    about: dict[str, Any],
) -> list[Record]:
    """Time the calls beside copies of x."""
    runs: dict[tuple[str, str], Run] = {
        (_copy_name(n), "copy"): Copy(x, n) for n in sorted({1, settings.threads})
    }
    copies = list(runs)
    runs |= {key: loop(call) for key, call in calls.items()}
    seconds = interleave(runs, rounds=settings.rounds, min_time=settings.min_time)
    # Threads do not pay for small tensors: the unit is the faster copy.
    unit = min(copies, key=lambda key: np.median(seconds[key]))
    unit_times, unit_median = seconds[unit], float(np.median(seconds[unit]))
    return [
        Record(
            **about,
            shape="x".join(map(str, x.shape)),
            peer=peer,
            what=what,
            seconds=Quartiles.of(times),
            # The unit's own spread: in multiples of itself it would have none.
            copies=Quartiles.of(times / (unit_median if (peer, what) == unit else unit_times)),
            copy_seconds=unit_median,
            gb_per_s=2e-9 * floors.get(what, 1.0) * x.nbytes / float(np.median(times)),
        )
        for (peer, what), times in seconds.items()
    ]


def _copy_name(threads: int) -> str:
    return f"copy, {threads} thread{'s' if threads > 1 else ''}"


def _checked(variants: list[Variant]) -> list[Variant]:
    """Make sure that all compute the same: the results are compared with the first one's, bnpp's."""
    for what in FLOORS:
        expected, *others = [
            (v.peer, _some(v.array(v.calls[what]()))) for v in variants if what in v.calls
        ]
        for peer, values in others:
            # Loose: other formulas, and half precision.
            np.testing.assert_allclose(
                values, expected[1], rtol=0.03, atol=0.03, err_msg=f"{what} of {peer}"
            )
    return variants


def _some(a: np.ndarray) -> np.ndarray:
    """Take some thousand elements, spread over the array: all of them would take long."""
    return a.flat[:: a.size // 10007 + 1].astype(np.float64)
