"""Every way one call can be run: instruction set times number of threads."""

import bnpp
import numpy as np
from bnpp import _core

from helpers.bits import arrays, same

THREADS = (1, 2, 3, 7, 16)


def every_setting(numbers_of_threads=THREADS):
    """Run the loop's body under each usable instruction set and number of threads."""
    before, work = bnpp.get_isa(), _core.set_min_work(1)
    try:
        for isa in bnpp.usable_isas():
            bnpp.set_isa(isa)
            for threads in numbers_of_threads:
                with bnpp.thread_limit(threads):
                    yield f"{isa}, {threads} threads"
    finally:
        bnpp.set_isa(before)
        _core.set_min_work(work)


def agree(call, numbers_of_threads=(1, 7)):
    """Return what the call returns, after it has returned the same bits in every setting.

    So whatever holds of the result holds in all settings, and one look at it is enough.
    """
    result = expected = None
    for setting in every_setting(numbers_of_threads):
        found = call()
        if expected is None:
            # Copies, because a call may write into the same memory each time.
            result, expected = found, [np.array(a) for _, a in arrays(found)]
        same(expected, [a for _, a in arrays(found)], setting)
    return result
