"""How a segment is made: fitted once on a sample, filled part by part wherever there is a worker, merged.

Legend: N vectors, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from retrieval import layouts
from retrieval.layouts import IndexConfig, Layout
from retrieval.segments import PROBES, RERANKED, Floats, Ids, parsed

SEED_POINTS = 64
"""Vectors a list that k-means sees. FAISS takes 256, which is four times the products."""
ITERATIONS = 10
_BLOCK_ROWS = 65_536


def train(vectors_ND: Floats, config: IndexConfig, *, num: int | None = None, threads: int = 1) -> bytes:
    """An empty index whose centroids and codes were fitted on these vectors, for ``num`` of their kind.

    Its k-means is seeded. On one thread the same vectors give the same bytes.
    """
    faiss.omp_set_num_threads(threads)
    width = vectors_ND.shape[1]
    index = layouts.chosen(len(vectors_ND) if num is None else num, width, config).made(width)
    if not index.is_trained:
        lists = faiss.extract_index_ivf(index)
        lists.cp.max_points_per_centroid, lists.cp.niter = SEED_POINTS, ITERATIONS
        lists.nprobe = min(config.probes or PROBES, lists.nlist)
        if isinstance(index, faiss.IndexRefine):
            index.k_factor = float(RERANKED)
        if faiss.get_num_gpus():
            lists.clustering_index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(width))
        index.train(np.ascontiguousarray(vectors_ND, np.float32))
    return bytes(faiss.serialize_index(index))


def points(layout: Layout) -> int:
    """Vectors that training a layout asks for at most."""
    return SEED_POINTS * layout.lists


def build(
    ids_N: Ids, vectors_ND: Floats, config: IndexConfig, trained: bytes | None = None, *, threads: int = 1
) -> bytes:
    """A segment, serialised: the same members give the same bytes, in whatever order they come.

    ``trained`` is what :func:`train` made once; a large segment without it trains on its own vectors.
    ValueError unless ids are distinct and not negative and vectors have unit length, or none at all.
    """
    ids_N, vectors_ND = _in_order(ids_N, vectors_ND)
    empty = trained if trained is not None else train(vectors_ND, config, threads=threads)
    return bytes(faiss.serialize_index(_filled(ids_N, vectors_ND, empty, threads=threads)))


def part(ids_N: Ids, vectors_ND: Floats, trained: bytes) -> bytes:
    """Of a segment, to be merged: without the centroids, of which each part of 10,000 rows would have as many
    as the segment. ValueError as :func:`build`.
    """
    filled = _filled(*_in_order(ids_N, vectors_ND), trained, threads=1)
    with _centroids_of(filled.index, faiss.IndexFlatIP(filled.d)):
        return bytes(faiss.serialize_index(filled))


def merge(parts: Sequence[bytes], trained: bytes) -> bytes:
    """A segment of what :func:`part` made with the same ``trained``, in that order."""
    inner: Any = parsed(trained)
    whole = faiss.IndexIDMap2(inner)
    ids = [np.zeros(0, np.int64)]
    for other in map(parsed, parts):
        ids.append(faiss.vector_to_array(other.id_map))
        held: Any = faiss.downcast_index(other.index)
        if isinstance(inner, faiss.IndexFlat):
            inner.merge_from(held, 0)
            continue
        with _centroids_of(held, faiss.extract_index_ivf(inner).quantizer):
            if isinstance(inner, faiss.IndexRefine):
                inner.base_index.merge_from(held.base_index, inner.base_index.ntotal)
                inner.refine_index.merge_from(held.refine_index)
                inner.ntotal = inner.base_index.ntotal
            else:
                inner.merge_from(held, inner.ntotal)
    faiss.copy_array_to_vector(np.concatenate(ids), whole.id_map)
    whole.ntotal = inner.ntotal
    return bytes(faiss.serialize_index(whole))


@contextmanager
def _centroids_of(index: Any, lent: Any) -> Iterator[None]:
    """Another's, where there are any, for a while: each are freed by whom they belong to."""
    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexFlat):
        yield
        return
    lists = faiss.extract_index_ivf(inner)
    is_ours = lent.this.own()
    own, lists.quantizer = lists.quantizer, lent
    try:
        yield
    finally:
        lists.quantizer = own
        lent.this.own(is_ours)  # what is set as a field is taken for given away


def _filled(ids_N: Ids, vectors_ND: Floats, trained: bytes, *, threads: int) -> Any:
    inner = parsed(trained)
    if inner.ntotal or inner.d != vectors_ND.shape[1]:
        raise ValueError(f"trained holds {inner.ntotal} vectors of width {inner.d}; use what train() makes")
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexIDMap2(inner)
    for at in range(0, len(ids_N), _BLOCK_ROWS):
        index.add_with_ids(vectors_ND[at : at + _BLOCK_ROWS], ids_N[at : at + _BLOCK_ROWS])
    return index


def _in_order(ids_N: Ids, vectors_ND: Floats) -> tuple[Ids, Floats]:
    """By id, so that the order in which members come does not matter."""
    check_members(ids_N, vectors_ND)
    order_N = np.argsort(ids_N)
    return ids_N[order_N], np.ascontiguousarray(vectors_ND[order_N], np.float32)


def check_members(ids_N: Ids, vectors_ND: Floats) -> None:
    if ids_N.dtype != np.int64 or ids_N.ndim != 1 or vectors_ND.ndim != 2 or len(ids_N) != len(vectors_ND):
        got = f"{ids_N.dtype} {ids_N.shape} and {vectors_ND.shape}"
        raise ValueError(f"need int64 ids [N] and vectors [N, D], got {got}")
    if len(np.unique(ids_N)) != len(ids_N) or (ids_N < 0).any():
        raise ValueError("ids must be distinct and not negative; take them from the id table")
    lengths_N = np.sqrt(np.einsum("nd,nd->n", vectors_ND, vectors_ND, dtype=np.float64))
    # A zero vector is allowed: a text or image of which nothing is known.
    wrong_N = ~((np.abs(lengths_N - 1) < 1e-3) | (lengths_N == 0))
    if wrong_N.any():
        row = int(np.argmax(wrong_N))
        raise ValueError(f"id {ids_N[row]} has a vector of length {lengths_N[row]:.6g}; normalise first")
