"""Folding from a file into a file: what the command line does."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from bnpp.onnx import _files
from bnpp.onnx._fold import Leftover, Padded, fold
from bnpp.onnx._report import Report


def fold_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    report: str | os.PathLike[str] | None = None,
    verify: bool = True,
    padded: Padded = "refuse",
    leftover: Leftover = "keep",
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> Report:
    """Fold the batch norms of a model file and write the result to another file.

    The target is replaced in one step, after the verification: whatever happens before, a file that was
    there stays as it was. A model over 2 GB gets a second file beside it, ``<target>.<hash>.data``, whose
    name depends on its contents; one of an earlier fold stays there, as copies of that model may need it.

    Parameters
    ----------
    source, target : path
        The files, which must not be the same.
    report : path, optional
        Where to write the report as JSON.
    verify, padded, leftover, shapes, seed
        As in `fold`.

    Returns
    -------
    Report
        What was done.

    Raises
    ------
    ValueError
        If the paths do not suit, or for what `fold` raises it for.
    OSError
        If a file cannot be read or written.
    VerificationError
        If the outputs differ by more than the bound; nothing is written then.

    Examples
    --------
    >>> import bnpp.onnx
    >>> report = bnpp.onnx.fold_file("model.onnx", "folded.onnx")  # doctest: +SKIP
    """
    source, target = Path(source), Path(target)
    others = [] if report is None else [Path(report)]
    for path in (target, *others):
        _check_target(source, path)
    if others and _same(target, others[0]):
        raise ValueError(f"the report and the folded model would both be {target}")
    model, result = fold(
        _files.load(source),
        verify=verify,
        padded=padded,
        leftover=leftover,
        shapes=shapes,
        seed=seed,
    )
    _files.save(model, target)
    for path in others:
        with _files.replacing(path.resolve()) as file:
            file.write(json.dumps(result.to_dict(), indent=1).encode() + b"\n")
    return result


def _check_target(source: Path, target: Path) -> None:
    """Refuse early what could not be written in the end.

    Raises
    ------
    ValueError
        If the path does not suit.
    """
    if _same(source, target):
        raise ValueError(f"{target} is the input itself, but another file is needed")
    if target.is_dir():
        raise ValueError(f"{target} is a folder, but a file is needed")
    folder = target.resolve().parent
    if not folder.is_dir():
        raise ValueError(f"the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the folder {folder} cannot be written to")


def _same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve() or (a.exists() and b.exists() and a.samefile(b))
