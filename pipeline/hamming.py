"""All pairs of 64-bit hashes within a radius, none missed, without comparing each with each.

Multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing",
CVPR 2012): the bits are cut into three keys. Of two hashes within a radius of 8 one key differs by 2 bits at
most, so each of the 232 such changes of a key is looked up. The surprising rule: FAISS has this index
(``IndexBinaryMultiHash``), and it takes 330 s of two cores for a million hashes; as whole columns of numpy,
over sorted keys, it takes 30 s of one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# N and M hashes, P pairs
Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]
Keys = NDArray[np.int32]
Pairs = tuple[Rows, Rows]

KEYS = ((0, 21), (21, 21), (42, 22))
"""(lowest bit, number of bits) of each. With four keys of 16, a million hashes meet 15 times as often."""
FEW = 1 << 26
"""So many comparisons are made without keys: in 0.2 s, and the changes of the keys alone take 0.1."""
MEETINGS = 1 << 19
"""Pairs compared at a time: 30 MB."""


def pairs(hashes_N: Hashes, radius: int) -> Iterator[Pairs]:
    """Each row with every row before it whose hash is within the radius; each pair once, some at a time."""
    for late_P, early_P in join(hashes_N, hashes_N, radius):
        in_order_P = late_P > early_P
        yield late_P[in_order_P], early_P[in_order_P]


def join(left_N: Hashes, right_M: Hashes, radius: int) -> Iterator[Pairs]:
    """All (left row, right row) within the radius; each once, some at a time."""
    if len(left_N) * len(right_M) <= FEW:
        yield from _each_with_each(left_N, right_M, radius)
        return
    flips = allowed(radius)
    for key in range(len(KEYS)):
        for left_P, right_P in _meetings(_key(left_N, key), _key(right_M, key), flips[key]):
            apart_P = left_N[left_P] ^ right_M[right_P]
            near_P = np.bitwise_count(apart_P) <= radius
            for earlier in range(key):  # what met by an earlier key was told there
                near_P &= np.bitwise_count(_key(apart_P, earlier)) > flips[earlier]
            yield left_P[near_P], right_P[near_P]


def allowed(radius: int) -> tuple[int, ...]:
    """Bits that may differ in each key, as few as find every pair; -1: the key need not be looked up.

    A pair that no key finds differs by one more than allowed in each, so by more than the radius in all.

    >>> allowed(8), allowed(10), allowed(1)
    ((2, 2, 2), (3, 3, 2), (0, 0, -1))
    """
    least, more = divmod(radius + 1 - len(KEYS), len(KEYS))
    return tuple(least + (key < more) for key in range(len(KEYS)))


def _each_with_each(left_N: Hashes, right_M: Hashes, radius: int) -> Iterator[Pairs]:
    step = max(1, MEETINGS // max(1, len(right_M)))
    for start in range(0, len(left_N), step):
        apart_NM = np.bitwise_count(left_N[start : start + step, None] ^ right_M)
        left_P, right_P = np.nonzero(apart_NM <= radius)
        yield left_P + start, right_P


def _meetings(left_N: Keys, right_M: Keys, most: int) -> Iterator[Pairs]:
    """All (left row, right row) whose keys differ by at most so many bits."""
    # In the order of their keys, so that neighbors look into neighboring buckets: they stay in the cache.
    lefts_N, rights_M = left_N.argsort(kind="stable"), right_M.argsort(kind="stable")
    left_N = left_N[lefts_N]
    ends = np.cumsum(np.bincount(right_M, minlength=1 << KEYS[-1][1])).astype(np.int32)
    starts = np.concatenate([np.zeros(1, np.int32), ends[:-1]])
    for change in _changes(most):
        bucket_N = left_N ^ change
        first_N = starts[bucket_N]
        num_N = ends[bucket_N] - first_N
        met = np.flatnonzero(num_N)
        cuts = np.searchsorted(
            np.cumsum(num_N[met]), np.arange(MEETINGS, num_N.sum(dtype=np.int64), MEETINGS)
        )
        for part in np.split(met, cuts):
            num = num_N[part]
            offsets = np.arange(num.sum()) - np.repeat(np.cumsum(num) - num, num)
            yield lefts_N[np.repeat(part, num)], rights_M[np.repeat(first_N[part], num) + offsets]


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
