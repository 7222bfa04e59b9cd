"""Packages that only the experiments need, imported when they are."""

from __future__ import annotations

import importlib
from typing import Any

from bnpp.experiments.files import ExperimentError


def optional(module: str, package: str | None = None) -> Any:
    """Import a module of the extra ``demo``.

    Parameters
    ----------
    module : str
        Its name.
    package : str, optional
        What the package is called where that is another name.

    Returns
    -------
    module

    Raises
    ------
    ExperimentError
        If it is not installed.

    Examples
    --------
    >>> optional("no_such_module")
    Traceback (most recent call last):
    bnpp.experiments.files.ExperimentError: no_such_module is not installed: pip install 'bnpp[demo]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ExperimentError(
            f"{package or module.partition('.')[0]} is not installed: pip install 'bnpp[demo]'"
        ) from error
