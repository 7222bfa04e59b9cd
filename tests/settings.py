"""Every way one call can be run: instruction set times number of threads."""

import bnpp
from bnpp import _core

THREADS = (1, 2, 3, 7, 16)


def every_setting():
    """Run the loop's body under each usable instruction set and number of threads."""
    before, work = bnpp.get_isa(), _core.set_min_work(1)
    try:
        for isa in bnpp.usable_isas():
            bnpp.set_isa(isa)
            for threads in THREADS:
                with bnpp.thread_limit(threads):
                    yield f"{isa}, {threads} threads"
    finally:
        bnpp.set_isa(before)
        _core.set_min_work(work)
