"""Which pictures may be alike, found without comparing each with each.

Surprising rule: the hash is random but the pairs are not: its signs are fixed and its sums exact, so that the
same signatures give the same pairs in any order, on any machine.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.likeness.meetings import Rows, places, ranges

# N images, P pairs, G = 16 cells a side, F = 3 structures of a cell, W 64-bit words
Wanted = Callable[[Rows, Rows], NDArray[np.bool_]]
"""Which pairs of rows are worth a look."""

GRID = 8
"""Cells a side that are hashed: four cells of a signature are one."""
TABLES = 64
KEY_BITS = 18
"""Signs a key: each halves the chance meetings. Alike pictures differ in 4 % of the signs, in 15 % at most;
all 5,000 alike pairs of emoji meet. 20 signs in 48 tables lose one of them, and take 4 seconds of one core
instead of 9 for 100,000 rows."""
WORD_BITS = 64
MAX_APART = TABLES * KEY_BITS // 5
"""Signs that may differ among all 1,152; two emoji taken at random differ in 480."""
CHUNK = 1024
"""Rows hashed at a time."""
MEETINGS = 1 << 18
"""Pairs looked at a time: 30 MB of words."""


def everything(late_P: Rows, _early_P: Rows) -> NDArray[np.bool_]:
    return np.ones(len(late_P), np.bool_)


def pairs(
    structure_NGGF: NDArray[np.int8],
    wanted: Wanted = everything,
    counts: Counter[str] | None = None,
    at_N: Rows | None = None,
) -> Iterator[Rows]:
    """Pairs (row, row seen before it) [P, 2] that may be alike; each once, some at a time, a row's together.
    What is not ``wanted`` when it meets is left out. ``at_N``: where the structure of each row stands; None:
    in the order of rows.

    Random hyperplanes (Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002):
    rows meet if all signs of one table agree. Time N log N a table, plus the pairs that meet.
    """
    counts = Counter() if counts is None else counts
    words_NW = _signs(structure_NGGF, np.arange(len(structure_NGGF)) if at_N is None else at_N)
    for table in range(TABLES):
        keys_N = _keys(words_NW, table)
        rows_N = keys_N.argsort(kind="stable").astype(np.int64)
        num_N = places(keys_N[rows_N])
        firsts_N = np.arange(len(rows_N)) - num_N
        for late_P, early_P in ranges(firsts_N, num_N, counts, block=MEETINGS):
            pairs_P2 = np.stack([rows_N[late_P], rows_N[early_P]], 1)
            pairs_P2 = pairs_P2[wanted(*pairs_P2.T)]
            apart_PW = words_NW[pairs_P2[:, 0]] ^ words_NW[pairs_P2[:, 1]]
            near_P = np.bitwise_count(apart_PW).sum(1, np.int64) <= MAX_APART
            pairs_P2, apart_PW = pairs_P2[near_P], apart_PW[near_P]
            met_P = np.zeros(len(pairs_P2), np.bool_)
            for earlier in range(table):
                met_P |= _keys(apart_PW, earlier) == 0
            yield pairs_P2[~met_P]


def _signs(structure_NGGF: NDArray[np.int8], at_N: Rows) -> NDArray[np.uint64]:
    """All signs of a row as words [N, 18]: the keys of all tables one after the other, lowest bit first."""
    signs = _hyperplanes()
    words_NW = np.empty((len(at_N), TABLES * KEY_BITS // WORD_BITS), "<u8")
    for start in range(0, len(at_N), CHUNK):
        part = structure_NGGF[at_N[start : start + CHUNK]].astype(np.float32)
        cells = part.reshape(-1, GRID, 2, GRID, 2, 3).sum((2, 4)).reshape(len(part), -1)
        # Sums of at most 192 x 4 x 127 are exact in float32, so the order in which BLAS adds does not matter.
        bits = np.packbits(cells @ signs > 0, axis=1, bitorder="little")
        words_NW[start : start + CHUNK] = bits.view("<u8")
    return words_NW


def _keys(words_NW: NDArray[np.uint64], table: int) -> NDArray[np.uint32]:
    """Of one table, read out of the words: all 64 would be 256 bytes a row, and the words are 144."""
    word, shift = divmod(table * KEY_BITS, WORD_BITS)
    keys_N = words_NW[:, word] >> np.uint64(shift)
    if shift + KEY_BITS > WORD_BITS:
        keys_N |= words_NW[:, word + 1] << np.uint64(WORD_BITS - shift)
    return (keys_N & np.uint64((1 << KEY_BITS) - 1)).astype(np.uint32)


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
