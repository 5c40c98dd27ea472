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
from pipeline.duplicates import DuplicateConfig, alike
from pipeline.likeness import candidates, hamming, signatures
from pipeline.likeness.hamming import Hashes, Looked
from pipeline.likeness.meetings import first_met
from pipeline.likeness.pieces import Pieces
from pipeline.likeness.signatures import Rows, Signatures

# N rows, P pairs, G = 16 cells a side, F (strength, horizontal - vertical, diagonal), B bytes
MOST = 256
"""Rows that one row meets by its hash. Line drawings by the thousand lie within a few bits, and 10,000 would
be compared 50 million times; what has met so many is looked up by its structure all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What is compared of pictures."""

    signatures: Signatures
    hashes_N: Hashes
    mirrored_N: Hashes
    """The hashes of the mirror images."""

    def __len__(self) -> int:
        return len(self.hashes_N)

    def __getitem__(self, rows: Rows) -> Self:
        return replace(
            self,
            signatures=self.signatures[rows],
            hashes_N=self.hashes_N[rows],
            mirrored_N=self.mirrored_N[rows],
        )

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
    first_N = first_seen(_as_values(found))
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
    judge = functools.partial(alike, found.signatures, config=config)
    num_met_N, looked = np.zeros(len(found), np.int64), Looked(counts=pieces.counts)
    for pairs_P2 in _by_hash(found, starts, config, looked):
        yield pieces.judged(first_met(pairs_P2, num_met_N, pieces.counts, most=MOST), judge)
    if config.variants:
        all_met_N = num_met_N <= MOST
        for crowded in looked.crowded:
            all_met_N[crowded] = False
        structures = found.signatures.structure_NGGF
        for pairs_P2 in candidates.pairs(structures, pieces.worth_judging, pieces.counts):
            late_P, early_P = pairs_P2.T
            apart_P = np.bitwise_count(found.hashes_N[late_P] ^ found.hashes_N[early_P])
            again_P = (apart_P <= config.max_hamming) & all_met_N[late_P]  # judged by hash already
            yield pieces.judged(pairs_P2[~again_P], judge)


def _mirrored(found: Looks, starts: Sequence[int], pieces: Pieces, config: DuplicateConfig) -> Iterator[Rows]:
    """A row and one before it whose mirror image it is."""
    both, num_met_N = with_mirror_images(found.signatures), np.zeros(len(found), np.int64)

    def judge(pairs_P2: Rows) -> NDArray[np.bool_]:
        return alike(both, pairs_P2 + np.array([0, len(found)]), config)

    looked = Looked(others_N=found.mirrored_N, counts=pieces.counts)
    for pairs_P2 in _by_hash(found, starts, config, looked):
        yield pieces.judged(first_met(pairs_P2, num_met_N, pieces.counts, most=MOST), judge)


def _by_hash(found: Looks, starts: Sequence[int], config: DuplicateConfig, looked: Looked) -> Iterator[Rows]:
    """Delivery by delivery, so that what a row meets first does not depend on what comes later."""
    for start, stop in pairwise(starts):
        for met in hamming.pairs(found.hashes_N[:stop], config.max_hamming, replace(looked, start=start)):
            yield np.stack(met, 1)


def with_mirror_images(found: Signatures) -> Signatures:
    """The signatures, then those of the mirror images: cells change sides, and rising edges fall."""
    structure_NGGF, tint_NGGC = found.structure_NGGF, found.tint_NGGC
    turned_NGGF = structure_NGGF[:, :, ::-1] * np.array([1, 1, -1], np.int8)
    return Signatures(
        structure_NGGF=np.concatenate([structure_NGGF, turned_NGGF]),
        tint_NGGC=np.concatenate([tint_NGGC, tint_NGGC[:, :, ::-1]]),
    )


def first_seen(values_N: NDArray[Any]) -> Rows:
    """Row of the first equal value.

    >>> first_seen(np.array(["a", "b", "a"]))
    array([0, 1, 0])
    """
    _, first, inverse = np.unique(values_N, return_index=True, return_inverse=True)
    rows: Rows = first[inverse].astype(np.int64)
    return rows


def _as_values(found: Looks) -> NDArray[np.void]:
    """All that is compared of each row as one comparable value [N]."""
    signature = found.signatures
    parts = (signature.structure_NGGF, signature.tint_NGGC, found.hashes_N, found.mirrored_N)
    if not len(found):
        return np.zeros(0, "V1")
    bytes_NB = np.concatenate([part.reshape(len(found), -1).view(np.uint8) for part in parts], 1)
    return np.ascontiguousarray(bytes_NB).view(f"V{bytes_NB.shape[1]}").reshape(-1)
