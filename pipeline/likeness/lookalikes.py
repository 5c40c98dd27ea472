"""All pairs of rows that are the same picture: met by hash or by structure, then judged by signature.

The surprising rule: a hash alone decides nothing. At radius 8 it takes 606 of 1,870 emoji for another one,
and 6 of 69,006 pairs of different photographs; it only tells which are worth a look at edges and colours.

No series of like pictures is compared each with each: ``pieces`` leaves out what could change no group, which
is exact, and ``meetings`` bounds what a crowd compares, which is not, and is counted.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import schema
from pipeline.duplicates import CHUNK, DuplicateConfig, alike
from pipeline.likeness import candidates, hamming, signatures
from pipeline.likeness.candidates import Wanted, everything
from pipeline.likeness.hamming import Hashes, Looked
from pipeline.likeness.meetings import first_met, places
from pipeline.likeness.pieces import SPREAD, Pieces
from pipeline.likeness.signatures import Rows, Signatures

# N rows, P pairs, G = 16 cells a side, F (strength, horizontal - vertical, diagonal), B bytes
MOST = 256
"""Rows that one row meets by its hash. Line drawings by the thousand lie within a few bits, and 10,000 would
be compared 50 million times; what has met so many is looked up by its structure all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What is compared of pictures."""

    signatures: Signatures
    """Held once, whatever rows are looked at."""
    hashes_N: Hashes
    mirrored_N: Hashes
    """The hashes of the mirror images."""
    at_N: Rows | None = None
    """Where the signature of each row stands; None: in the order of rows."""

    def __len__(self) -> int:
        return len(self.hashes_N)

    def __getitem__(self, rows: Rows) -> Self:
        return replace(
            self, hashes_N=self.hashes_N[rows], mirrored_N=self.mirrored_N[rows], at_N=self.at(rows)
        )

    def at(self, rows: Rows) -> Rows:
        return rows if self.at_N is None else self.at_N[rows]

    @classmethod
    def from_columns(cls, table: pa.Table) -> Self:
        hashes_N, mirrored_N = (
            np.asarray(table[column.name]).astype(np.uint64)
            for column in (schema.PHASH, schema.PHASH_MIRRORED)
        )
        return cls(signatures=signatures.from_columns(table), hashes_N=hashes_N, mirrored_N=mirrored_N)


def pairs(
    found: Looks, config: DuplicateConfig, starts: Sequence[int] = (), counts: Counter[str] | None = None
) -> Rows:
    """(row, row before it) [P, 2], sorted: of each delivery as many as connect it, and of each row one for
    each piece of an earlier delivery (see ``pieces``). ``starts``: the first row of each delivery, then N; if
    left out, there is one. A row that repeats one before it in all that is compared is paired with the first
    such row alone.
    """
    first_N = first_seen(fingerprints(found), functools.partial(_same, found))
    repeats = np.flatnonzero(first_N != np.arange(len(found)))
    distinct = np.flatnonzero(first_N == np.arange(len(found)))
    few, starts = found[distinct], np.searchsorted(distinct, starts or (0, len(found))).tolist()
    pieces = Pieces.after(starts, np.zeros((0, 2), np.int64), Counter() if counts is None else counts)
    met = [np.zeros((0, 2), np.int64), *_upright(few, starts, pieces, config)]
    if config.mirrored:
        met += _mirrored(few, starts, pieces, config)
    all_P2 = [np.stack([repeats, first_N[repeats]], 1), distinct[np.concatenate(met)]]
    return np.unique(np.concatenate(all_P2), axis=0)


def _upright(found: Looks, starts: Sequence[int], pieces: Pieces, config: DuplicateConfig) -> Iterator[Rows]:
    def judge(pairs_P2: Rows) -> NDArray[np.bool_]:
        return alike(found.signatures, found.at(pairs_P2), config)

    num_met_N, crowded_N = np.zeros(len(found), np.int64), np.zeros(len(found), np.bool_)
    for pairs_P2 in _by_hash(found, starts, config, Looked(counts=pieces.counts, crowded_N=crowded_N)):
        yield pieces.judged(first_met(pairs_P2, num_met_N, pieces.counts, most=MOST), judge)
    if config.variants:
        all_met_N = (num_met_N <= MOST) & ~crowded_N
        structures = found.signatures.structure_NGGF
        at_N = found.at(np.arange(len(found)))
        for pairs_P2 in candidates.pairs(structures, pieces.worth_judging, pieces.counts, at_N):
            late_P, early_P = pairs_P2.T
            apart_P = np.bitwise_count(found.hashes_N[late_P] ^ found.hashes_N[early_P])
            again_P = (apart_P <= config.max_hamming) & all_met_N[late_P]  # judged by hash already
            yield pieces.judged(pairs_P2[~again_P], judge)


def _mirrored(found: Looks, starts: Sequence[int], pieces: Pieces, config: DuplicateConfig) -> Iterator[Rows]:
    """A row and one before it whose mirror image it is."""
    num_met_N = np.zeros(len(found), np.int64)

    def judge(pairs_P2: Rows) -> NDArray[np.bool_]:
        alike_P = np.zeros(len(pairs_P2), np.bool_)
        for start in range(0, len(pairs_P2), CHUNK):
            late_P, early_P = found.at(pairs_P2[start : start + CHUNK]).T
            both = beside(found.signatures[late_P], mirror_images(found.signatures[early_P]))
            alike_P[start : start + CHUNK] = alike(both, np.arange(len(both)).reshape(2, -1).T, config)
        return alike_P

    looked = Looked(others_N=found.mirrored_N, counts=pieces.counts)
    for pairs_P2 in _by_hash(found, starts, config, looked):
        yield pieces.judged(first_met(pairs_P2, num_met_N, pieces.counts, most=MOST), judge)


def _by_hash(found: Looks, starts: Sequence[int], config: DuplicateConfig, looked: Looked) -> Iterator[Rows]:
    """Delivery by delivery, so that what a row meets first does not depend on what comes later."""
    for start, stop in pairwise(starts):
        for met in hamming.pairs(found.hashes_N[:stop], config.max_hamming, replace(looked, start=start)):
            yield np.stack(met, 1)


def mirror_images(found: Signatures) -> Signatures:
    """The signatures of the mirror images: cells change sides, and rising edges fall."""
    return Signatures(
        structure_NGGF=found.structure_NGGF[:, :, ::-1] * np.array([1, 1, -1], np.int8),
        tint_NGGC=found.tint_NGGC[:, :, ::-1],
    )


def beside(one: Signatures, two: Signatures) -> Signatures:
    return Signatures(
        structure_NGGF=np.concatenate([one.structure_NGGF, two.structure_NGGF]),
        tint_NGGC=np.concatenate([one.tint_NGGC, two.tint_NGGC]),
    )


def first_seen(values_N: NDArray[Any], same: Wanted = everything) -> Rows:
    """Row of the first equal value. Where values only stand for what is compared, ``same`` says of rows whose
    values are equal whether (row, row before it) are.

    >>> first_seen(np.array(["a", "b", "a"]))
    array([0, 1, 0])
    """
    first_N, left = np.arange(len(values_N)), values_N.argsort(kind="stable")
    while len(left):
        heads = left[np.arange(len(left)) - places(values_N[left])]
        later = left != heads
        left, heads = left[later], heads[later]
        same_P = same(left, heads)
        first_N[left[same_P]] = heads[same_P]
        left = left[~same_P]
    return first_N


def _same(found: Looks, late_P: Rows, early_P: Rows) -> NDArray[np.bool_]:
    same_P = np.ones(len(late_P), np.bool_)
    for start in range(0, len(late_P), CHUNK):
        one_NB, two_NB = (_bytes(found, rows[start : start + CHUNK]) for rows in (late_P, early_P))
        same_P[start : start + CHUNK] = (one_NB == two_NB).all(1)
    return same_P


def fingerprints(found: Looks) -> NDArray[np.uint64]:
    """Of all that is compared of each row [N]: equal for equal rows, and hardly ever else. Sorting the 1,552
    bytes themselves takes them three times over.
    """
    prints_N = np.zeros(len(found), np.uint64)
    for start in range(0, len(found), CHUNK):
        words_NW = _bytes(found, np.arange(start, min(start + CHUNK, len(found)))).view(np.uint64)
        factors_W = np.cumprod(np.full(words_NW.shape[1], SPREAD))
        prints_N[start : start + CHUNK] = (words_NW * factors_W).sum(1)
    return prints_N


def _bytes(found: Looks, rows: Rows) -> NDArray[np.uint8]:
    """All that is compared of the rows [N, B]."""
    signature = found.signatures[found.at(rows)]
    parts = (signature.structure_NGGF, signature.tint_NGGC, found.hashes_N[rows], found.mirrored_N[rows])
    return np.concatenate([part.reshape(len(rows), -1).view(np.uint8) for part in parts], 1)
