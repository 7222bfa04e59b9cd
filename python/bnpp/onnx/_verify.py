"""Running the model before and after the fold, and comparing the difference with a predicted bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from bnpp.onnx import _inputs, _run
from bnpp.onnx._noise import disturbed
from bnpp.onnx._proto import names_used, opset, strip_outputs
from bnpp.onnx._report import OutputEntry, Verification
from bnpp.onnx._run import Arrays, NotRunError
from bnpp.onnx._sites import Sites

#: Inputs that are tried, each with its own noise.
SEEDS = 3
#: The bound is so many times the largest effect that the noise was seen to have.
MARGIN = 4.0
#: Added to the bound for the roundings of the other operators: so many units of the largest output.
FLOOR = 16


class VerificationError(Exception):
    """The folded model differs by more than the bound, or one of the two models could not be run."""


def verify_fold(
    original: ModelProto,
    folded: ModelProto,
    sites: Sites,
    shapes: Mapping[str, Sequence[int]],
    seed: int,
) -> Verification:
    """Run both models and compare their outputs.

    Raises
    ------
    ValueError
        If `shapes` does not fit the model's inputs.
    VerificationError
        If an output differs by more than its bound, or a model cannot be run.
    """
    plain = _plain(original)
    failures = []
    for runtime in _run.runtimes():
        try:
            return _compare(plain, folded, sites, shapes, seed, runtime)
        except NotRunError as error:
            failures.append(f"{runtime} says {error}")
    raise VerificationError(
        f"the models could not be run to compare them ({'; '.join(failures)}); if the inputs do not suit, "
        "give their shapes (--shape NAME=1,3,224,224), or do not verify (--no-verify)"
    )


def _compare(
    original: ModelProto,
    folded: ModelProto,
    sites: Sites,
    given: Mapping[str, Sequence[int]],
    seed: int,
    runtime: str,
) -> Verification:
    with _run.runner(original, runtime) as run:
        shapes, first = _first_run(original, run, given, seed)
        feeds = [_inputs.make(original, shapes, seed + k) for k in range(SEEDS)]
        expected = [first] + [run(feed) for feed in feeds[1:]]
        again = run(feeds[0])
    with _run.runner(folded, runtime) as run:
        found = [run(feed) for feed in feeds]
    with _run.runner(disturbed(folded, sites, seed), runtime) as run:
        moved = [run(feed) for feed in feeds]
    result = Verification(_run.version(runtime), seed, SEEDS, shapes, [])
    for name in found[0]:
        result.outputs.append(
            OutputEntry(
                name,
                max(difference(a[name], b[name]) for a, b in zip(expected, found, strict=True)),
                _bound([(a[name], b[name]) for a, b in zip(found, moved, strict=True)]),
                max(_largest(a[name]) for a in expected),
            )
        )
    _raise_if_random(first, again)
    _raise_if_different(result)
    return result


def _first_run(
    model: ModelProto, run: _run.Runner, given: Mapping[str, Sequence[int]], seed: int
) -> tuple[dict[str, tuple[int, ...]], Arrays]:
    """Return the first shapes that the model runs with, and its outputs."""
    problem = NotRunError("it has no inputs to try")
    for shapes in _inputs.candidates(model, given):
        try:
            return shapes, run(_inputs.make(model, shapes, seed))
        except NotRunError as error:
            problem = error
    raise problem


def _raise_if_random(first: Arrays, again: Arrays) -> None:
    for name, array in first.items():
        own = difference(array, again[name])
        if own > _floor(array):
            raise VerificationError(
                f"the model cannot be verified: its output {name!r} differs by {own:.3g} "
                "from one run to the next"
            )


def _raise_if_different(result: Verification) -> None:
    wrong = [output for output in result.outputs if not output.passed]
    if not wrong:
        return
    worst = wrong[0]
    raise VerificationError(
        f"output {worst.name!r} differs by {worst.difference:.3g}, beyond the predicted bound of "
        f"{worst.bound:.3g} ({result.runtime}, seed {result.seed})"
    )


def difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the largest difference of two outputs: 0 where both are NaN, infinite where only one is.

    Examples
    --------
    >>> difference(np.array([1.0, np.nan, np.inf]), np.array([1.5, np.nan, np.inf]))
    0.5
    """
    if np.shape(a) != np.shape(b):
        return np.inf
    if np.asarray(a).dtype.kind not in "fiub" and np.asarray(a).dtype.kind != "V":
        return 0.0 if np.array_equal(a, b) else np.inf
    wide_a, wide_b = np.asarray(a).astype(np.float64), np.asarray(b).astype(np.float64)
    same = (wide_a == wide_b) | (np.isnan(wide_a) & np.isnan(wide_b))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(wide_a - wide_b))
    return float(np.where(np.isnan(apart), np.inf, apart).max(initial=0))


def _bound(pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    effect = max(difference(quiet, noisy) for quiet, noisy in pairs)
    return MARGIN * effect + max(_floor(quiet) for quiet, _ in pairs)


def _floor(array: NDArray[Any]) -> float:
    """Return what the roundings of the other operators may make of an output."""
    kind = np.asarray(array).dtype.kind
    if kind not in "fV":
        return 0.0
    u = float(np.finfo(array.dtype).eps) / 2 if kind == "f" else 2.0**-8
    return FLOOR * u * _largest(array)


def _largest(array: NDArray[Any]) -> float:
    array = np.asarray(array)
    if array.dtype.kind not in "fiubV":
        return 0.0
    wide = np.abs(array.astype(np.float64))
    return float(wide[np.isfinite(wide)].max(initial=0))


def _plain(model: ModelProto) -> ModelProto:
    """Return the model without the outputs of batch norms that mean nothing.

    onnxruntime refuses unused ones from opset 14 on, and may crash on empty names before.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    strip_outputs(copy.graph, set(names_used(copy.graph)), opset(copy) >= 14)
    return copy
