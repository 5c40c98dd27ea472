"""FAISS over immutable segments: one a generation, ids that mean something, tombstones for the revoked.

The surprising rule: FAISS only proposes. Every candidate is scored again in float64 from its stored vector,
ties go to the smaller id: a score depends on no batch, thread or GPU, and exact segments answer the same
however the vectors are split. Ids are never positions, and a removal rewrites nothing: the dead are a
bitmap until :meth:`Index.compacted`.

    >>> import numpy as np
    >>> from retrieval.layouts import IndexConfig
    >>> vectors_ND = np.eye(4, dtype=np.float32)
    >>> base = building.build(np.arange(10, 14), vectors_ND, IndexConfig())
    >>> index = Index.open([base], dead=np.array([11]))
    >>> index.search(vectors_ND[1:2], k=3).ids
    array([[10, 12, 13]])
    >>> index = index.adding(np.array([20]), vectors_ND[1:2])
    >>> index.search(vectors_ND[1:2], k=2).ids
    array([[20, 10]])

Legend: N vectors, B queries, K neighbors, C candidates, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np

from retrieval import building, judging
from retrieval.families import as_one, families
from retrieval.judging import Neighbors
from retrieval.layouts import IndexConfig
from retrieval.segments import Bits, Effort, Floats, Ids, Segment

MAX_K = 1024
_BLOCK_ROWS = 256  # 256 queries x 80 candidates x 512 dimensions are 84 MB as float64.


@dataclass(frozen=True, slots=True)
class Within:
    """Members of an index that may answer: made once for a set of ids, and asked as often as one likes."""

    parts: tuple[Bits, ...]

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Segments opened for reading, less the tombstones. Safe to search from several threads."""

    segments: tuple[Segment, ...]
    families: tuple[tuple[int, ...], ...]
    """Places of segments that are searched as one."""
    width: int
    threads: int
    gpus: bool

    @classmethod
    def open(
        cls, parts: Iterable[bytes | Path], dead: Ids | None = None, *, threads: int = 1, gpus: bool = False
    ) -> Index:
        """Base segments and, last, the delta; ``dead`` ids are tombstones. With ``gpus`` copied to every GPU.

        Files are mapped into memory, each before the next one is asked for. FAISS parses them in C++: check
        their sha256 against the manifest before they come here. ValueError when one cannot be read, when
        widths differ, or when an id is in two.
        """
        gone = np.zeros(0, np.int64) if dead is None else np.unique(np.asarray(dead, np.int64))
        return cls._of([Segment.open(part, gone) for part in parts], threads=threads, gpus=gpus)

    @classmethod
    def _of(cls, opened: Sequence[Segment], *, threads: int, gpus: bool) -> Index:
        widths = {segment.width for segment in opened}
        if len(widths) != 1:
            raise ValueError(f"segments must have one width, got {sorted(widths)}; open at least one")
        if len(np.unique(np.concatenate([one.ids for one in opened]))) != sum(len(one.ids) for one in opened):
            raise ValueError("an id is in two segments; a changed asset takes a new id and a tombstone")
        ready = tuple(segment.copied() if gpus else segment for segment in one_delta(opened))
        return cls(segments=ready, families=families(ready), width=widths.pop(), threads=threads, gpus=gpus)

    @property
    def live_ids(self) -> Ids:
        return np.sort(np.concatenate([one.ids[one.alive.mask_N] for one in self.segments]))

    def adding(self, ids_N: Ids, vectors_ND: Floats) -> Index:
        """With a small exact segment more, beside the lists. ValueError as :func:`building.build`."""
        delta = building.build(ids_N, vectors_ND, IndexConfig(kind="flat"))
        opened = [*self.segments, Segment.open(delta, np.zeros(0, np.int64))]
        return self._of(opened, threads=self.threads, gpus=self.gpus)

    def removing(self, ids: Ids) -> Index:
        """Without these, from the next search on. Those that are unknown count for nothing."""
        gone = np.unique(np.asarray(ids, np.int64))
        return replace(self, segments=tuple(segment.without(gone) for segment in self.segments))

    def trying(self, effort: Effort) -> Index:
        """The same, whose lists are searched with another effort than their own, and on the CPU."""
        tried = tuple(segment.trying(effort) for segment in self.segments)
        return replace(self, segments=tried, families=families(tried))

    def within(self, ids: Ids) -> Within:
        """Of ``ids`` those that live here."""
        wanted = np.unique(np.asarray(ids, np.int64))
        return Within(tuple(segment.within(wanted) for segment in self.segments))

    def search(self, queries_BD: Floats, k: int, within: Within | None = None) -> Neighbors:
        """The best min(k, number of live ids) of every query, [B, K]; 1 <= k <= 1024.

        ``within`` is of this index. It is searched on the CPU.
        """
        if queries_BD.ndim != 2 or queries_BD.shape[1] != self.width:
            raise ValueError(f"queries must be [B, {self.width}], got {queries_BD.shape}")
        if not np.isfinite(queries_BD).all():
            raise ValueError("a query holds NaN or infinity; check the encoder's dtype")
        if not 1 <= k <= MAX_K:
            raise ValueError(f"k must be in [1, {MAX_K}], got {k}")
        if within is not None and len(within.parts) != len(self.segments):
            raise ValueError(
                f"within is of {len(within.parts)} segments, the index has {len(self.segments)}; ask it anew"
            )
        faiss.omp_set_num_threads(self.threads)
        queries_BD = np.ascontiguousarray(queries_BD, np.float32)
        starts = range(0, max(1, len(queries_BD)), _BLOCK_ROWS)
        blocks = (queries_BD[at : at + _BLOCK_ROWS] for at in starts)
        return judging.joined([self._block(block_BD, k, within) for block_BD in blocks], axis=0)

    def search_subset(self, queries_BD: Floats, k: int, ids: Ids) -> Neighbors:
        """The same among ``ids``, for one time; see :meth:`within`."""
        return self.search(queries_BD, k, self.within(ids))

    def holds(self, number: int) -> bool:
        """Whether it has that id, dead or alive."""
        asked = np.array([number], np.int64)
        return any(bool(segment.positions(asked)[1][0]) for segment in self.segments)

    def vectors(self, ids_N: Ids) -> Floats:
        """Stored vectors by id [N, D], dead or alive. ValueError for an id that no segment holds."""
        found_ND = np.zeros((len(ids_N), self.width), np.float32)
        missing_N = np.ones(len(ids_N), np.bool_)
        for segment in self.segments:
            at_N, mine_N = segment.positions(ids_N)
            if mine_N.any():
                found_ND[mine_N] = segment.vectors(at_N[mine_N])
            missing_N &= ~mine_N
        if missing_N.any():
            raise ValueError(f"the index has no id {ids_N[int(np.argmax(missing_N))]}")
        return found_ND

    def compacted(self, config: IndexConfig, trained: bytes | None = None) -> bytes:
        """One segment of all that lives, without a byte of the dead; ``trained`` may have seen them."""
        return building.build(
            self.live_ids, self.vectors(self.live_ids), config, trained, threads=self.threads
        )

    def _block(self, queries_BD: Floats, k: int, within: Within | None) -> Neighbors:
        among = [segment.alive for segment in self.segments] if within is None else within.parts
        found = []
        for places in self.families:
            family, bits = [self.segments[place] for place in places], [among[place] for place in places]
            if len(family) > 1:
                found.append(as_one(family, queries_BD, k, bits))
            else:
                found.append(judging.candidates(family[0], queries_BD, k, bits[0]))
        every = judging.joined(found, axis=1)
        return judging.best(every.scores, every.ids, k)


def one_delta(opened: Sequence[Segment]) -> tuple[Segment, ...]:
    """Exact segments as one, in memory, after the others: small deliveries are not searched one by one."""
    flat = [segment for segment in opened if segment.kind == "flat"]
    if len(flat) < 2:
        return tuple(opened)
    ids_N = np.concatenate([segment.ids for segment in flat])
    vectors_ND = np.concatenate([segment.vectors(np.arange(len(segment.ids))) for segment in flat])
    dead = np.sort(np.concatenate([segment.dead for segment in flat]))
    delta = building.build(ids_N, vectors_ND, IndexConfig(kind="flat"))
    return (*(segment for segment in opened if segment.kind != "flat"), Segment.open(delta, dead))
