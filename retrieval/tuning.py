"""How many lists a query has to visit, by the recall that was measured: the number that accepts a segment.

The surprising rule: what is asked is never a member's own vector, which any list would find. Queries are what
searches will bring, the vectors of pictures and of captions alone, against documents that are their mean.

Legend: N vectors, B queries, K neighbors, D embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from infra.ending import GateRefused
from retrieval import recall, segments
from retrieval.families import part_of_one
from retrieval.index import Index
from retrieval.layouts import IndexConfig, Kind
from retrieval.segments import Effort, Floats, Ids, Segment

K = 10
QUERIES = 512
"""Enough to tell recalls apart by 0.01."""
SPARE = 0.01
"""That is asked for beside the target, since other queries find a little more or less."""
RERANKED, ALONE = (1, 2, 4, 8, 16, 32, 64), 5
"""Times as many candidates as are asked for that are judged by their vectors, and how many of these one
segment alone tries. Of several each is asked for its nearest, further off than the ten nearest of all.
"""
GAIN = 0.001
"""Of recall, by visiting twice the lists; with less the codes are what hides the rest."""
CANDIDATE_COST = 100.0
"""Of judging one by its vector, in vectors scanned by their codes: 0.69 us to 6.4 ns at 512 dimensions."""

_BLOCK_ROWS = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A segment and what is known of it."""

    segment: bytes
    kind: Kind
    lists: int
    effort: Effort
    recall_at_10: float
    """Against exact search; of one of several pieces, of its share of the ten nearest, rounded up."""
    queries: int
    resident: int
    """Bytes that are in memory; the others are mapped, and read where a candidate is judged."""

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "lists": self.lists,
            "probes": self.effort.probes,
            "reranked": self.effort.reranked,
            "recall_at_10": self.recall_at_10,
            "queries": self.queries,
            "bytes": len(self.segment),
            "resident": self.resident,
        }


def tuned(
    segment: bytes, queries_BD: Floats, config: IndexConfig, *, pieces: int = 1, threads: int = 1
) -> Built:
    """The segment, told to visit as few lists as reach ``config.recall`` for these queries. Raises
    :class:`GateRefused` where none does.

    As one of several ``pieces``, which are searched as one, it has to find its share of the nearest among
    its share of what is judged. Measured alone it would judge as many as all do together, and look too good.
    """
    opened = Index.open([segment], threads=threads)
    (one,) = opened.segments
    if one.kind == "flat" or not len(one.ids):
        return Built(
            segment=segment,
            kind=one.kind,
            lists=one.lists,
            effort=one.effort,
            recall_at_10=1.0,
            queries=0,
            resident=len(segment) - one.on_disk,
        )
    nearest = math.ceil(K / pieces)
    queries_BD = queries_BD[queries_BD.any(axis=1)]  # whoever asks nothing is as near to all
    exact_BK = exact(one, queries_BD, nearest, threads=threads)

    def search(effort: Effort) -> Ids:
        if pieces == 1:
            return opened.trying(effort).search(queries_BD, exact_BK.shape[1]).ids
        return part_of_one(one.trying(effort), queries_BD, K, pieces)

    effort, found = cheapest(one, search, exact_BK, config, pieces)
    if found < config.recall:
        raise GateRefused(
            f"retrieval.index: {one.kind} with {one.lists} lists, {effort.probes} of them visited, finds "
            f"{found:.3f} of the {nearest} nearest, asked {config.recall}; lower recall, raise probes, or "
            "choose kind = flat"
        )
    return Built(
        segment=segments.asking(segment, effort),
        kind=one.kind,
        lists=one.lists,
        effort=effort,
        recall_at_10=round(found, 4),
        queries=len(queries_BD),
        resident=len(segment) - one.on_disk,
    )


def cheapest(
    segment: Segment, search: Callable[[Effort], Ids], exact_BK: Ids, config: IndexConfig, pieces: int
) -> tuple[Effort, float]:
    """The effort that finds enough for the least work, or the greatest, and what it finds."""
    wanted = min(1.0, config.recall + SPARE)
    probes = [min(config.probes, segment.lists)] if config.probes else powers(segment.lists)
    judged = RERANKED if pieces > 1 else RERANKED[:ALONE]
    enough: list[tuple[float, Effort, float]] = []
    effort, found = Effort(probes=0), 0.0
    for reranked in judged if segment.kind == "ivf_pq" else judged[:1]:
        last = -1.0
        for effort in (Effort(probes=num, reranked=reranked) for num in probes):
            found = recall.recall(search(effort), exact_BK)
            if found >= wanted:
                enough.append((cost(segment, effort, pieces), effort, found))
            if found >= wanted or found - last < GAIN:
                break
            last = found
    if not enough:
        return effort, found
    _, effort, found = min(enough, key=lambda one: one[0])
    return effort, found


def cost(segment: Segment, effort: Effort, pieces: int) -> float:
    """In vectors scanned by their codes; several ``pieces`` judge together, so each has a share of that."""
    scanned = effort.probes * len(segment.ids) / segment.lists
    return scanned + effort.reranked * K * CANDIDATE_COST / pieces


def powers(most: int) -> list[int]:
    """1, 2, 4 … and ``most``.

    >>> powers(6)
    [1, 2, 4, 6]
    """
    return [*(1 << n for n in range(most.bit_length()) if 1 << n < most), most]


def exact(segment: Segment, queries_BD: Floats, k: int = K, *, threads: int = 1) -> Ids:
    """The k nearest of all that the segment stores [B, k], or all of them."""
    faiss.omp_set_num_threads(threads)
    best = faiss.ResultHeap(len(queries_BD), min(k, len(segment.ids)), keep_max=True)
    for at in range(0, len(segment.ids), _BLOCK_ROWS):
        rows_N = np.arange(at, min(at + _BLOCK_ROWS, len(segment.ids)))
        num = min(k, len(rows_N))
        scores_BK, found_BK = faiss.knn(queries_BD, segment.vectors(rows_N), num, faiss.METRIC_INNER_PRODUCT)
        best.add_result(scores_BK, rows_N[found_BK])
    best.finalize()
    return segment.ids[best.I]


def sampled(images_ND: Floats, texts_ND: Floats) -> Floats:
    """Vectors of pictures and of captions in turn, from all over the segment [B, D]."""
    rows = np.linspace(0, len(images_ND) - 1, min(QUERIES, len(images_ND))).astype(np.int64)
    return np.where((np.arange(len(rows)) % 2 == 0)[:, None], images_ND[rows], texts_ND[rows])
