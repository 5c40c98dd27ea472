"""How a segment is made: fitted once on a sample, filled part by part wherever there is a worker, merged.

Legend: N vectors, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    check_members(ids_N, vectors_ND)
    order_N = np.argsort(ids_N)
    ids_N, vectors_ND = ids_N[order_N], np.ascontiguousarray(vectors_ND[order_N], np.float32)
    inner = parsed(trained if trained is not None else train(vectors_ND, config, threads=threads))
    if inner.ntotal or inner.d != vectors_ND.shape[1]:
        raise ValueError(f"trained holds {inner.ntotal} vectors of width {inner.d}; use what train() makes")
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexIDMap2(inner)
    for at in range(0, len(ids_N), _BLOCK_ROWS):
        index.add_with_ids(vectors_ND[at : at + _BLOCK_ROWS], ids_N[at : at + _BLOCK_ROWS])
    return bytes(faiss.serialize_index(index))


def merge(parts: Sequence[bytes]) -> bytes:
    """Parts that were built with the same ``trained``, as one segment, in their order."""
    whole, *others = map(parsed, parts)
    inner: Any = faiss.downcast_index(whole.index)
    ids = [faiss.vector_to_array(whole.id_map)]
    for other in others:
        ids.append(faiss.vector_to_array(other.id_map))
        part: Any = faiss.downcast_index(other.index)
        if isinstance(inner, faiss.IndexRefine):
            inner.base_index.merge_from(part.base_index, inner.base_index.ntotal)
            inner.refine_index.merge_from(part.refine_index)
            inner.ntotal = inner.base_index.ntotal
        else:
            inner.merge_from(part, 0 if isinstance(inner, faiss.IndexFlat) else inner.ntotal)
    faiss.copy_array_to_vector(np.concatenate(ids), whole.id_map)
    whole.ntotal = inner.ntotal
    return bytes(faiss.serialize_index(whole))


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
