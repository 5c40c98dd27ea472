"""Vectors like those of an encoder: clusters within clusters, each a flat disc; the same for one seed.

Real embeddings of pictures fill few of their dimensions: 200 themes of 100 clusters each, of Zipf's sizes,
whose members vary in 48 directions of 512 and, less, in all of them. Queries are drawn like members and are
none of them; those that settings are chosen by are others than those that are reported.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
WIDTH, THEMES, CLUSTERS, DIRECTIONS = 512, 200, 100, 48
SEED = 20_260_601
TUNING, REPORTED = 1, 2
"""Streams of queries; members are stream 0."""
_BLOCK_ROWS = 100_000


def unit(vectors_ND: NDArray[np.floating]) -> Floats:
    found: Floats = (vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)).astype(np.float32)
    return found


def drawn(num: int, stream: int) -> Floats:
    """``num`` vectors [num, 512] of unit length."""
    shape = np.random.default_rng(SEED)
    themes_TD = unit(shape.normal(size=(THEMES, WIDTH)))
    apart = unit(shape.normal(size=(THEMES * CLUSTERS, WIDTH)))
    centers_CD = unit(np.repeat(themes_TD, CLUSTERS, axis=0) + 0.8 * apart)
    directions = shape.normal(size=(THEMES, DIRECTIONS, WIDTH)).astype(np.float32) / WIDTH**0.5
    weights = 1 / np.arange(1, THEMES * CLUSTERS + 1) ** 0.6
    of_cluster = shape.permutation(THEMES * CLUSTERS)
    rng = np.random.default_rng([SEED, stream])
    found = np.empty((num, WIDTH), np.float32)
    for at in range(0, num, _BLOCK_ROWS):
        rows = min(_BLOCK_ROWS, num - at)
        cluster_N = of_cluster[rng.choice(len(weights), rows, p=weights / weights.sum())]
        block = centers_CD[cluster_N] + 0.25 * rng.normal(size=(rows, WIDTH)).astype(np.float32) / WIDTH**0.5
        along = 0.1 * rng.normal(size=(rows, DIRECTIONS)).astype(np.float32)
        for theme in np.unique(cluster_N // CLUSTERS):
            mine = cluster_N // CLUSTERS == theme
            block[mine] += along[mine] @ directions[theme]
        found[at : at + rows] = unit(block)
    return found


def stored(folder: Path, num: int) -> Path:
    """The members as a .npy file, made once."""
    path = folder / f"clustered-{num}.npy"
    if not path.exists():
        part = path.with_suffix(".part.npy")
        np.save(part, drawn(num, 0))
        part.rename(path)
    return path
