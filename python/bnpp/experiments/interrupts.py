"""Ctrl-C and termination, turned into a question that a loop asks between two steps.

A step is then never cut in half: what is saved when the question is answered with yes is exactly a state
that the uninterrupted run passes too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: How a message about a stop ends.
GOES_ON = "the same command (without --restart) goes on from there"


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal after it had been saved; the message says so."""


class Stop:
    """Whether to stop: true after the first signal."""

    def __init__(self) -> None:
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Inside the block, let the first SIGINT or SIGTERM only set the `Stop`; the second interrupts.

    In other threads than the main one Python delivers no signals, and nothing is changed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt(f"stopped at once, after the last saving; {GOES_ON}")
        stop.requested = True

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
