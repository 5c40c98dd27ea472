"""One segment of an index: opened for reading, and asked for candidates.

The surprising rule: inside, FAISS knows positions alone. Ids lie beside them, so a set of ids is a bit a
position, whichever the layout: the dead, or what a caller may see, are told to FAISS as one bitmap.

Legend: N vectors of the segment, B queries, C candidates, D embedding.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.layouts import Kind

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

PROBES, RERANKED = 64, 4
"""What a query does until ``tuning`` has measured how much it has to; see :class:`Effort`."""
GATHERED = 20_000
"""Up to so many allowed members are compared one by one, and no list is visited. Where there are none, FAISS
passes over the others itself: 0.5 ms and not 7 with 3,000 members."""
MAX_FETCH = 2048
"""The most a GPU index returns. Beyond it equal scores are cut in FAISS's order, not by id."""
TABLES_BYTES = 1 << 30
"""FAISS refuses codes whose tables would pass the limit, though for inner products it makes none: 33 MB of
4,096 lists and 128 codes."""
_BLOCK_ROWS = 65_536
_SERIAL = 32_768
"""Numbers that torch leaves to one thread."""
_limits = threading.Lock()  # FAISS keeps its deserialisation limits in process-wide variables.
_on_devices = threading.Lock()  # Its GPU indexes may be asked by one thread at a time.


def parsed(segment: bytes | Path) -> Any:
    """What FAISS wrote; a file is mapped and not read. No vector may claim far more bytes than there are."""
    size = segment.stat().st_size if isinstance(segment, Path) else len(segment)
    try:
        with _limits:
            faiss.set_deserialization_vector_byte_limit(max(size, TABLES_BYTES))
            if isinstance(segment, Path):
                return faiss.read_index(str(segment), faiss.IO_FLAG_MMAP_IFC)
            return faiss.deserialize_index(np.frombuffer(segment, np.uint8))
    except RuntimeError as error:
        raise ValueError(f"not a segment that FAISS can read: {error}") from None


def kind_of(inner: Any) -> Kind | None:
    match inner:
        case faiss.IndexFlat():
            return "flat"
        case faiss.IndexIVFFlat():
            return "ivf_flat"
        case faiss.IndexRefine() if isinstance(
            faiss.downcast_index(inner.base_index), faiss.IndexIVFPQFastScan
        ):
            return "ivf_pq"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What a query does in inverted lists."""

    probes: int
    """Lists that are visited."""
    reranked: int = 1
    """Candidates by their codes, for each that is asked for, that are judged again by their vectors."""


def asking(segment: bytes, effort: Effort) -> bytes:
    """The same segment, with that effort as its own."""
    index = parsed(segment)
    inner = faiss.downcast_index(index.index)
    faiss.extract_index_ivf(inner).nprobe = effort.probes
    if isinstance(inner, faiss.IndexRefine):
        inner.k_factor = float(effort.reranked)
    return bytes(faiss.serialize_index(index))


def effort_of(inner: Any, kind: Kind) -> Effort:
    if kind == "flat":
        return Effort(probes=0)
    reranked = round(inner.k_factor) if kind == "ivf_pq" else 1
    return Effort(probes=faiss.extract_index_ivf(inner).nprobe, reranked=reranked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bits:
    """Some members of a segment, and how FAISS is told of them."""

    mask_N: Mask
    count: int
    selector: Any

    @classmethod
    def of(cls, mask_N: Mask) -> Bits:
        packed: Any = np.packbits(mask_N, bitorder="little")
        selector = faiss.IDSelectorBitmap(packed)  # type: ignore[call-arg]  # made to take an array
        return cls(mask_N=mask_N, count=int(mask_N.sum()), selector=selector)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Opened. Safe to ask from several threads."""

    kind: Kind
    owner: Any = field(repr=False)
    """What FAISS read: it owns ``inner``."""
    inner: Any
    """FAISS's index, in positions."""
    gpu: Any | None
    ids: Ids
    """Of all members, by position."""
    places: NDArray[np.int64]
    """Positions in the order of the ids."""
    alive: Bits
    effort: Effort
    fitted: str
    """Equal for segments whose lists and codes were fitted once; empty where every vector is compared."""
    _halves_ND: NDArray[np.floating] | None = field(repr=False)
    """The vectors where FAISS stores them one after the other: no copy."""

    @classmethod
    def open(cls, segment: bytes | Path, dead: Ids) -> Segment:
        index = parsed(segment)
        inner: Any = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap2) else None
        kind = None if inner is None else kind_of(inner)
        if kind is None or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            told = f"{type(index).__name__} of {type(inner).__name__}"
            raise ValueError(
                f"a segment is Flat, IVF-Flat or IVF-PQ with ids, by inner product; got {told}; rebuild it"
            )
        ids_N = np.asarray(faiss.vector_to_array(index.id_map), np.int64)
        places_N = np.argsort(ids_N)
        if len(ids_N) != inner.ntotal or (np.diff(ids_N[places_N]) <= 0).any():
            raise ValueError("a segment's ids are repeated or missing; build it with build() or merge()")
        lists: Any = None if kind == "flat" else faiss.extract_index_ivf(inner)
        if lists is not None and lists.quantizer.ntotal != lists.nlist:
            raise ValueError(
                f"a segment of {lists.nlist} lists has {lists.quantizer.ntotal} centroids: a part of one has "
                "none; open what merge() makes of it"
            )
        if kind == "ivf_flat":
            inner.make_direct_map()
        return cls(
            kind=kind,
            owner=index,
            inner=inner,
            gpu=None,
            ids=ids_N,
            places=places_N,
            alive=Bits.of(~np.isin(ids_N, dead, assume_unique=True)),
            effort=effort_of(inner, kind),
            fitted=fitted_on(inner, kind),
            _halves_ND=stored(inner, kind),
        )

    @property
    def width(self) -> int:
        return int(self.inner.d)

    @property
    def lists(self) -> int:
        return 0 if self.kind == "flat" else int(faiss.extract_index_ivf(self.inner).nlist)

    @property
    def coarse(self) -> Any:
        """What finds the lists near a query."""
        return faiss.extract_index_ivf(self.inner).quantizer

    @property
    def on_disk(self) -> int:
        """Bytes of it that are read only where a candidate is judged by its vector."""
        return self._halves_ND.nbytes if self.kind == "ivf_pq" and self._halves_ND is not None else 0

    @property
    def dead(self) -> Ids:
        return self.ids[~self.alive.mask_N]

    def trying(self, effort: Effort) -> Segment:
        """Asked with another effort, on the CPU: a copy on a GPU keeps the one that it was made with."""
        return replace(self, effort=effort, gpu=None)

    def copied(self) -> Segment:
        """With a copy on every GPU, where there are any and it has none."""
        if self.gpu is not None or not faiss.get_num_gpus():
            return self
        return replace(self, gpu=on_gpus(self.inner, self.kind))

    def without(self, gone: Ids) -> Segment:
        """The same file and the same vectors, with these dead too."""
        return replace(self, alive=Bits.of(self.alive.mask_N & ~np.isin(self.ids, gone, assume_unique=True)))

    def within(self, ids: Ids) -> Bits:
        """The living of ``ids``."""
        at_N, is_here_N = self.positions(ids)
        mask_N = np.zeros(len(self.ids), np.bool_)
        mask_N[at_N[is_here_N]] = True
        return Bits.of(mask_N & self.alive.mask_N)

    def positions(self, ids_N: Ids) -> tuple[NDArray[np.int64], Mask]:
        """Where ids stand, and which of them do: the others have a position that means nothing."""
        at_N, is_here_N = np.zeros(len(ids_N), np.int64), np.zeros(len(ids_N), np.bool_)
        if not len(self.ids):
            return at_N, is_here_N
        # Ids are given as assets come, so a segment's lie close together: beyond them nothing is looked for.
        lowest, highest = self.ids[self.places[[0, -1]]]
        near = np.flatnonzero((ids_N >= lowest) & (ids_N <= highest))
        found = np.searchsorted(self.ids, ids_N[near], sorter=self.places)
        at_N[near] = self.places[found]
        is_here_N[near] = self.ids[at_N[near]] == ids_N[near]
        return at_N, is_here_N

    def fetched(self, queries_BD: Floats, fetch: int, among: Bits) -> tuple[Floats, NDArray[np.int64]]:
        """FAISS's own best, scores and positions [B, fetch], best first; at most ``among.count``."""
        asks_B = queries_BD.any(axis=1)
        if fetch and asks_B.all():
            return self._best(queries_BD, fetch, among)
        scores_BC = np.zeros((len(queries_BD), fetch), np.float32)
        at_BC = np.zeros(scores_BC.shape, np.int64)
        if fetch == 0:
            return scores_BC, at_BC
        # A query of nothing is as near to all, so they go by id: codes do not tell them.
        at_BC[~asks_B] = self.places[among.mask_N[self.places]][:fetch]
        if asks_B.any():
            scores_BC[asks_B], at_BC[asks_B] = self._best(queries_BD[asks_B], fetch, among)
        return scores_BC, at_BC

    def _best(self, queries_BD: Floats, fetch: int, among: Bits) -> tuple[Floats, NDArray[np.int64]]:
        if self.kind != "flat" and among is not self.alive and among.count <= GATHERED:
            return self._compared(queries_BD, fetch, np.flatnonzero(among.mask_N))
        if self.gpu is not None and among is self.alive and fetch + len(self.dead) <= MAX_FETCH:
            scores_BC, at_BC = self._on_gpu(self.gpu, queries_BD, fetch)
        else:
            scores_BC, at_BC = self._searched(queries_BD, fetch, among, among.count / len(self.ids))
        short_B = (at_BC < 0).any(axis=1)
        if short_B.any():  # the probed lists held too few: every list is searched
            scores_BC[short_B], at_BC[short_B] = self._searched(queries_BD[short_B], fetch, among, 0.0)
        if (at_BC < 0).any():
            raise RuntimeError(f"FAISS answered with fewer than the {fetch} members that there are")
        return scores_BC, at_BC

    def visited(
        self, queries_BD: Floats, lists: tuple[Floats, Ids], among: Bits, found: tuple[Floats, Ids]
    ) -> None:
        """The best of those allowed in ``lists``, scores and numbers [B, P], into ``found``, scores by codes
        and positions [B, C]: -1 where the lists hold no more.
        """
        (nearest_BP, lists_BP), (scores_BC, at_BC) = lists, found
        selector = None if among.count == len(self.ids) else among.selector
        params = faiss.SearchParametersIVF(nprobe=lists_BP.shape[1], sel=selector)  # type: ignore[call-arg]
        inner: Any = self.inner
        if self.kind == "ivf_pq":
            inner = faiss.downcast_index(inner.base_index)
        # The wrapped call takes no parameters, and without them neither a selector nor a number of lists.
        inner.search_preassigned_c(
            len(queries_BD),
            faiss.swig_ptr(queries_BD),
            scores_BC.shape[1],
            faiss.swig_ptr(lists_BP),
            faiss.swig_ptr(nearest_BP),
            faiss.swig_ptr(scores_BC),
            faiss.swig_ptr(at_BC),
            False,  # noqa: FBT003  # C++: labels and not offsets in lists
            params,
        )

    def _searched(
        self, queries_BD: Floats, fetch: int, among: Bits, share: float
    ) -> tuple[Floats, NDArray[np.int64]]:
        """``share`` of the members is allowed: the rarer they are, the more lists are visited."""
        selector = None if among.count == len(self.ids) else among.selector
        if self.kind == "flat":
            params: Any = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]  # sets fields
        else:
            probes = min(self.lists, int(np.ceil(self.effort.probes / share)) if share else self.lists)
            params = faiss.SearchParametersIVF(nprobe=probes, sel=selector)  # type: ignore[call-arg]
        if self.kind == "ivf_pq":
            params = faiss.IndexRefineSearchParameters(
                k_factor=self.effort.reranked, base_index_params=params
            )  # type: ignore[call-arg]
        scores_BC, at_BC = self.inner.search(queries_BD, fetch, params=params)
        return scores_BC, at_BC

    def _on_gpu(self, gpu: Any, queries_BD: Floats, fetch: int) -> tuple[Floats, NDArray[np.int64]]:
        """GPU indexes take no selector: the dead come too, and move behind, and what is missing with them."""
        with _on_devices:
            scores_BC, at_BC = gpu.search(queries_BD, fetch + len(self.dead))
        gone_BC = (at_BC < 0) | ~self.alive.mask_N[at_BC]
        order_BC = np.argsort(gone_BC, axis=1, kind="stable")[:, :fetch]
        at_BC = np.where(gone_BC, -1, at_BC)
        return np.take_along_axis(scores_BC, order_BC, axis=1), np.take_along_axis(at_BC, order_BC, axis=1)

    def _compared(
        self, queries_BD: Floats, fetch: int, at_C: NDArray[np.int64]
    ) -> tuple[Floats, NDArray[np.int64]]:
        scores_BC = queries_BD @ self.vectors(at_C).T
        best_BC = np.argpartition(-scores_BC, fetch - 1, axis=1)[:, :fetch]
        best_BC = np.take_along_axis(
            best_BC, np.argsort(-np.take_along_axis(scores_BC, best_BC, 1), axis=1), 1
        )
        return np.take_along_axis(scores_BC, best_BC, axis=1), at_C[best_BC]

    def vectors(self, at_N: NDArray[np.int64]) -> Floats:
        """By position [N, D]."""
        return floats(self.held(at_N))

    def held(self, at_N: NDArray[np.int64]) -> NDArray[np.floating]:
        """The same as it is stored, at half precision beside codes."""
        if self._halves_ND is None:
            return np.asarray(self.inner.reconstruct_batch(at_N), np.float32)
        return self._halves_ND[at_N]


def fitted_on(inner: Any, kind: Kind) -> str:
    """Of centroids and codebooks."""
    if kind == "flat":
        return ""
    lists: Any = faiss.extract_index_ivf(inner)
    digest = hashlib.sha256(lists.quantizer.reconstruct_n(0, lists.nlist))
    if kind == "ivf_pq":
        coded: Any = faiss.downcast_index(inner.base_index)
        digest.update(faiss.vector_to_array(coded.pq.centroids).tobytes())
    return f"{kind} {digest.hexdigest()}"


def floats(held: NDArray[np.floating]) -> Floats:
    """At full precision, by torch: a sixth of numpy's time; and so little at once that it calls no thread."""
    if held.dtype == np.float32:
        return held
    import torch  # noqa: PLC0415  # settings name what is here, and are read without it

    full = np.empty(held.shape, np.float32)
    source, target = (torch.from_numpy(array.reshape(-1)) for array in (held, full))
    for at in range(0, held.size, _SERIAL):
        target[at : at + _SERIAL].copy_(source[at : at + _SERIAL])
    return full


def stored(inner: Any, kind: Kind) -> NDArray[np.floating] | None:
    """A view [N, D] of what FAISS holds; None for inverted lists, which scatter it."""
    if kind == "ivf_flat":
        return None
    codes: Any = inner if kind == "flat" else faiss.downcast_index(inner.refine_index)
    dtype = np.dtype(np.float32 if kind == "flat" else np.float16)
    size = inner.ntotal * inner.d * dtype.itemsize
    if not size:
        return np.zeros((0, inner.d), dtype)
    return faiss.rev_swig_ptr(codes.codes.data(), size).view(dtype).reshape(inner.ntotal, inner.d)


def on_gpus(inner: Any, kind: Kind) -> Any:
    """A copy on every GPU. There is no fast scan there: codes go as whole vectors, in the same lists."""
    options = faiss.GpuMultipleClonerOptions()
    if kind != "ivf_pq":
        return faiss.index_cpu_to_all_gpus(inner, options)
    lists = faiss.extract_index_ivf(inner)
    twin = faiss.IndexIVFFlat(lists.quantizer, inner.d, lists.nlist, faiss.METRIC_INNER_PRODUCT)
    twin.own_fields, twin.nprobe = False, lists.nprobe
    halves_ND = stored(inner, kind)
    assert halves_ND is not None  # noqa: S101  # IVF-PQ keeps them
    for at in range(0, len(halves_ND), _BLOCK_ROWS):
        twin.add(halves_ND[at : at + _BLOCK_ROWS].astype(np.float32))
    options.useFloat16 = True
    return faiss.index_cpu_to_all_gpus(twin, options)
