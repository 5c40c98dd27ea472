"""Rows of one bucket, each with those before it, as whole columns and some at a time.

The surprising rule: a crowd is not compared each with each. Of more than CROWD rows before it a row meets the
FIRST and the last; what it meets depends on the rows before it alone, so a later delivery changes nothing.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

# N rows that look, P meetings
Rows = NDArray[np.int64]

CROWD = 128
"""Rows that one row meets in one bucket. 10,000 copies of a picture meet 82 million times in 64 tables, and
not 3.2 billion times."""
FIRST = 64
"""Of them the first of the bucket; the others are the last before the row."""
PASSED_OVER = "passed over"
"""Counted: meetings that a crowd did not have."""


def ranges(
    first_N: NDArray[Any], num_N: NDArray[Any], counts: Counter[str], *, block: int
) -> Iterator[tuple[Rows, Rows]]:
    """(one of the N, place in its bucket) of as many places from its first on; those of one stand together.

    >>> [place.tolist() for place in next(ranges(np.array([0, 0]), np.array([0, 2]), Counter(), block=9))]
    [[1, 1], [0, 1]]
    """
    return (part() for part in parts(first_N, num_N, counts, block=block))


def parts(
    first_N: NDArray[Any], num_N: NDArray[Any], counts: Counter[str], *, block: int
) -> Iterator[Callable[[], tuple[Rows, Rows]]]:
    """What makes each of the blocks of :func:`ranges`, in whatever thread."""
    meets_N = np.minimum(num_N, CROWD)
    counts[PASSED_OVER] += int((num_N - meets_N).sum(dtype=np.int64))
    met = np.flatnonzero(meets_N)
    ends = np.cumsum(meets_N[met], dtype=np.int64)
    for part in np.split(met, np.searchsorted(ends, np.arange(block, ends[-1] if len(ends) else 0, block))):
        yield functools.partial(_spelled, part, first_N[part], num_N[part], meets_N[part])


def _spelled(part: Rows, first: NDArray[Any], num: NDArray[Any], meets: NDArray[Any]) -> tuple[Rows, Rows]:
    offsets = np.arange(meets.sum()) - np.repeat(np.cumsum(meets) - meets, meets)
    offsets += (offsets >= FIRST) * np.repeat(num - meets, meets)
    return np.repeat(part, meets), np.repeat(first, meets) + offsets


def first_met(pairs_P2: Rows, num_met_N: Rows, counts: Counter[str], *, most: int) -> Rows:
    """Without what a row meets after so many; its pairs stand together. ``num_met_N``: how many each row has
    met before, filled in place.
    """
    heads = np.flatnonzero(np.diff(pairs_P2[:, 0], prepend=-1))
    num = np.diff(heads, append=len(pairs_P2))
    place_P = np.arange(len(pairs_P2)) - np.repeat(heads, num) + num_met_N[pairs_P2[:, 0]]
    num_met_N[pairs_P2[heads, 0]] += num
    counts[PASSED_OVER] += int((place_P >= most).sum())
    return pairs_P2[place_P < most]


def places(sorted_N: NDArray[Any]) -> Rows:
    """How many equal values stand before each.

    >>> places(np.array([3, 3, 5, 5, 5]))
    array([0, 1, 0, 1, 2])
    """
    return np.arange(len(sorted_N)) - np.searchsorted(sorted_N, sorted_N)
