"""The stream of packed rows that feeds a trainer: deterministic, resumable, and the same for any number of
ranks.

Step t is the global positions [tG, (t+1)G) of an endless walk over epochs. Rank r of N takes every N-th of
them, worker w of W every W-th step, so the set of a step never depends on either; where N divides the lanes,
a rank reads whole lanes. The surprising rule: with DataLoader workers the state lies in other processes; ask
:meth:`PackedStream.state_after` with the steps that you took, or let :class:`trainer.loader.Loader` count.

Shapes: B rows of a batch, T = context + 1 tokens of a row, D documents, S segments, M sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.utils.data import IterableDataset, get_worker_info

from infra.pieces import PiecesSection
from pipeline.blocks import Blocks, Shard, block_rows
from pipeline.packed import Modality, Role
from pipeline.shards import Block, ShardInfo
from trainer import cm3, order, spans
from trainer.cm3 import Batch
from trainer.order import MAIN, Part, Source, State, StreamSection, Taken, Walk
from trainer.spans import Counts, Ints, Keys, Layout, MaskingSection, Spans

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """Packs of one corpus, and how often a row is drawn from them."""

    shards: Sequence[Shard]
    weight: float = 1.0
    """Against the weights of the others."""


Sources = Sequence[Shard] | Mapping[str, Mixed]
"""The packs of one corpus, or of several by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of a step as they lie in their blocks. What a trainer sees of them is a view."""

    taken: Taken
    key_M: Keys
    """Of each source."""
    blocks: Sequence[Block]
    """Of each row, its block."""
    places: Sequence[int]
    """And its place therein."""

    @property
    def keys_B(self) -> Keys:
        """Of (seed, source, epoch, sequence): what is drawn for a row comes from its key."""
        source_B, epoch_B, sequence_B = self.taken
        return spans.derive(spans.derive(self.key_M[source_B], epoch_B), sequence_B)

    def ids(self, dtype: type[np.integer] = np.int64) -> NDArray[Any]:
        """[B, T]. Joined narrow and widened at once: 0.79 us a row of 1,040, and 0.95 row by row."""
        rows = [block.tokens_RT[place] for block, place in zip(self.blocks, self.places, strict=True)]
        return np.concatenate(rows).reshape(len(rows), -1).astype(dtype, copy=False)

    def layout(self) -> Layout:
        """Where documents and segments lie, before anything was blanked."""
        pairs = zip(self.blocks, self.places, strict=True)
        documents, segments = zip(*(block.layout(place) for block, place in pairs), strict=True)
        return _layout(documents, segments)

    @property
    def is_blanked(self) -> bool:
        """Whether any block of theirs holds revoked tokens."""
        return any(block.is_blanked for block in self.blocks)


def _layout(documents: Sequence[NDArray[np.int32]], segments: Sequence[NDArray[np.int32]]) -> Layout:
    num_documents_B = np.array([len(part) for part in documents])
    first_B = np.cumsum(num_documents_B) - num_documents_B
    start_D, length_D = np.concatenate(documents).astype(np.int64).T
    number_S, start_S, length_S, modality_S, role_S = np.concatenate(segments).astype(np.int64).T
    return Layout(
        num_rows=len(documents),
        document_row_D=np.repeat(np.arange(len(documents)), num_documents_B),
        document_start_D=start_D,
        document_length_D=length_D,
        segment_document_S=number_S + np.repeat(first_B, [len(part) for part in segments]),
        segment_start_S=start_S,
        segment_length_S=length_S,
        segment_text_S=modality_S == Modality.TEXT,
        segment_given_S=role_S == Role.GIVEN,
    )


class View(Protocol[T_co]):
    """What a trainer sees of rows."""

    def __call__(self, rows: Rows) -> T_co: ...

    def send(self, rows: Rows) -> tuple[NDArray[np.integer], ...]:
        """The same in as few bytes as hold it, for the way from a worker to its rank."""

    def receive(self, sent: Sequence[Tensor]) -> T_co:
        """A copy, on the device that it was sent to: the memory that it came in is used again."""


class Tokens:
    """The ids as they were packed, for a trainer with an objective of its own."""

    def __call__(self, rows: Rows) -> Tensor:
        """[B, T] int64"""
        return torch.from_numpy(rows.ids())

    def send(self, rows: Rows) -> tuple[NDArray[np.integer], ...]:
        return (rows.ids(np.uint16),)

    def receive(self, sent: Sequence[Tensor]) -> Tensor:
        return sent[0].to(torch.int64, copy=True)


tokens = Tokens()


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """The view that the CM3 objective trains on."""

    masking: MaskingSection

    def send(self, rows: Rows) -> tuple[NDArray[np.integer], ...]:
        """Six bytes a token, not sixteen, while a position has room in two."""
        batch = self(rows)
        ids_BT, documents_BT, positions_BT = batch.arrays()
        short = np.int16 if ids_BT.shape[1] <= np.iinfo(np.int16).max else np.int32
        documents: NDArray[np.integer] = documents_BT.astype(short)
        return ids_BT.astype(np.uint16), documents, positions_BT.astype(short), batch.masks.array()

    def receive(self, sent: Sequence[Tensor]) -> Batch:
        ids_BT, documents_BT, positions_BT, masks = sent
        return Batch(
            ids_BT.to(torch.int64, copy=True),
            documents_BT.to(torch.int32, copy=True),
            positions_BT.to(torch.int32, copy=True),
            masks=Counts.of(masks.numpy()),
        )

    def drawn(self, rows: Rows) -> tuple[Layout, Spans]:
        layout = rows.layout()
        return layout, spans.draw_spans(layout, spans.document_keys(layout, rows.keys_B), self.masking)

    def __call__(self, rows: Rows) -> Batch:
        layout, cut = self.drawn(rows)
        batch = cm3.rotate(rows.ids(np.uint16), layout, cut, blanked=rows.is_blanked)
        return replace(batch, masks=spans.count(layout, cut))


class Reader:
    """Rows by source and sequence."""

    def __init__(
        self,
        mixed: Mapping[str, Mixed],
        *,
        seed: int,
        keep: int = 64,
        pieces: PiecesSection | None = None,
    ) -> None:
        packs = check_packs(mixed)
        self._blocks = Blocks(packs, keep=keep, pieces=pieces)
        self.are_local = self._blocks.are_local
        rows_N = block_rows(shard.info for shard in packs)
        self._first_row_N = np.cumsum(rows_N) - rows_N
        num_rows_M = np.array([_num_rows(one.shards) for one in mixed.values()])
        self._first_row_M = np.cumsum(num_rows_M) - num_rows_M
        self.num_rows = int(num_rows_M.sum())
        self._key_M = np.array([order.source_key(seed, name) for name in mixed], np.uint64)

    def rows(self, taken: Taken) -> Rows:
        block_B, place_B = self._places(taken)
        return Rows(
            taken=taken,
            key_M=self._key_M,
            blocks=self._blocks.of(block_B.tolist()),
            places=place_B.tolist(),
        )

    def expect(self, taken: Taken) -> None:
        """These rows will be asked for."""
        if not self.are_local:
            block_B, _ = self._places(taken)
            _, first = np.unique(block_B, return_index=True)
            self._blocks.expect(block_B[np.sort(first)].tolist())

    def _places(self, taken: Taken) -> tuple[Ints, Ints]:
        row_B = taken.sequence_B + self._first_row_M[taken.source_B]
        block_B = np.searchsorted(self._first_row_N, row_B, side="right") - 1
        return block_B, row_B - self._first_row_N[block_B]

    def close(self) -> None:
        self._blocks.close()


def _num_rows(packs: Sequence[Shard]) -> int:
    return sum(shard.info["rows"] for shard in packs)


def named(sources: Sources) -> Mapping[str, Mixed]:
    """By name, in the order of names: a mixture must not hang on how somebody wrote it down."""
    return dict(sorted(sources.items())) if isinstance(sources, Mapping) else {MAIN: Mixed(shards=sources)}


def check_packs(mixed: Mapping[str, Mixed]) -> list[Shard]:
    """The shards of all sources; or says which have no rows, and which differ."""
    for one in mixed.values():
        check_rows([shard.info for shard in one.shards])
    packs = [shard for one in mixed.values() for shard in one.shards]
    for fact in ("context", "vocabulary"):
        values = {shard.info[fact]: shard.where for shard in packs}
        if len(values) > 1:
            raise ValueError(
                f"shards differ in {fact}: {values}; stream shards packed alike, of one artifact or of "
                "corpora that share their tokenizers"
            )
    return packs


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


class Cursor(Generic[T]):
    """An iterator over batches that knows where it stands; one without end, unless epochs are counted."""

    def __init__(self, reader: Reader, walk: Walk, view: Callable[[Rows], T]) -> None:
        self._reader = reader
        self.walk = walk
        self._view = view

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        for _ in range(2):  # one step is taken, so that two bring the read-ahead on
            if not self._reader.are_local and self.walk.num_ahead < AHEAD_ROWS:
                self._reader.expect(self.walk.look_ahead())
        taken = self.walk.peek()
        if taken is None:
            raise StopIteration
        made = self._view(self._reader.rows(taken))
        self.walk.advance()  # not before: a step that could not be read has not been taken
        return made

    def state(self) -> State:
        """JSON from which any number of ranks and workers goes on behind the last batch."""
        return self.walk.state()

    def seek(self, state: Mapping[str, Any]) -> None:
        self.walk.seek(state)

    def close(self) -> None:
        self._reader.close()


AHEAD_ROWS = 1 << 18
"""Rows that are looked through for blocks to fetch: of 256 lanes, a window of 4 blocks of 256 rows each."""


class PackedStream(IterableDataset[T_co]):
    """The walk as a data set for ``DataLoader(stream, batch_size=None, num_workers=W)``.

    ``view`` makes of rows what is yielded: :func:`tokens`, or :class:`Masked` for the CM3 objective. A rank
    that is not told takes that of ``torch.distributed``. With ``epochs`` the stream is one pass that ends,
    after a step that may be smaller: for what is measured; training counts steps.
    """

    def __init__(  # noqa: PLR0913  # what to read, in which order, whose part, and how
        self,
        sources: Sources,
        *,
        stream: StreamSection,
        view: View[T_co],
        rank: int | None = None,
        ranks: int | None = None,
        epochs: int | None = None,
        pieces: PiecesSection | None = None,
    ) -> None:
        self._mixed = named(sources)
        self._stream = stream
        self.view = view
        self._rank, self._ranks = _place(rank, ranks)
        self._epochs = epochs
        self._pieces = pieces
        self._sources = [
            Source(name=name, block_rows=block_rows(shard.info for shard in one.shards), weight=one.weight)
            for name, one in self._mixed.items()
        ]
        check_packs(self._mixed)
        self._walk = self._begun(Part(rank=self._rank, ranks=self._ranks))

    def __getstate__(self) -> dict[str, Any]:
        """For workers that are spawned, or on other machines: where it stands, not what it has open."""
        return {**self.__dict__, "_walk": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._walk = self._begun(Part(rank=self._rank, ranks=self._ranks))
        self._walk.seek(state["_walk"])

    def __iter__(self) -> Iterator[T_co]:
        return self.viewed(self.view)

    def viewed(self, view: Callable[[Rows], T]) -> Iterator[T]:
        """What iterating gives, by another view."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        part = Part(rank=self._rank, ranks=self._ranks, worker=worker, workers=workers)
        cursor = self.cursor(part, view=view)
        try:
            for batch in cursor:
                self._walk = cursor.walk  # what state_dict tells of
                yield batch
        finally:
            cursor.close()

    def _begun(self, part: Part) -> Walk:
        return Walk(self._sources, self._stream, part, epochs=self._epochs)

    def cursor(self, part: Part | None = None, *, view: Callable[[Rows], Any] | None = None) -> Cursor[Any]:
        """From where this stream stands; by another view, if it is told one."""
        walk = self._begun(part or Part(rank=self._rank, ranks=self._ranks))
        walk.seek(self.state_dict())
        # A lane's window is in use as a whole; twice that, since lanes reach their next window one by one.
        lanes = min(self._stream.lanes, sum(len(source.block_rows) for source in self._sources))
        reader = Reader(
            self._mixed,
            seed=self._stream.seed,
            keep=2 * lanes * self._stream.window_blocks * len(self._sources),
            pieces=self._pieces,
        )
        return Cursor(reader, walk, self.view if view is None else view)

    def state_dict(self) -> State:
        return self.state_after(0)

    def state_after(self, num_steps: int) -> State:
        """The state so many steps on: what to save where the batches come from workers."""
        return self._walk.state_after(num_steps)

    def load_state_dict(self, state: Mapping[str, Any], *, remix: bool = False) -> None:
        """Go on from there; :meth:`trainer.order.Walk.seek` says when it is refused, what ``remix`` is."""
        self._walk.seek(state, remix=remix)


def _place(rank: int | None, ranks: int | None) -> tuple[int, int]:
    if (rank is None) != (ranks is None):
        raise ValueError(f"rank={rank}, ranks={ranks}: give both, or neither in a process group")
    if rank is not None and ranks is not None:
        return rank, ranks
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _chunks(num_rows: int, batch_rows: int) -> Iterator[Taken]:
    for first in range(0, num_rows, batch_rows):
        sequence_B = np.arange(first, min(first + batch_rows, num_rows))
        yield Taken(np.zeros_like(sequence_B), np.zeros_like(sequence_B), sequence_B)


def in_order(
    packs: Sequence[Shard],
    *,
    view: Callable[[Rows], T],
    batch_rows: int,
    seed: int = 0,
    pieces: PiecesSection | None = None,
) -> Iterator[T]:
    """Every row once, in the order of the shards; the last batch may be smaller."""
    reader = Reader(named(packs), seed=seed, pieces=pieces)
    try:
        for taken in _chunks(reader.num_rows, AHEAD_ROWS):
            reader.expect(taken)
        for taken in _chunks(reader.num_rows, batch_rows):
            yield view(reader.rows(taken))
    finally:
        reader.close()


def validation(
    packs: Sequence[Shard],
    *,
    masking: MaskingSection,
    batch_rows: int,
    seed: int = 0,
    pieces: PiecesSection | None = None,
) -> Iterator[Batch]:
    """Every row once, in order, with the same masks each time; the last batch may be smaller."""
    check_room([shard.info for shard in packs], masking)
    return in_order(packs, view=Masked(masking=masking), batch_rows=batch_rows, seed=seed, pieces=pieces)


def mask_counts(packs: Sequence[Shard], *, masking: MaskingSection, seed: int) -> Counts:
    """What masking does to the first epoch of a run over these shards."""
    check_room([shard.info for shard in packs], masking)
    drawn = in_order(packs, view=Masked(masking=masking).drawn, batch_rows=256, seed=seed)
    return sum((spans.count(layout, cut) for layout, cut in drawn), Counts())
