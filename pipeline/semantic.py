"""Pairs of rows whose encoder features point the same way: SemDeDup, without comparing each with each.

Abbas et al., "SemDeDup: data-efficient learning at web-scale through semantic deduplication" (2023): vectors
are clustered by k-means and compared within clusters. Ours are looked up in the two nearest clusters, so that
a border between two parts few pairs. The surprising rule: clusters are those of the rows that had come when
their number last doubled, not of all; so a delivery that comes later changes no pair found before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.signatures import Rows

# N rows, D features, K clusters, P pairs
Vectors = NDArray[np.float32]

FEW = 8192
"""Up to so many rows each is compared with each: 8192 of 1664 features take 5 s of one core."""
CLUSTERS = 4
"""Times the square root of N."""
SAMPLE = 48
"""Rows a cluster from which k-means learns; FAISS warns under 39."""
ROUNDS = 6
"""Of k-means; with 20 the recall is the same."""
PROBES = 2
"""Clusters that a row is looked up in."""
SLACK = 1e-4
"""FAISS adds in float32 and in blocks: it proposes, and what it proposes is compared again in float64."""
BLOCK = 4096
"""Rows looked up, and pairs compared, at a time."""


def pairs(vectors_ND: Vectors, starts: Sequence[int], threshold: float) -> Rows:
    """(row, row before it) [P, 2] with a cosine of at least the threshold, sorted. Vectors have unit length;
    ``starts``: the first row of each delivery, then N.
    """
    found = [np.zeros((0, 2), np.int64)]
    index, num_fitted = None, 0
    for start, stop in pairwise(starts):
        if index is None or stop >= 2 * num_fitted:
            index, num_fitted = clustered(vectors_ND[:stop]), stop
        else:
            index.add(vectors_ND[start:stop])
        for first in range(start, stop, BLOCK):
            rows = slice(first, min(first + BLOCK, stop))
            limits, _, met = index.range_search(vectors_ND[rows], threshold - SLACK)
            looking = np.repeat(np.arange(rows.start, rows.stop), np.diff(limits.astype(np.int64)))
            found.append(_distinct(looking, met))
    pairs_P2 = np.unique(np.concatenate(found), axis=0)
    return pairs_P2[cosines(vectors_ND, pairs_P2) >= threshold]


def clustered(vectors_ND: Vectors) -> Any:
    """A FAISS index that holds the rows under their numbers."""
    num, width = vectors_ND.shape
    index: Any = faiss.IndexFlatIP(width)
    if num > FEW:
        index = faiss.IndexIVFFlat(index, width, int(CLUSTERS * num**0.5), faiss.METRIC_INNER_PRODUCT)
        index.cp.spherical, index.cp.niter, index.cp.seed = True, ROUNDS, 0
        index.cp.max_points_per_centroid = SAMPLE
        index.nprobe = PROBES
        index.train(vectors_ND)
    index.add(vectors_ND)
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


def _distinct(looking_P: Rows, met_P: Rows) -> Rows:
    pairs_P2 = np.stack([np.maximum(looking_P, met_P), np.minimum(looking_P, met_P)], 1)
    return np.unique(pairs_P2[looking_P != met_P], axis=0)
