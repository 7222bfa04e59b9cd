"""Files that are written whole or not at all, and what a run keeps in them.

A file is written beside its place under another name and then renamed, so that neither an error nor an
interruption leaves half of one.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


class ExperimentError(RuntimeError):
    """An experiment cannot go on for a reason that its user can mend; the message is one sentence."""


def writable_folder(folder: Path) -> Path:
    """Make the folder if it is not there, and try to write in it.

    Raises
    ------
    ExperimentError
        If that does not work.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ExperimentError(
            f"cannot write to the folder {folder} ({error.strerror}): "
            "name one that can be written with --output"
        ) from error
    return folder


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file that takes its place only when it is complete.

    Parameters
    ----------
    path : pathlib.Path
        The file, in a folder that exists. One of this name is replaced.
    write : callable
        Gets a binary file open for writing.

    Raises
    ------
    ExperimentError
        If the file cannot be written; what was there before stays.
    """
    temporary = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp's own are for nobody else's eyes
        temporary.replace(path)
    except OSError as error:
        raise ExperimentError(f"cannot write {path} ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole; see `write_whole`."""
    write_whole(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write a text file whole; see `write_whole`."""
    write_bytes(path, text.encode())


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Write arrays and a description that JSON can hold into one ``.npz`` file; see `write_whole`."""
    described = {"about": np.array(json.dumps(about)), **arrays}
    write_whole(path, lambda file: np.savez(file, allow_pickle=False, **described))


def load_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `save_arrays` wrote.

    Returns
    -------
    arrays : dict of numpy.ndarray
    about : dict

    Raises
    ------
    ExperimentError
        If the file is damaged or no such file.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ExperimentError(
            f"{path} is no saved run or is damaged: remove it to begin that run anew"
        ) from error
    return arrays, about
