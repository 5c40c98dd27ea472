"""How good a search is: approximate against exact, and pairs against chance. These numbers accept an index.

The surprising rule: a tie counts against the right answer, so that an encoder which maps everything to one
point scores nothing, not everything.

Legend: B queries, K neighbours, N pairs, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def recall(found_BK: NDArray[np.int64], exact_BK: NDArray[np.int64]) -> float:
    """Mean share of the exact K neighbours that were found, in [0, 1]; order within K is ignored.

    >>> recall(np.array([[3, 1, 9]]), np.array([[1, 2, 3]]))
    0.6666666666666666
    """
    if exact_BK.size == 0 or len(found_BK) != len(exact_BK):
        raise ValueError(
            f"need found and exact ids for the same queries, got {found_BK.shape}, {exact_BK.shape}"
        )
    hits_BK = (exact_BK[:, :, None] == found_BK[:, None, :]).any(axis=2)
    return float(hits_BK.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Text-to-image search where text i belongs to image i and to no other."""

    num_pairs: int
    recall_at: dict[int, float]
    median_rank: float
    """1 is best, (num_pairs + 1) / 2 is chance."""
    mean_reciprocal_rank: float

    def chance_at(self, k: int) -> float:
        """Recall at k of a random order."""
        return min(k, self.num_pairs) / self.num_pairs


# 1,024 queries against 100,000 images are 410 MB of scores.
_BLOCK_ROWS = 1024


def ranks(texts_ND: NDArray[np.float32], images_ND: NDArray[np.float32]) -> NDArray[np.int64]:
    """Place of image i among all images for text i, from 1, by inner product; ties count against it."""
    if texts_ND.shape != images_ND.shape or not len(texts_ND):
        raise ValueError(f"need one image a text in one space, got {texts_ND.shape} and {images_ND.shape}")
    found = []
    for start in range(0, len(texts_ND), _BLOCK_ROWS):
        scores_BN = texts_ND[start : start + _BLOCK_ROWS] @ images_ND.T
        rows_B = np.arange(len(scores_BN))
        own_B1 = scores_BN[rows_B, start + rows_B][:, None]
        found.append((scores_BN >= own_B1).sum(axis=1))
    return np.concatenate(found).astype(np.int64)


def paired(
    texts_ND: NDArray[np.float32], images_ND: NDArray[np.float32], *, at: Sequence[int] = (1, 10)
) -> Paired:
    """Judge normalised vectors of N held-out pairs."""
    ranks_N = ranks(texts_ND, images_ND)
    return Paired(
        num_pairs=len(ranks_N),
        recall_at={k: float((ranks_N <= k).mean()) for k in at},
        median_rank=float(np.median(ranks_N)),
        mean_reciprocal_rank=float((1.0 / ranks_N).mean()),
    )
