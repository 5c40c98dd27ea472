"""Which pictures may be alike, found without comparing each with each.

Surprising rule: the hash is random but the pairs are not: its signs are fixed and its sums exact, so that the
same signatures give the same pairs in any order, on any machine.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# N images, P pairs, G = 16 cells a side, F = 3 structures of a cell, T hash tables, W 64-bit words
Rows = NDArray[np.int64]

GRID = 8
"""Cells a side that are hashed: four cells of a signature are one."""
TABLES = 64
KEY_BITS = 18
"""Signs a key: each halves the chance meetings. Alike pictures differ in 4 % of the signs, in 15 % at most;
all 5,000 alike pairs of emoji meet. 20 signs in 48 tables lose one of them, and take 4 seconds of one core
instead of 9 for 100,000 rows."""
MAX_APART = TABLES * KEY_BITS // 5
"""Signs that may differ among all 1,152; two emoji taken at random differ in 480."""
CHUNK = 1024
"""Rows hashed at a time."""
MEETINGS = 1 << 18
"""Pairs looked at a time: 30 MB of words."""


def pairs(structure_NGGF: NDArray[np.int8]) -> Rows:
    """Pairs (row, row seen before it) [P, 2] that may be alike.

    Random hyperplanes (Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002):
    rows meet if all signs of one table agree. Time N log N a table, plus the pairs that meet.
    """
    words_NW, keys_TN = _hashes(structure_NGGF)
    met = [np.zeros(0, np.int64)]
    for keys_N in keys_TN:
        for late_P, early_P in _meetings(keys_N):
            apart_P = np.bitwise_count(words_NW[late_P] ^ words_NW[early_P]).sum(1, dtype=np.int64)
            near_P = apart_P <= MAX_APART
            met.append(np.unique(late_P[near_P] * len(structure_NGGF) + early_P[near_P]))
    return np.stack(np.divmod(np.unique(np.concatenate(met)), max(len(structure_NGGF), 1)), 1)


def _hashes(structure_NGGF: NDArray[np.int8]) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """All signs of a row as words [N, 18], and the keys of each table [T, N]."""
    signs, weights = _hyperplanes(), (1 << np.arange(KEY_BITS)).astype(np.uint32)
    words, keys = [np.zeros((0, signs.shape[1] // 64), np.uint64)], [np.zeros((0, TABLES), np.uint32)]
    for start in range(0, len(structure_NGGF), CHUNK):
        part = structure_NGGF[start : start + CHUNK].astype(np.float32)
        cells = part.reshape(-1, GRID, 2, GRID, 2, 3).sum((2, 4)).reshape(len(part), -1)
        # Sums of at most 192 x 4 x 127 are exact in float32, so the order in which BLAS adds does not matter.
        bits = cells @ signs > 0
        words.append(np.packbits(bits, axis=1).view(np.uint64))
        keys.append(bits.reshape(-1, TABLES, KEY_BITS) @ weights)
    return np.concatenate(words), np.concatenate(keys).T


@functools.cache
def _hyperplanes() -> NDArray[np.float32]:
    """Signs [192, TABLES * KEY_BITS] over 8x8 cells, half of them negative, so that evenness has no say."""
    # SHAKE and not a numpy generator, whose streams may change between versions.
    num = TABLES * KEY_BITS * 3 * GRID**2
    noise = np.frombuffer(hashlib.shake_256(b"pipeline.candidates").digest(4 * num), "<u4")
    # The ranks of 64 random numbers: 32 of them are low.
    ranks = noise.reshape(-1, 3, GRID**2).argsort(-1, kind="stable").argsort(-1, kind="stable")
    signs = np.where(ranks < GRID**2 // 2, 1, -1).transpose(2, 1, 0)
    return signs.reshape(3 * GRID**2, -1).astype(np.float32)


def _meetings(keys_N: NDArray[np.uint32]) -> Iterator[tuple[Rows, Rows]]:
    """Each row with every row of its bucket that was seen before it, some at a time."""
    rows_N = keys_N.argsort(kind="stable").astype(np.int64)
    num_N = _places(keys_N[rows_N])
    cuts = np.searchsorted(np.cumsum(num_N), np.arange(MEETINGS, num_N.sum(), MEETINGS))
    for places in np.split(np.arange(len(rows_N)), cuts):
        num = num_N[places]
        offsets = np.arange(num.sum()) - np.repeat(np.cumsum(num) - num, num)
        yield np.repeat(rows_N[places], num), rows_N[np.repeat(places - num, num) + offsets]


def _places(sorted_N: NDArray[np.uint32]) -> Rows:
    """How many equal values stand before each.

    >>> _places(np.array([3, 3, 5, 5, 5], np.uint32))
    array([0, 1, 0, 1, 2])
    """
    return np.arange(len(sorted_N)) - np.searchsorted(sorted_N, sorted_N)
