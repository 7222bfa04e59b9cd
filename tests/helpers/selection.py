"""Fewer cases: of a product of parameters, those in which every two values come together."""

import heapq
from collections import defaultdict
from itertools import combinations

# Products of fewer cases or parameters run in full.
CASES, PARAMETERS = 12, 3


def pairwise(items):
    """Return the ids of the items to leave out; they depend on the order of the values only."""
    of_test = defaultdict(list)
    for item in items:
        if hasattr(item, "callspec"):
            of_test[item.parent, item.originalname].append(item)
    left_out = set()
    for cases in of_test.values():
        values = zip(*(case.callspec.params.values() for case in cases), strict=True)
        # Parameters that always change together, as those of one decorator may, are one.
        columns = dict.fromkeys(map(_numbered, values))
        if len(cases) >= CASES and len(columns) >= PARAMETERS:
            rows = [set(combinations(enumerate(row), 2)) for row in zip(*columns, strict=True)]
            chosen = _cover(rows)
            left_out.update(case.nodeid for k, case in enumerate(cases) if k not in chosen)
    return left_out


def _numbered(values):
    """Return for each value the number of its first appearance: the same one is the same object."""
    numbers = {}
    return tuple(numbers.setdefault(id(value), len(numbers)) for value in values)


def _cover(rows):
    """Return the indices of rows that together hold all pairs, each with the most new ones."""
    missing, chosen = set().union(*rows), set()
    # Equal gains are spread over the product, or all of them would fall on its start.
    heap = [(-len(pairs), k * 7919 % len(rows), k) for k, pairs in enumerate(rows)]
    heapq.heapify(heap)
    while missing:
        gain, order, k = heapq.heappop(heap)
        new = len(rows[k] & missing)
        if new == -gain:
            chosen.add(k)
            missing -= rows[k]
        elif new:
            heapq.heappush(heap, (-new, order, k))
    return chosen
