"""How many tokens of each asset lie in packs, and how often runs passed them, from one walk over the blocks.

A block is in memory at a time, and what is counted grows with the assets alone. The surprising rule: to be
seen is counted by documents. An asset is in a document once as target and once as neighbor, however many
spans it has there; a document that was cut counts in every row that holds a part of the asset. What an
instruction example is given goes with its target, as everywhere. Tokens that were blanked since are none;
what runs passed of them stays counted.

Shapes: U uids, C counts of each, S spans of a block, R rows of it, M readings, H places of an asset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.packed import Modality, Role
from pipeline.shards import Block, numbers
from tokenizer_service import vocabulary
from trainer.passing import Packed, Reading
from trainer.spans import Ints

NUM_TOKENS = 4
"""Columns of tokens: text and image as target, text and image as neighbor."""
ROWS_AHEAD = 1 << 18
"""Of which it is worked out together how often they were passed: 2 MB a reading."""


class Tally:
    """Counts by uid: the columns of tokens; then, for each reading, times as target and as neighbor."""

    def __init__(self, num_readings: int = 0) -> None:
        self._numbers: dict[str, int] = {}
        self._counts_UC = np.zeros((1024, NUM_TOKENS + 2 * num_readings), np.int64)

    def add(self, uids: Sequence[str], counts_UC: Ints) -> None:
        """Each uid once."""
        for uid in uids:
            self._numbers.setdefault(uid, len(self._numbers))
        if len(self._numbers) > len(self._counts_UC):
            more = np.zeros((max(len(self._counts_UC), len(uids)), self._counts_UC.shape[1]), np.int64)
            self._counts_UC = np.concatenate((self._counts_UC, more))
        self._counts_UC[[self._numbers[uid] for uid in uids]] += counts_UC

    def __iter__(self) -> Iterator[tuple[str, Ints]]:
        """(uid, counts [C])"""
        return ((uid, self._counts_UC[number]) for uid, number in self._numbers.items())


def walked(packed: Packed, readings: Sequence[Reading] = ()) -> Tally:
    """Of all blocks; raises ``FileNotFoundError`` where one is gone."""
    tally = Tally(len(readings))
    for block, times_MR in passed(packed, readings):
        tally.add(*counted(block, times_MR))
    return tally


def passed(packed: Packed, readings: Sequence[Reading]) -> Iterator[tuple[Block, list[Ints]]]:
    """Each block, and how often each reading passed its rows."""
    orders = [reading.order(packed.source) for reading in readings]
    at = end = 0
    times_MP: list[Ints] = []
    for first, block in packed.each():
        rows = block.record.num_rows
        if first + rows > end:
            at, end = first, min(packed.source.num_rows, first + max(rows, ROWS_AHEAD))
            sequences = np.arange(at, end)
            times_MP = [one.times(order, sequences) for one, order in zip(readings, orders, strict=True)]
        yield block, [times_P[first - at : first - at + rows] for times_P in times_MP]


def counted(block: Block, times_MR: Sequence[Ints]) -> tuple[list[str], Ints]:
    """The uids in a block, and the counts of each [U, C]."""
    spans = block.record.column(3)
    row_S = np.repeat(np.arange(block.record.num_rows), np.diff(numbers(spans.offsets, np.int32)))
    named = spans.values.field("uid").dictionary_encode()
    uids: list[str] = named.dictionary.to_pylist()
    uid_S = numbers(named.indices, np.int32).astype(np.int64)
    document_S, length_S = (numbers(spans.values.field(name), np.int32) for name in ("document", "length"))
    modality_S, role_S = (numbers(spans.values.field(name), np.uint8) for name in ("modality", "role"))
    is_neighbor_S = (role_S == Role.NEIGHBOR).astype(np.int64)
    # No span that was packed begins with <pad>; one that was cut to nothing may stand behind the last token.
    start_S = np.minimum(numbers(spans.values.field("start"), np.int32), block.tokens_RT.shape[1] - 1)
    length_S = np.where(block.tokens_RT[row_S, start_S] == vocabulary.PAD, 0, length_S)
    counts_UC = np.zeros((len(uids), NUM_TOKENS + 2 * len(times_MR)), np.int64)
    np.add.at(counts_UC, (uid_S, len(Modality) * is_neighbor_S + modality_S), length_S)
    places_S4 = np.stack((row_S, document_S, uid_S, is_neighbor_S), axis=1)
    row_H, _, uid_H, is_neighbor_H = np.unique(places_S4, axis=0).T
    for number, times_R in enumerate(times_MR):
        np.add.at(counts_UC, (uid_H, NUM_TOKENS + 2 * number + is_neighbor_H), times_R[row_H])
    return uids, counts_UC
