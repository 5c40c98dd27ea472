"""Pairs of rows whose encoder features point the same way: SemDeDup, without comparing each with each.

Abbas et al., "SemDeDup: data-efficient learning at web-scale through semantic deduplication" (2023): vectors
are clustered by k-means and compared within clusters. Ours look into the three nearest clusters, so that a
border between two parts few pairs. The surprising rule: clusters are those of the rows that had come when
their number last doubled, not of all; so a delivery that comes later changes no pair found before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.likeness.pieces import Pieces
from pipeline.likeness.signatures import Rows

# N rows, D features, P pairs, E rows entered in the index
Vectors = NDArray[np.float32]

FEW = 8192
"""Up to so many rows each is compared with each: 8192 of 1664 features take 5 s of one core."""
CLUSTERS = 4
"""Times the square root of N."""
SAMPLE = 48
"""Rows a cluster from which k-means learns; FAISS warns under 39."""
ROUNDS = 6
"""Of k-means; with 20 the recall is the same."""
PROBES = 3
"""Clusters that a row looks into."""
MOST = 64
"""Rows like it before a row, from which on the row is not entered in the index: what comes later finds the
64. So a search for one of a series of any length has some hundred results, and not as many as it has rows."""
LEFT_OUT = "not entered"
"""Counted: such rows."""
SLACK = 1e-4
"""FAISS adds in float32 and in blocks: it proposes, and what it proposes is compared again in float64."""
BLOCK = 512
"""Rows that look, and pairs compared, at a time."""


def pairs(
    vectors_ND: Vectors,
    starts: Sequence[int],
    threshold: float,
    *,
    pieces: Pieces | None = None,
    few: int = FEW,
) -> Rows:
    """(row, row before it) [P, 2] with a cosine of at least the threshold, sorted; of them those that tell
    something (see ``pieces``). Vectors have unit length; ``starts``: the first row of each delivery, then N;
    ``pieces``: what is connected already.
    """
    pieces = Pieces.after(starts, np.zeros((0, 2), np.int64), Counter()) if pieces is None else pieces
    found, entered_E = [np.zeros((0, 2), np.int64)], np.zeros(0, np.int64)
    index, num_fitted = None, 0
    for start, stop in pairwise(starts):
        if index is None or stop >= 2 * num_fitted:
            index, num_fitted = clustered(vectors_ND[:stop], entered_E, few), stop
        for first in range(start, stop, BLOCK):
            rows = np.arange(first, min(first + BLOCK, stop))
            pairs_P2 = _before(vectors_ND, rows, index, entered_E, threshold)
            found.append(pieces.judged(pairs_P2, lambda some_P2: np.ones(len(some_P2), np.bool_)))
            is_new = np.bincount(pairs_P2[:, 0] - first, minlength=len(rows)) < MOST
            pieces.counts[LEFT_OUT] += int((~is_new).sum())
            index.add(vectors_ND[rows[is_new]])
            entered_E = np.concatenate([entered_E, rows[is_new]])
    return np.unique(np.concatenate(found), axis=0)


def _before(vectors_ND: Vectors, rows: Rows, index: Any, entered_E: Rows, threshold: float) -> Rows:
    """(one of the rows, row before it that is like it) [P, 2], sorted."""
    looking_ND = vectors_ND[rows]
    limits, _, met = index.range_search(looking_ND, threshold - SLACK)
    late_P, early_P = np.nonzero(np.tril(looking_ND @ looking_ND.T >= threshold - SLACK, -1))
    earlier = np.stack([np.repeat(rows, np.diff(limits.astype(np.int64))), entered_E[met]], 1)
    pairs_P2 = np.unique(np.concatenate([earlier, np.stack([rows[late_P], rows[early_P]], 1)]), axis=0)
    return pairs_P2[cosines(vectors_ND, pairs_P2) >= threshold]


def clustered(vectors_ND: Vectors, entered_E: Rows, few: int) -> Any:
    """A FAISS index fitted to the rows, that holds those which were entered."""
    num, width = vectors_ND.shape
    index: Any = faiss.IndexFlatIP(width)
    if num > few:
        index = faiss.IndexIVFFlat(index, width, int(CLUSTERS * num**0.5), faiss.METRIC_INNER_PRODUCT)
        index.cp.spherical, index.cp.niter, index.cp.seed = True, ROUNDS, 0
        index.cp.max_points_per_centroid = SAMPLE
        index.nprobe = PROBES
        index.train(vectors_ND)
    for first in range(0, len(entered_E), BLOCK):
        index.add(vectors_ND[entered_E[first : first + BLOCK]])
    return index


def cosines(vectors_ND: Vectors, pairs_P2: Rows) -> NDArray[np.float64]:
    """Of the rows of each pair; the same alone and among others."""
    found_P = np.zeros(len(pairs_P2))
    for start in range(0, len(pairs_P2), BLOCK):
        left_PD, right_PD = (
            vectors_ND[rows_P].astype(np.float64) for rows_P in pairs_P2[start : start + BLOCK].T
        )
        found_P[start : start + BLOCK] = (left_PD * right_PD).sum(1)
    return found_P
