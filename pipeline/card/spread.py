"""How unevenly something is spread: the Gini coefficient, what the first have, and a curve to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
POINTS = 21
"""Of the curve."""


def gini(amounts: Ints) -> float:
    """0 where all have the same, near 1 where one has all.

    >>> gini(np.array([5, 5])), gini(np.array([0, 0, 0, 8]))
    (0.0, 0.75)
    """
    total = int(amounts.sum())
    if not total:
        return 0.0
    ordered = np.sort(amounts)
    ranks = np.arange(1, len(ordered) + 1)
    return float(2 * (ranks * ordered).sum() / (len(ordered) * total) - (len(ordered) + 1) / len(ordered))


def top(amounts: Ints, count: int) -> float:
    """Share of the ``count`` that have most.

    >>> top(np.array([1, 7, 2]), 1)
    0.7
    """
    total = int(amounts.sum())
    return float(np.sort(amounts)[::-1][:count].sum() / total) if total else 0.0


def lorenz(amounts: Ints) -> list[float]:
    """Share of all that the lowest 0 %, 5 %, … 100 % have.

    >>> lorenz(np.array([1, 1, 1, 1]))[::5]
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if not len(amounts) or not amounts.sum():
        return []
    sums = np.concatenate([[0], np.cumsum(np.sort(amounts))]) / amounts.sum()
    places = np.linspace(0, len(amounts), POINTS)
    return [round(float(value), 6) for value in np.interp(places, np.arange(len(sums)), sums)]


def octaves(amounts: Ints) -> list[dict[str, Any]]:
    """How many have 1, 2 to 3, 4 to 7, and so on.

    >>> octaves(np.array([1, 3, 2, 9]))
    [{'from': 1, 'to': 1, 'count': 1}, {'from': 2, 'to': 3, 'count': 2}, {'from': 8, 'to': 15, 'count': 1}]
    """
    some = amounts[amounts > 0]
    exponents = np.frexp(some)[1] - 1
    return [
        {"from": 2**power, "to": 2 ** (power + 1) - 1, "count": int(count)}
        for power, count in enumerate(np.bincount(exponents).tolist() if len(some) else [])
        if count
    ]
