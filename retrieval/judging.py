"""What FAISS proposes, judged: by stored vectors, in float64.

Every candidate is scored again, ties go to the smaller id: a score depends on no batch, thread or GPU.

Legend: N vectors, B queries, K neighbors, C candidates, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval import segments
from retrieval.segments import Bits, Floats, Ids, Segment

MARGIN = 16
"""What is fetched beyond K, and doubled while a tie may reach over the edge."""
TIE = 1e-5
"""FAISS's float32 inner products of unit vectors were within 4e-7 of float64 at 512 dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbors:
    """Best first; equal scores by id. Both are [B, K], without padding: K is what could be answered."""

    scores: Floats
    """Inner products; cosines where both sides have unit length."""
    ids: Ids


def candidates(segment: Segment, queries_BD: Floats, k: int, among: Bits) -> Neighbors:
    """The best min(k, number of those allowed), scored, best first. No query depends on the others."""
    fetch = min(k + MARGIN, among.count)
    rough_BC, at_BC = segment.fetched(queries_BD, fetch, among)
    found = scored(segment, queries_BD, at_BC, k)
    if fetch < (most := min(among.count, segments.MAX_FETCH)):
        for row in np.flatnonzero(rough_BC[:, k - 1] - rough_BC[:, -1] <= TIE).tolist():
            wider = untied(segment, queries_BD[row : row + 1], k, among, most)
            found.scores[row], found.ids[row] = wider.scores[0], wider.ids[0]
    return found


def untied(segment: Segment, query_1D: Floats, k: int, among: Bits, most: int) -> Neighbors:
    """Of one query, with twice as many fetched until none that is left out may be as near as the k-th."""
    fetch = k + MARGIN
    while True:
        fetch = min(2 * fetch, among.count)
        rough_1C, at_1C = segment.fetched(query_1D, fetch, among)
        if fetch >= most or rough_1C[0, k - 1] - rough_1C[0, -1] > TIE:
            return scored(segment, query_1D, at_1C, k)


def scored(segment: Segment, queries_BD: Floats, at_BC: Ids, k: int) -> Neighbors:
    vectors_BCD = segment.vectors(at_BC.ravel()).reshape(*at_BC.shape, segment.width)
    return best(inner_products(queries_BD, vectors_BCD), segment.ids[at_BC], k)


def best(scores_BC: Floats, ids_BC: Ids, k: int) -> Neighbors:
    order_BK = np.lexsort((ids_BC, -scores_BC), axis=1)[:, :k]
    return Neighbors(
        scores=np.take_along_axis(scores_BC, order_BK, axis=1),
        ids=np.take_along_axis(ids_BC, order_BK, axis=1),
    )


def inner_products(queries_BD: Floats, vectors_BCD: Floats) -> Floats:
    """Summed in float64, so that a pair scores the same in every company [B, C]."""
    found_BC: Floats = np.einsum("bd,bcd->bc", queries_BD, vectors_BCD, dtype=np.float64).astype(np.float32)
    return found_BC


def joined(parts: Sequence[Neighbors], *, axis: int) -> Neighbors:
    return Neighbors(
        scores=np.concatenate([part.scores for part in parts], axis=axis),
        ids=np.concatenate([part.ids for part in parts], axis=axis),
    )
