"""Segments whose lists were fitted once, searched as one.

A delivery of 340 million is 67 files with the same centroids. One by one each finds a query's lists anew, and
judges the best of its own by their vectors; as one the lists are found once, and judged are the best of all.
The surprising rule: scores by codes compare across segments, since they follow from the query, the centroids
and the codebooks, and these are the same.

Legend: S segments, B queries, P probed lists, C candidates, K neighbors, D embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import faiss
import numpy as np

from retrieval import judging
from retrieval.judging import Neighbors
from retrieval.segments import GATHERED, Bits, Floats, Ids, Segment, floats

_BLOCK_ROWS, _BLOCK_BYTES = 64, 128 << 20
"""Queries at a time, and what they may take: 576 candidates of 67 segments are 1.6 MB a query."""
_PROPOSAL_BYTES = 12
"""Score and place."""


def families(opened: Sequence[Segment]) -> tuple[tuple[int, ...], ...]:
    """Places of segments that are searched as one. Who has lists of its own, or is on a GPU, is alone."""
    places: dict[str, list[int]] = {}
    for place, segment in enumerate(opened):
        shared = segment.fitted if segment.gpu is None else ""
        places.setdefault(shared or f"alone {place}", []).append(place)
    return tuple(map(tuple, places.values()))


def one_by_one(opened: Sequence[Segment], queries_BD: Floats, k: int, among: Sequence[Bits]) -> Neighbors:
    """The best min(k, number of those allowed) of all segments, each asked by itself."""
    pairs = zip(opened, among, strict=True)
    found = judging.joined([judging.candidates(one, queries_BD, k, bits) for one, bits in pairs], axis=1)
    return judging.best(found.scores, found.ids, k)


def as_one(family: Sequence[Segment], queries_BD: Floats, k: int, among: Sequence[Bits]) -> Neighbors:
    """Nearly the same of a family, whose codes propose together. No query depends on the others."""
    allowed = sum(bits.count for bits in among)
    everybody = all(bits is one.alive for one, bits in zip(family, among, strict=True))
    if allowed == 0 or (allowed <= GATHERED and not everybody):
        return one_by_one(family, queries_BD, k, among)
    fetch = min(allowed, max(one.effort.reranked for one in family) * (k + judging.MARGIN))
    held = family[0].held(np.zeros(0, np.int64)).dtype.itemsize * family[0].width
    each = fetch * (_PROPOSAL_BYTES * len(family) + 2 * held)
    rows = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // each))
    blocks = [queries_BD[at : at + rows] for at in range(0, max(1, len(queries_BD)), rows)]
    return judging.joined([_block(family, one_BD, k, fetch, among) for one_BD in blocks], axis=0)


def part_of_one(segment: Segment, queries_BD: Floats, k: int, pieces: int) -> Ids:
    """What a segment answers as one of so many: of the best k of all, and of what is judged for them, it has
    its share [B, k / pieces], rounded up; -1 where the probed lists do not hold so much.
    """
    fetch = math.ceil(segment.effort.reranked * (k + judging.MARGIN) / pieces)
    share = math.ceil(k / pieces)
    among = [segment.alive]
    found = []
    for at in range(0, len(queries_BD), _BLOCK_ROWS):
        some_BD = queries_BD[at : at + _BLOCK_ROWS]
        _, at_BC = _proposed([segment], some_BD, min(fetch, segment.alive.count), among)
        ids_BC, scores_BC = _judged([segment], some_BD, at_BC)
        found.append(judging.best(scores_BC, np.where(at_BC < 0, -1, ids_BC), share).ids)
    return np.concatenate(found)


def _block(
    family: Sequence[Segment], queries_BD: Floats, k: int, fetch: int, among: Sequence[Bits]
) -> Neighbors:
    rough_BC, at_BC = _proposed(family, queries_BD, fetch, among)
    ids_BC, scores_BC = _judged(family, queries_BD, at_BC)
    order_BK = np.lexsort((ids_BC, -scores_BC), axis=1)[:, :k]
    scores_BK = np.take_along_axis(scores_BC, order_BK, axis=1)
    ids_BK = np.take_along_axis(ids_BC, order_BK, axis=1)
    # Too few in the probed lists, or as near by its codes as what was cut off: as each segment answers alone.
    unsure_B = (at_BC[:, : k + judging.MARGIN] < 0).any(axis=1)
    if fetch < sum(bits.count for bits in among):
        last_B = np.take_along_axis(rough_BC, order_BK[:, -1:], axis=1)[:, 0]
        unsure_B |= (at_BC[:, -1] >= 0) & (last_B - rough_BC[:, -1] <= judging.TIE)
    if unsure_B.any():
        alone = one_by_one(family, queries_BD[unsure_B], k, among)
        scores_BK[unsure_B], ids_BK[unsure_B] = alone.scores, alone.ids
    return Neighbors(scores=scores_BK, ids=ids_BK)


def _proposed(
    family: Sequence[Segment], queries_BD: Floats, fetch: int, among: Sequence[Bits]
) -> tuple[Floats, Ids]:
    """By their codes the best of all [B, C], and their places in the family, one segment's after the other's;
    -1 where the probed lists hold no more.
    """
    share = sum(bits.count for bits in among) / sum(len(one.ids) for one in family)
    # The rarer the allowed are, the more lists are visited.
    probes = min(family[0].lists, math.ceil(max(one.effort.probes for one in family) / share))
    nearest_BP, lists_BP = family[0].coarse.search(queries_BD, probes)
    rough_SBC = np.empty((len(family), len(queries_BD), fetch), np.float32)
    at_SBC = np.empty(rough_SBC.shape, np.int64)
    first = 0
    for place, (one, bits) in enumerate(zip(family, among, strict=True)):
        one.visited(queries_BD, (nearest_BP, lists_BP), bits, (rough_SBC[place], at_SBC[place]))
        at_SBC[place] += np.where(at_SBC[place] < 0, 0, first)
        first += len(one.ids)
    return faiss.merge_knn_results(rough_SBC, at_SBC, keep_max=True)


def _judged(family: Sequence[Segment], queries_BD: Floats, at_BC: Ids) -> tuple[Ids, Floats]:
    """Ids [B, C] and scores [B, C] of places in the family; of -1 zero, and less than any score."""
    dtype = family[0].held(np.zeros(0, np.int64)).dtype
    ids_BC = np.zeros(at_BC.shape, np.int64)
    vectors_BCD = np.zeros((*at_BC.shape, family[0].width), dtype)
    first = 0
    for one in family:
        mine = np.nonzero((at_BC >= first) & (at_BC < first + len(one.ids)))
        at_N = at_BC[mine] - first
        ids_BC[mine], vectors_BCD[mine] = one.ids[at_N], one.held(at_N)
        first += len(one.ids)
    scores_BC = np.empty(at_BC.shape, np.float32)
    for row in range(len(queries_BD)):  # what one query needs stays in the cache: a sixth of the time
        one_1CD = floats(vectors_BCD[row : row + 1])
        scores_BC[row] = judging.inner_products(queries_BD[row : row + 1], one_1CD)
    return ids_BC, np.where(at_BC < 0, np.float32(-np.inf), scores_BC)
