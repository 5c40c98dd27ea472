"""The stream of packed rows that feeds a trainer: deterministic, resumable, and the same for any number of
ranks.

Step t is the global positions [tG, (t+1)G) of an endless walk over epochs. Rank r of N takes every N-th of
them, worker w of W every W-th step, so the set of a step never depends on either. The surprising rule: with
DataLoader workers the state lies in other processes; ask :meth:`PackedStream.state_after` with the steps that
you took.

Shapes: B rows of a batch, T = context + 1 tokens of a row, D documents, S segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from pipeline.packed import Modality
from pipeline.shards import Block, PackShard, ShardInfo
from trainer import cm3, spans
from trainer.cm3 import Batch
from trainer.order import Part, State, StreamSection, Walk, position_of, state_at
from trainer.spans import Counts, Ints, Layout, MaskingSection, Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A shard as a manifest lists it; the order of the shards numbers the sequences."""

    path: Path
    info: ShardInfo


class Reader:
    """Rows by sequence number. Shards are opened, and blocks verified, when they are first touched."""

    def __init__(self, shards: Sequence[Shard], *, open_blocks: int) -> None:
        self._shards = _alike(shards)
        places = [(s, b) for s, shard in enumerate(shards) for b in range(len(shard.info["blocks"]))]
        self._places = places
        self.block_rows = np.array([shards[s].info["blocks"][b]["rows"] for s, b in places], np.int64)
        self.num_rows = int(self.block_rows.sum())
        self._first_row = np.cumsum(self.block_rows) - self.block_rows
        self._shard = lru_cache(open_blocks)(self._open)
        self._block = lru_cache(open_blocks)(self._read)

    def _open(self, number: int) -> PackShard:
        return PackShard.open(self._shards[number].path, self._shards[number].info)

    def _read(self, number: int) -> Block:
        shard, block = self._places[number]
        return self._shard(shard).block(block)

    def gather(self, sequence_B: Ints) -> tuple[NDArray[np.uint16], Layout]:
        """Rows [B, T] and where their documents and segments lie."""
        block_B = np.searchsorted(self._first_row, sequence_B, side="right") - 1
        row_B = sequence_B - self._first_row[block_B]
        rows_BT = np.empty((len(sequence_B), self._shards[0].info["context"] + 1), np.uint16)
        documents, segments = [], []
        for i, (number, row) in enumerate(zip(block_B.tolist(), row_B.tolist(), strict=True)):
            block = self._block(number)
            rows_BT[i], documents_D2, spans_S4 = block.row(row)
            documents.append(documents_D2)
            segments.append(spans_S4)
        return rows_BT, _layout(documents, segments)


def _alike(shards: Sequence[Shard]) -> Sequence[Shard]:
    """All of one corpus; or says which differ."""
    check_rows([shard.info for shard in shards])
    for fact in ("context", "vocabulary"):
        values = {shard.info[fact]: shard.path for shard in shards}
        if len(values) > 1:
            raise ValueError(f"shards differ in {fact}: {values}; stream shards of one artifact")
    return shards


def check_rows(packs: Sequence[ShardInfo]) -> None:
    if not sum(info["rows"] for info in packs):
        raise ValueError(f"{len(packs)} shards hold no rows; build the packs of this version first")


def span_room(packs: Sequence[ShardInfo]) -> int:
    """Spans that masking may cut from any document."""
    return min((info["max_spans"] for info in packs), default=0)


def check_room(packs: Sequence[ShardInfo], masking: MaskingSection) -> None:
    room = span_room(packs)
    if masking.max_spans > room:
        raise ValueError(
            f"trainer.masking.max_spans is {masking.max_spans} and the rows leave room for {room}; lower it, "
            "or pack with a larger pipeline.examples.rows.max_spans"
        )


def _layout(documents: list[NDArray[np.int32]], segments: list[NDArray[np.int32]]) -> Layout:
    num_documents_B = np.array([len(part) for part in documents])
    first_B = np.cumsum(num_documents_B) - num_documents_B
    start_D, length_D = np.concatenate(documents).astype(np.int64).T
    number_S, start_S, length_S, modality_S = np.concatenate(segments).astype(np.int64).T
    return Layout(
        num_rows=len(documents),
        document_row_D=np.repeat(np.arange(len(documents)), num_documents_B),
        document_start_D=start_D,
        document_length_D=length_D,
        segment_document_S=number_S + np.repeat(first_B, [len(part) for part in segments]),
        segment_start_S=start_S,
        segment_length_S=length_S,
        segment_text_S=modality_S == Modality.TEXT,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows and how they are masked."""

    reader: Reader
    masking: MaskingSection
    seed: int

    def drawn(self, epoch_B: Ints, sequence_B: Ints) -> tuple[NDArray[np.uint16], Layout, Spans]:
        rows_BT, layout = self.reader.gather(sequence_B)
        keys_D = spans.document_keys(layout, seed=self.seed, epoch_B=epoch_B, sequence_B=sequence_B)
        return rows_BT, layout, spans.draw_spans(layout, keys_D, self.masking)

    def batch(self, epoch_B: Ints, sequence_B: Ints) -> Batch:
        return cm3.rotate(*self.drawn(epoch_B, sequence_B))


def open_source(
    shards: Sequence[Shard], *, masking: MaskingSection, seed: int, open_blocks: int = 64
) -> Source:
    check_room([shard.info for shard in shards], masking)
    return Source(reader=Reader(shards, open_blocks=open_blocks), masking=masking, seed=seed)


class Cursor:
    """An endless iterator over batches that knows where it stands."""

    def __init__(self, source: Source, walk: Walk) -> None:
        self._source = source
        self._walk = walk

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        return self._source.batch(*next(self._walk))

    def state(self) -> State:
        """JSON from which any number of ranks and workers goes on behind the last batch."""
        return self._walk.state()

    def seek(self, state: Mapping[str, Any]) -> None:
        self._walk.seek(state)


class PackedStream(IterableDataset[Batch]):
    """The walk as a data set for ``DataLoader(stream, batch_size=None, num_workers=W)``."""

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        stream: StreamSection,
        masking: MaskingSection,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._shards = tuple(shards)
        self._stream = stream
        self._masking = masking
        self._rank = rank
        self._ranks = ranks
        self._num_rows = sum(shard.info["rows"] for shard in shards)
        self._at = 0

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        part = Part(rank=self._rank, ranks=self._ranks, worker=worker, workers=workers)
        cursor = self.cursor(part)
        for batch in cursor:
            self.load_state_dict(cursor.state())
            yield batch

    def cursor(self, part: Part) -> Cursor:
        """From where this stream stands."""
        # A lane's window is in use as a whole; twice that, since lanes reach their next window one by one.
        open_blocks = 2 * self._stream.lanes * self._stream.window_blocks
        source = open_source(
            self._shards, masking=self._masking, seed=self._stream.seed, open_blocks=open_blocks
        )
        walk = Walk(source.reader.block_rows, self._stream, part)
        walk.seek(self.state_dict())
        return Cursor(source, walk)

    def state_dict(self) -> State:
        return self.state_after(0)

    def state_after(self, num_steps: int) -> State:
        """The state so many steps on: what to save where the batches come from workers."""
        return state_at(self._at + num_steps * self._stream.rows_per_step, self._num_rows, self._stream)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._at = position_of(state, self._num_rows, self._stream)


def _chunks(source: Source, batch_rows: int) -> Iterator[tuple[Ints, Ints]]:
    num_rows = source.reader.num_rows
    for first in range(0, num_rows, batch_rows):
        sequence_B = np.arange(first, min(first + batch_rows, num_rows))
        yield np.zeros_like(sequence_B), sequence_B


def validation(
    shards: Sequence[Shard], *, masking: MaskingSection, batch_rows: int, seed: int = 0
) -> Iterator[Batch]:
    """Every row once, in order, with the same masks each time; the last batch may be smaller."""
    source = open_source(shards, masking=masking, seed=seed)
    for epoch_B, sequence_B in _chunks(source, batch_rows):
        yield source.batch(epoch_B, sequence_B)


def mask_counts(shards: Sequence[Shard], *, masking: MaskingSection, seed: int) -> Counts:
    """What masking does to the first epoch of a run over these shards."""
    source = open_source(shards, masking=masking, seed=seed)
    drawn = (source.drawn(*chunk)[1:] for chunk in _chunks(source, 256))
    return sum((spans.count(layout, found) for layout, found in drawn), Counts())
