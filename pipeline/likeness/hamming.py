"""All pairs of 64-bit hashes within a radius, none missed, without comparing each with each.

Multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing",
CVPR 2012): the bits are cut into three keys. Of two hashes within a radius of 8 one key differs by 2 bits at
most, so each of the 232 such changes of a key is looked up. The surprising rule: FAISS has this index
(``IndexBinaryMultiHash``), and it takes 330 s of two cores for a million hashes; as whole columns of numpy,
over sorted keys, it takes 30 s of one.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.likeness.ahead import ahead, cores
from pipeline.likeness.meetings import CROWD, Rows, parts

# N hashes, M of them from the start on, P pairs
Hashes = NDArray[np.uint64]
Keys = NDArray[np.int32]
Pairs = tuple[Rows, Rows]

KEYS = ((0, 21), (21, 21), (42, 22))
"""(lowest bit, number of bits) of each. With four keys of 16, a million hashes meet 15 times as often."""
FEW = 1 << 26
"""So many comparisons are made without keys: in 0.2 s, and the changes of the keys alone take 0.1."""
MEETINGS = 1 << 19
"""Pairs compared at a time by a thread: 30 MB."""
ROW_BITS = 32
"""Of a key and a row as one number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Who looks, and for what."""

    start: int = 0
    """The first row that looks for others before it."""
    others_N: Hashes | None = None
    """The hashes that are looked for; None: the rows' own."""
    few: int = FEW
    threads: int = field(default_factory=cores)
    """That compare what met: of 340 million hashes 19 of 20 parts of the work."""
    counts: Counter[str] = field(default_factory=Counter)
    """Filled in place: what a crowd passed over."""
    crowded_N: NDArray[np.bool_] | None = None
    """Filled in place, where it is asked for: rows that have not met all others, as a crowd stood before
    them. Of 340 million every bucket is a crowd: a list of rows by change of key would take 6 kB a row."""


def pairs(hashes_N: Hashes, radius: int, looked: Looked | None = None) -> Iterator[Pairs]:
    """Each row with every row before it whose hash is within the radius; each pair once, some at a time, a
    row's together. None is missed but in a crowd of ``meetings.CROWD`` rows with one key.
    """
    looked = Looked() if looked is None else looked
    others_N = hashes_N if looked.others_N is None else looked.others_N[: len(hashes_N)]
    for late_P, early_P in _joined(hashes_N, others_N, radius, looked):
        in_order_P = late_P > early_P
        yield late_P[in_order_P], early_P[in_order_P]


def _joined(hashes_N: Hashes, others_N: Hashes, radius: int, looked: Looked) -> Iterator[Pairs]:
    if (len(hashes_N) - looked.start) * len(others_N) <= looked.few:
        yield from _each_with_each(hashes_N, others_N, radius, looked.start)
        return
    flips = allowed(radius)
    for key in range(len(KEYS)):
        keys = _key(hashes_N, key), _key(others_N, key)
        meetings = _meetings(*keys, flips[key], looked)
        near = functools.partial(_near, (hashes_N, others_N), radius, flips[:key])
        yield from ahead((functools.partial(near, meet) for meet in meetings), looked.threads)


def _near(
    both: tuple[Hashes, Hashes], radius: int, told: tuple[int, ...], meet: Callable[[], Pairs]
) -> Pairs:
    """``told``: bits by which an earlier key may differ at most of what met by it."""
    (hashes_N, others_N), (late_P, early_P) = both, meet()
    apart_P = hashes_N[late_P] ^ others_N[early_P]
    near_P = np.bitwise_count(apart_P) <= radius
    for key, most in enumerate(told):
        near_P &= np.bitwise_count(_key(apart_P, key)) > most
    return late_P[near_P], early_P[near_P]


def allowed(radius: int) -> tuple[int, ...]:
    """Bits that may differ in each key, as few as find every pair; -1: the key need not be looked up.

    A pair that no key finds differs by one more than allowed in each, so by more than the radius in all.

    >>> allowed(8), allowed(10), allowed(1)
    ((2, 2, 2), (3, 3, 2), (0, 0, -1))
    """
    least, more = divmod(radius + 1 - len(KEYS), len(KEYS))
    return tuple(least + (key < more) for key in range(len(KEYS)))


def _each_with_each(hashes_N: Hashes, others_N: Hashes, radius: int, start: int) -> Iterator[Pairs]:
    step = max(1, MEETINGS // max(1, len(others_N)))
    for first in range(start, len(hashes_N), step):
        apart_NN = np.bitwise_count(hashes_N[first : first + step, None] ^ others_N)
        late_P, early_P = np.nonzero(apart_NN <= radius)
        yield late_P + first, early_P


def _meetings(keys_N: Keys, others_N: Keys, most: int, looked: Looked) -> Iterator[Callable[[], Pairs]]:
    """What makes pairs of rows from the start on and those whose keys differ by at most so many bits."""
    # In the order of their keys, so that neighbors look into neighboring buckets: they stay in the cache.
    late_M = looked.start + keys_N[looked.start :].argsort(kind="stable")
    early_N = others_N.argsort(kind="stable")
    ends = np.cumsum(np.bincount(others_N, minlength=1 << KEYS[-1][1])).astype(np.int32)
    starts = np.concatenate([np.zeros(1, np.int32), ends[:-1]])
    in_order_N = (others_N[early_N].astype(np.int64) << ROW_BITS) + early_N
    for change in _changes(most):
        bucket_M = keys_N[late_M] ^ change
        first_M = starts[bucket_M]
        num_M = ends[bucket_M] - first_M
        # What stands before the row may count alone, or a later delivery would change what it meets.
        crowd = np.flatnonzero(num_M > CROWD)
        own = (bucket_M[crowd].astype(np.int64) << ROW_BITS) + late_M[crowd]
        num_M[crowd] = np.searchsorted(in_order_N, own) - first_M[crowd]
        if looked.crowded_N is not None:
            looked.crowded_N[late_M[crowd[num_M[crowd] > CROWD]]] = True
        for part in parts(first_M, num_M, looked.counts, block=MEETINGS):
            yield functools.partial(_met, part, late_M, early_N)


def _met(part: Callable[[], Pairs], late_M: Rows, early_N: Rows) -> Pairs:
    late_P, early_P = part()
    return late_M[late_P], early_N[early_P]


def _key(hashes_N: Hashes, key: int) -> Keys:
    lowest, num = (np.uint64(value) for value in KEYS[key])
    return (hashes_N >> lowest & ((np.uint64(1) << num) - np.uint64(1))).astype(np.int32)


def _changes(most: int) -> Iterator[np.int32]:
    """Every key with at most so many bits set.

    >>> len(list(_changes(1))), len(list(_changes(-1)))
    (23, 0)
    """
    bits = range(KEYS[-1][1])
    for num in range(most + 1):
        for places in itertools.combinations(bits, num):
            yield np.int32(sum(1 << place for place in places))
