"""All pairs of rows that are the same picture: met by hash or by structure, then judged by signature.

The surprising rule: a hash alone decides nothing. At radius 8 it takes 606 of 1,870 emoji for another one,
and 6 of 69,006 pairs of different photographs; it only tells which are worth a look at edges and colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import candidates, hamming, schema, signatures
from pipeline.duplicates import DuplicateConfig, alike
from pipeline.hamming import Hashes
from pipeline.signatures import Rows, Signatures

# N rows, P pairs, G = 16 cells a side, F (strength, horizontal - vertical, diagonal), B bytes


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


def pairs(found: Looks, config: DuplicateConfig) -> Rows:
    """(row, row before it) [P, 2], sorted. A row that repeats one before it in all that is compared is paired
    with the first such row alone.
    """
    first_N = first_seen(_as_values(found))
    repeats = np.flatnonzero(first_N != np.arange(len(found)))
    distinct = np.flatnonzero(first_N == np.arange(len(found)))
    few = found[distinct]
    met = [np.zeros((0, 2), np.int64), *_upright(few, config)]
    if config.mirrored:
        met += _mirrored(few, config)
    all_P2 = [np.stack([repeats, first_N[repeats]], 1), distinct[np.concatenate(met)]]
    return np.unique(np.concatenate(all_P2), axis=0)


def _upright(found: Looks, config: DuplicateConfig) -> Iterator[Rows]:
    met = (np.stack(some, 1) for some in hamming.pairs(found.hashes_N, config.max_hamming))
    for pairs_P2 in met:
        yield pairs_P2[alike(found.signatures, pairs_P2, config)]
    if config.variants:
        pairs_P2 = candidates.pairs(found.signatures.structure_NGGF)
        yield pairs_P2[alike(found.signatures, pairs_P2, config)]


def _mirrored(found: Looks, config: DuplicateConfig) -> Iterator[Rows]:
    """A row and one before it whose mirror image it is."""
    both = with_mirror_images(found.signatures)
    for late_P, early_P in hamming.join(found.hashes_N, found.mirrored_N, config.max_hamming):
        pairs_P2 = np.stack([late_P, early_P], 1)[late_P > early_P]
        yield pairs_P2[alike(both, pairs_P2 + np.array([0, len(found)]), config)]


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
