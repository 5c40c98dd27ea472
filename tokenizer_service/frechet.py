"""Fréchet distances between what a network sees in two sets of pictures, from running moments.

Surprising rule: a distance is only comparable with others of the same network and about as many pictures.
That of EfficientNet-Lite0 is called FD-EffNet and never FID, which is the name of one Inception's. Of fewer
pictures than features it comes out too large, and has to be told with their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# N rows, D features, R rank


@dataclass(slots=True)
class Moments:
    """Mean and covariance of the rows seen so far: D x D numbers, however many rows there were."""

    count: int
    mean_D: NDArray[np.float64]
    scatter_DD: NDArray[np.float64]
    """Sum of the products of deviations from the mean."""

    @staticmethod
    def of(rows_ND: NDArray[np.floating]) -> Moments:
        moments = empty(rows_ND.shape[1])
        moments.add(rows_ND)
        return moments

    def add(self, rows_ND: NDArray[np.floating]) -> None:
        """Chan, Golub and LeVeque (1979): no large sums are subtracted from each other."""
        if not len(rows_ND):
            return
        rows = rows_ND.astype(np.float64)
        mean_D, total = rows.mean(axis=0), self.count + len(rows)
        apart_D, centered_ND = mean_D - self.mean_D, rows - mean_D
        between = self.count * len(rows) / total
        self.scatter_DD += centered_ND.T @ centered_ND + between * np.outer(apart_D, apart_D)
        self.mean_D = self.mean_D + apart_D * (len(rows) / total)
        self.count = total


def empty(features: int) -> Moments:
    return Moments(0, np.zeros(features), np.zeros((features, features)))


def distance(first: Moments, second: Moments) -> float:
    """Squared Fréchet distance of the two Gaussians (Heusel et al., arXiv 1706.08500).

    tr (A B)^1/2 of two covariances A = X'X and B = Y'Y is the sum of the singular values of X Y', which is
    exact for fewer rows than features as well.
    """
    if first.mean_D.shape != second.mean_D.shape or min(first.count, second.count) < 2:
        raise ValueError(
            "two sets of at least 2 equal vectors, got "
            f"{first.count} of {len(first.mean_D)}, {second.count} of {len(second.mean_D)}"
        )
    x_RD, y_RD = _root(first), _root(second)
    cross = np.linalg.svd(x_RD @ y_RD.T, compute_uv=False).sum()
    means = np.square(first.mean_D - second.mean_D).sum()
    return max(0.0, float(means + np.square(x_RD).sum() + np.square(y_RD).sum() - 2 * cross))


def _root(moments: Moments) -> NDArray[np.float64]:
    """X with X'X the covariance, without the directions in which nothing varies."""
    values_D, vectors_DD = np.linalg.eigh(moments.scatter_DD / (moments.count - 1))
    seen_D = values_D > np.finfo(np.float64).eps * len(values_D) * max(values_D[-1], 0.0)
    root: NDArray[np.float64] = np.sqrt(values_D[seen_D])[:, None] * vectors_DD[:, seen_D].T
    return root
