"""FAISS over immutable segments: one a generation, ids that mean something, tombstones for the revoked.

The surprising rule: FAISS only proposes. Every candidate is scored again in float64 from its stored vector,
ties go to the smaller id: a score depends on no segment, batch, thread or GPU, and exact segments answer the
same however the vectors are split. Ids are never positions. No HNSW: it cannot forget.

Legend: N vectors, B queries, K neighbours, C candidates, D embedding.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from infra.settings import Section

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

# What is fetched beyond K, and doubled while a tie may reach over the edge.
_MARGIN = 16
# FAISS's float32 inner products of unit vectors were within 4e-7 of float64 at 512 dimensions.
_TIE = 1e-5
# The most a GPU index returns. Beyond it equal scores are cut in FAISS's order, not by id.
_MAX_FETCH = 2048
MAX_K = 1024
_BLOCK_ROWS = 256  # 256 queries x 80 candidates x 512 dimensions are 84 MB as float64.
_limits = threading.Lock()  # FAISS keeps its deserialisation limits in process-wide variables.


class IndexConfig(Section):
    """How a segment is built. A segment keeps its own, so changing these changes new segments only."""

    flat_rows: int = Field(100_000, ge=1)
    """Up to this many vectors a segment is searched exactly; above, by inverted lists (IVF-Flat)."""
    probes: int = Field(64, ge=1)
    """Inverted lists visited by a query."""

    def num_lists(self, num_vectors: int) -> int:
        """About 4 sqrt(N), a power of two, as FAISS's guidelines say; k-means wants 39 vectors a list."""
        wanted = min(4 * num_vectors**0.5, num_vectors / 39)
        return 1 << max(0, int(wanted).bit_length() - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbors:
    """Best first; equal scores by id. Both are [B, K], without padding: K is what could be answered."""

    scores: Floats
    """Inner products; cosines where both sides have unit length."""
    ids: Ids


def build_segment(ids_N: Ids, vectors_ND: Floats, config: IndexConfig, coarse: bytes | None = None) -> bytes:
    """A segment, serialised: the same members give the same bytes, in whatever order they come.

    ``coarse`` is what :func:`train_coarse` made once; a large segment without it trains on its own vectors.
    ValueError unless ids are distinct and not negative and vectors have unit length.
    """
    _check_members(ids_N, vectors_ND)
    order_N = np.argsort(ids_N)
    ids_N, vectors_ND = ids_N[order_N], np.ascontiguousarray(vectors_ND[order_N], np.float32)
    if len(ids_N) <= config.flat_rows:
        index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors_ND.shape[1]))
    else:
        index = _opened(coarse if coarse is not None else train_coarse(vectors_ND, config))
        if index.ntotal or index.d != vectors_ND.shape[1]:
            raise ValueError(f"coarse holds {index.ntotal} vectors of width {index.d}; use train_coarse()")
    index.add_with_ids(vectors_ND, ids_N)
    return bytes(faiss.serialize_index(index))


def train_coarse(vectors_ND: Floats, config: IndexConfig) -> bytes:
    """An IVF-Flat index that holds lists and no vectors. Its k-means is seeded and runs on one thread."""
    faiss.omp_set_num_threads(1)
    width = vectors_ND.shape[1]
    quantizer = faiss.IndexFlatIP(width)
    num_lists = config.num_lists(len(vectors_ND))
    index = faiss.IndexIVFFlat(quantizer, width, num_lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = min(config.probes, num_lists)
    index.train(np.ascontiguousarray(vectors_ND, np.float32))
    return bytes(faiss.serialize_index(index))


def _check_members(ids_N: Ids, vectors_ND: Floats) -> None:
    if ids_N.dtype != np.int64 or ids_N.ndim != 1 or vectors_ND.ndim != 2 or len(ids_N) != len(vectors_ND):
        got = f"{ids_N.dtype} {ids_N.shape} and {vectors_ND.shape}"
        raise ValueError(f"need int64 ids [N] and vectors [N, D], got {got}")
    if len(np.unique(ids_N)) != len(ids_N) or (ids_N < 0).any():
        raise ValueError("ids must be distinct and not negative; take them from the id table")
    lengths_N = np.linalg.norm(vectors_ND.astype(np.float64), axis=1)
    # A zero vector is allowed: a text or image of which nothing is known.
    wrong_N = ~((np.abs(lengths_N - 1) < 1e-3) | (lengths_N == 0))
    if wrong_N.any():
        row = int(np.argmax(wrong_N))
        raise ValueError(f"id {ids_N[row]} has a vector of length {lengths_N[row]:.6g}; normalise first")


def _opened(segment: bytes | Path) -> Any:
    """Read what FAISS wrote. No vector may claim more bytes than the whole segment has."""
    size = segment.stat().st_size if isinstance(segment, Path) else len(segment)
    try:
        with _limits:
            faiss.set_deserialization_vector_byte_limit(size)
            if isinstance(segment, Path):
                index: Any = faiss.read_index(str(segment))
            else:
                index = faiss.deserialize_index(np.frombuffer(segment, np.uint8))
    except RuntimeError as error:
        raise ValueError(f"not a segment that FAISS can read: {error}") from None
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap2) else index
    known = isinstance(inner, faiss.IndexIVFFlat if inner is index else faiss.IndexFlat)
    if not known or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        kind = f"{type(index).__name__} of {type(inner).__name__}"
        raise ValueError(f"a segment is Flat with ids or IVF-Flat, by inner product; got {kind}; rebuild it")
    return index


def _members(index: Any) -> Ids:
    """Sorted ids of an opened segment."""
    if isinstance(index, faiss.IndexIDMap2):
        return np.asarray(faiss.vector_to_array(index.id_map), np.int64)  # build_segment() adds in id order
    lists, sizes = index.invlists, [index.invlists.list_size(number) for number in range(index.nlist)]
    found = [faiss.rev_swig_ptr(lists.get_ids(number), size) for number, size in enumerate(sizes) if size]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *found]))


def inner_products(queries_BD: Floats, vectors_BCD: Floats) -> Floats:
    """Summed in float64, so that a pair scores the same in every company [B, C]."""
    wide = queries_BD.astype(np.float64), vectors_BCD.astype(np.float64)
    return np.asarray(np.einsum("bd,bcd->bc", *wide), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """One opened segment. ``gpu`` is a copy of ``cpu``'s vectors; ``ids`` are all its members, sorted."""

    cpu: Any
    gpu: Any | None
    ids: Ids
    dead: Ids

    def candidates(self, queries_BD: Floats, k: int, only: Ids | None) -> Neighbors:
        """At least the best k (or all) of the living, or of the living ``only``, scored, in no order."""
        available = len(self.ids) - len(self.dead) if only is None else len(only)
        fetch = min(k + _MARGIN, available)
        rough_BC, ids_BC = self._fetched(queries_BD, fetch, only)
        while fetch < min(available, _MAX_FETCH) and (rough_BC[:, k - 1] - rough_BC[:, -1] <= _TIE).any():
            fetch = min(2 * fetch, available)
            rough_BC, ids_BC = self._fetched(queries_BD, fetch, only)
        vectors_BCD = self.vectors(ids_BC.ravel()).reshape(*ids_BC.shape, self.cpu.d)
        return Neighbors(scores=inner_products(queries_BD, vectors_BCD), ids=ids_BC)

    def _fetched(self, queries_BD: Floats, fetch: int, only: Ids | None) -> tuple[Floats, Ids]:
        """FAISS's own best, [B, fetch]; where the probed lists held too few, all lists are searched."""
        if fetch == 0:
            return np.zeros((len(queries_BD), 0), np.float32), np.zeros((len(queries_BD), 0), np.int64)
        if self.gpu is not None and only is None and fetch + len(self.dead) <= _MAX_FETCH:
            scores_BC, ids_BC = self._on_gpu(self.gpu, queries_BD, fetch)
        else:
            scores_BC, ids_BC = self._on_cpu(queries_BD, fetch, only, getattr(self.cpu, "nprobe", 0))
        short_B = (ids_BC < 0).any(axis=1)
        if short_B.any():
            every = self._on_cpu(queries_BD[short_B], fetch, only, self.cpu.nlist)
            scores_BC[short_B], ids_BC[short_B] = every
        if (ids_BC < 0).any():
            raise RuntimeError(f"FAISS answered with fewer than the {fetch} ids that the segment holds")
        return scores_BC, ids_BC

    def _on_cpu(
        self, queries_BD: Floats, fetch: int, only: Ids | None, num_probes: int
    ) -> tuple[Floats, Ids]:
        selector: Any = None
        if only is not None:
            selector = faiss.IDSelectorBatch(only)
        elif len(self.dead):
            selector = faiss.IDSelectorNot(faiss.IDSelectorBatch(self.dead))
        if isinstance(self.cpu, faiss.IndexIVFFlat):
            params: Any = faiss.SearchParametersIVF(nprobe=num_probes, sel=selector)  # type: ignore[call-arg]  # sets fields
        else:
            params = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]  # sets fields
        scores_BC, ids_BC = self.cpu.search(queries_BD, fetch, params=params)
        return scores_BC, ids_BC

    def _on_gpu(self, gpu: Any, queries_BD: Floats, fetch: int) -> tuple[Floats, Ids]:
        """GPU indexes take no selector: the dead come too, and move behind. Flat ones answer in positions."""
        scores_BC, found_BC = gpu.search(queries_BD, fetch + len(self.dead))
        ids_BC = found_BC if isinstance(self.cpu, faiss.IndexIVFFlat) else self.ids[found_BC]
        order_BC = np.argsort(np.isin(ids_BC, self.dead), axis=1, kind="stable")[:, :fetch]
        return np.take_along_axis(scores_BC, order_BC, axis=1), np.take_along_axis(ids_BC, order_BC, axis=1)

    def vectors(self, ids_N: Ids) -> Floats:
        return np.asarray(self.cpu.reconstruct_batch(ids_N), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Segments opened for reading, less the tombstones. Safe to search from several threads."""

    segments: tuple[_Segment, ...]
    width: int
    threads: int

    @classmethod
    def open(cls, segments: Sequence[bytes | Path], dead: Ids | None = None, *, threads: int = 1) -> Index:
        """Base segments and, last, the delta; ``dead`` ids are tombstones. Copied to every GPU there is.

        FAISS parses them in C++: check their sha256 against the manifest before they come here. ValueError
        when one cannot be read, when widths differ, or when an id is in two of them.
        """
        opened = [_opened(segment) for segment in segments]
        widths = {index.d for index in opened}
        if len(widths) != 1:
            raise ValueError(f"segments must have one width, got {sorted(widths)}; open at least one")
        members = [_members(index) for index in opened]
        if any((np.diff(ids_N) <= 0).any() for ids_N in members):
            raise ValueError("a segment's ids are out of order or repeated; build it with build_segment()")
        if len(np.unique(np.concatenate(members))) != sum(map(len, members)):
            raise ValueError("an id is in two segments; a changed asset takes a new id and a tombstone")
        gone = np.zeros(0, np.int64) if dead is None else np.asarray(dead, np.int64)
        living = [_living(index, ids_N, gone) for index, ids_N in zip(opened, members, strict=True)]
        return cls(segments=tuple(living), width=widths.pop(), threads=threads)

    @property
    def live_ids(self) -> Ids:
        return np.sort(np.concatenate([np.setdiff1d(one.ids, one.dead) for one in self.segments]))

    def search(self, queries_BD: Floats, k: int) -> Neighbors:
        """The best min(k, number of live ids) of every query, [B, K]; 1 <= k <= 1024."""
        return self._merged(queries_BD, k, [None] * len(self.segments))

    def search_subset(self, queries_BD: Floats, k: int, ids_N: Ids) -> Neighbors:
        """The same among ``ids_N``; those that are unknown or dead count for nothing. Runs on the CPU."""
        wanted = np.unique(np.asarray(ids_N, np.int64))
        only = [np.setdiff1d(np.intersect1d(wanted, one.ids), one.dead) for one in self.segments]
        return self._merged(queries_BD, k, only)

    def vectors(self, ids_N: Ids) -> Floats:
        """Stored vectors by id [N, D], dead or alive. ValueError for an id that no segment holds."""
        found_ND = np.zeros((len(ids_N), self.width), np.float32)
        missing_N = np.ones(len(ids_N), np.bool_)
        for segment in self.segments:
            mine_N = np.isin(ids_N, segment.ids)
            if mine_N.any():
                found_ND[mine_N] = segment.vectors(np.ascontiguousarray(ids_N[mine_N]))
            missing_N &= ~mine_N
        if missing_N.any():
            raise ValueError(f"the index has no id {ids_N[int(np.argmax(missing_N))]}")
        return found_ND

    def compacted(self, config: IndexConfig, coarse: bytes | None = None) -> bytes:
        """One segment of all that lives, without a byte of the dead; ``coarse`` may have seen them."""
        return build_segment(self.live_ids, self.vectors(self.live_ids), config, coarse)

    def _merged(self, queries_BD: Floats, k: int, only: Sequence[Ids | None]) -> Neighbors:
        if queries_BD.ndim != 2 or queries_BD.shape[1] != self.width:
            raise ValueError(f"queries must be [B, {self.width}], got {queries_BD.shape}")
        if not np.isfinite(queries_BD).all():
            raise ValueError("a query holds NaN or infinity; check the encoder's dtype")
        if not 1 <= k <= MAX_K:
            raise ValueError(f"k must be in [1, {MAX_K}], got {k}")
        faiss.omp_set_num_threads(self.threads)
        queries_BD = np.ascontiguousarray(queries_BD, np.float32)
        starts = range(0, max(1, len(queries_BD)), _BLOCK_ROWS)
        return _joined([self._block(queries_BD[at : at + _BLOCK_ROWS], k, only) for at in starts], axis=0)

    def _block(self, queries_BD: Floats, k: int, only: Sequence[Ids | None]) -> Neighbors:
        pairs = zip(self.segments, only, strict=True)
        found = _joined([one.candidates(queries_BD, k, allowed) for one, allowed in pairs], axis=1)
        best_BK = np.lexsort((found.ids, -found.scores), axis=1)[:, :k]
        return Neighbors(
            scores=np.take_along_axis(found.scores, best_BK, axis=1),
            ids=np.take_along_axis(found.ids, best_BK, axis=1),
        )


def _joined(parts: Sequence[Neighbors], *, axis: int) -> Neighbors:
    return Neighbors(
        scores=np.concatenate([part.scores for part in parts], axis=axis),
        ids=np.concatenate([part.ids for part in parts], axis=axis),
    )


def _living(index: Any, ids_N: Ids, dead: Ids) -> _Segment:
    """Ready to search: copied to every GPU, where there is one, and able to find a vector by its id."""
    gpu, inverted = None, isinstance(index, faiss.IndexIVFFlat)
    if faiss.get_num_gpus():
        gpu = faiss.index_cpu_to_all_gpus(index if inverted else faiss.downcast_index(index.index))
    if inverted:
        index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]  # made by SWIG
    return _Segment(cpu=index, gpu=gpu, ids=ids_N, dead=np.intersect1d(ids_N, dead))
