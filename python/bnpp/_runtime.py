"""Instruction sets, threads and memory: what runs, and how to choose it.

No choice made here changes a single bit of any result.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, overload

import numpy as np

from bnpp import _core

#: What the core takes: beyond any machine.
MAX_THREADS = 1024


def usable_isas() -> tuple[str, ...]:
    """List the instruction sets that this machine can run.

    Returns
    -------
    tuple of str
        Best first. Wheels end with ``"base"``, which every machine of the architecture can run.

    Examples
    --------
    >>> import bnpp
    >>> bnpp.get_isa() in bnpp.usable_isas()
    True
    """
    return tuple(_core.usable_isas())


def get_isa() -> str:
    """Tell the instruction set in use.

    It is the best one, unless the environment variable ``BNPP_ISA`` or `set_isa` named another.

    Returns
    -------
    str
        One of `usable_isas`.

    Raises
    ------
    ValueError
        If ``BNPP_ISA`` names an instruction set that is unknown or not usable here.

    Examples
    --------
    >>> import bnpp
    >>> bnpp.get_isa() in bnpp.usable_isas()
    True
    """
    return _core.get_isa()


def set_isa(name: str) -> str:
    """Use this instruction set from now on, in all threads of the process.

    Parameters
    ----------
    name : str
        One of `usable_isas`.

    Returns
    -------
    str
        The one used before.

    Raises
    ------
    TypeError
        If `name` is no string.
    ValueError
        For a name that is unknown or not usable on this machine.

    Examples
    --------
    >>> import bnpp
    >>> last = bnpp.usable_isas()[-1]
    >>> before = bnpp.set_isa(last)
    >>> bnpp.set_isa(before) == last
    True
    """
    if not isinstance(name, str):
        raise TypeError(f"set_isa: name is {name!r}, but a string is needed")
    return _core.set_isa(name)


def get_threads() -> int:
    """Tell how many threads a large call made now, from this thread, would use.

    ``OMP_NUM_THREADS``, ``threadpoolctl`` and `thread_limit` are honoured at each call.

    Returns
    -------
    int
        At least 1, at most four a core or 16. Small calls use fewer.

    Examples
    --------
    >>> import bnpp
    >>> bnpp.get_threads() >= 1
    True
    """
    return _core.get_threads()


def thread_limit(n: int) -> AbstractContextManager[None]:
    """Limit the calls made from this Python thread to `n` threads, inside a ``with`` block.

    Parameters
    ----------
    n : int
        From 1 to 1024; it may exceed the number of cores. An inner limit replaces an outer one.

    Returns
    -------
    context manager

    Raises
    ------
    TypeError
        If `n` is no integer.
    ValueError
        If it is out of range.

    Examples
    --------
    >>> import bnpp
    >>> with bnpp.thread_limit(1):
    ...     bnpp.get_threads()
    1
    """
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"thread_limit: n is {n!r}, but an integer is needed") from None
    if not 1 <= n <= MAX_THREADS:
        raise ValueError(f"thread_limit: n is {n}, but 1 to {MAX_THREADS} is needed")
    return _limited(n)


@contextmanager
def _limited(n: int) -> Iterator[None]:
    before = _core.set_thread_limit(n)
    try:
        yield
    finally:
        _core.set_thread_limit(before)


def clear_memory() -> int:
    """Give the memory kept for new outputs back to the system.

    Outputs of 1 MiB and more lie on memory that is kept, when the last array on it is gone, for the
    next output of that size: a freshly mapped 100 MB costs more in page faults than batch
    normalization takes. At most 512 MiB are kept; the environment variable ``BNPP_POOL_BYTES`` sets
    another cap at the start of the process, 0 for none. Statistics and sums lie on memory that is kept
    likewise, 64 MiB at most. Arrays in use do not count.

    Returns
    -------
    int
        How many bytes were given back.

    Examples
    --------
    >>> import bnpp, numpy as np
    >>> y = bnpp.batch_norm(np.random.rand(64, 64, 64, 2))[0]  # 4 MiB
    >>> del y
    >>> bnpp.clear_memory() >= 4 * 2**20, bnpp.clear_memory()
    (True, 0)
    """
    return _core.clear_pool()


@overload
def show_config(mode: Literal["stdout"] = ...) -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Show the instruction sets, the threads and how this bnpp was built.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print it, or return it as a dictionary, as ``numpy.show_config`` does.

    Returns
    -------
    dict or None
        The dictionary, with ``mode="dicts"``.

    Raises
    ------
    ValueError
        For another mode.

    Examples
    --------
    >>> import bnpp
    >>> bnpp.show_config()  # doctest: +ELLIPSIS
    bnpp: ...
    numpy: ...
    isa: ...
    usable_isas: ...
    threads: ...
    >>> bnpp.show_config(mode="dicts")["isa"] == bnpp.get_isa()
    True
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"show_config: mode is {mode!r}, but 'stdout' or 'dicts' is needed")
    build = dict(_core.build_info())
    config: dict[str, Any] = {
        "bnpp": build.pop("version"),
        "numpy": np.__version__,
        "isa": get_isa(),
        "usable_isas": usable_isas(),
        "threads": get_threads(),
        "memory_kept": "{} of at most {} bytes".format(*_core.pool_state()),
        **build,
    }
    if mode == "dicts":
        return config
    for key, value in config.items():
        print(f"{key}: {' '.join(value) if isinstance(value, tuple) else value}")
    return None
