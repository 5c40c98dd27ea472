"""Duplicate groups: what pairs connect, grown delivery by delivery.

Rows stand in the order in which they were first seen, by delivery and then by uid, so nothing depends on how
a delivery was cut into shards. The surprising rule: components are connected within a delivery only. What a
later one brings joins a group that is there, and never makes two of them one: the asset that was kept stays,
and so does its side of the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from pipeline.likeness.signatures import Rows

# N rows, P pairs; in one delivery: n rows
KEEPER = -1
"""In ``pass_N``: the row that the others are compared with."""
NOTHING = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Filled in place, delivery by delivery."""

    first_N: Rows
    """The first-seen row of each row's group."""
    keeper_N: Rows
    """The row of its group that stays."""
    pass_N: Rows
    """Number of the pass that makes it one with its keeper; KEEPER for the keeper itself."""

    @classmethod
    def alone(cls, num: int) -> Self:
        return cls(first_N=np.arange(num), keeper_N=np.arange(num), pass_N=np.full(num, KEEPER))


def grouped(starts: Sequence[int], passes: Sequence[Rows], rank_N: Rows) -> Groups:
    """``starts``: the first row of each delivery, then N. ``passes``: (row, row before it) [P, 2] by row, the
    surest first. ``rank_N``: the least of a group stays.

    A newcomer that is linked to several earlier groups joins by the surest pass, then the first-seen group.
    """
    groups = Groups.alone(starts[-1])
    for start, stop in pairwise(starts):
        after = []
        for number, pairs_P2 in enumerate(passes):
            own_P2 = pairs_P2[slice(*np.searchsorted(pairs_P2[:, 0], (start, stop)))]
            _connect(groups, own_P2, slice(start, stop))
            _join(groups, own_P2, slice(start, stop), number)
            after.append(groups.first_N[start:stop].copy())
        _choose(groups, slice(start, stop), rank_N, after)
    return groups


def linked_elsewhere(groups: Groups, passes: Sequence[Rows]) -> Rows:
    """(row, first-seen row of a group that it is linked to and does not belong to) [P, 2], sorted."""
    pairs_P2 = np.concatenate([np.zeros((0, 2), np.int64), *passes])
    late_P, early_P = pairs_P2.T
    apart = np.stack([late_P, groups.first_N[early_P]], 1)
    return np.unique(apart[groups.first_N[late_P] != apart[:, 1]], axis=0)


def connected(pairs_P2: Rows, num: int) -> Rows:
    """The least row that each of ``num`` rows is connected with. At most log2(num) rounds.

    >>> connected(np.array([[3, 1], [4, 3]]), 5)
    array([0, 1, 2, 1, 1])
    """
    least = np.arange(num)
    while len(pairs_P2):
        ends_P2 = least[pairs_P2]
        for side in (0, 1):
            np.minimum.at(least, ends_P2[:, side], ends_P2.min(1))
        while not np.array_equal(least, least[least]):
            least = least[least]
        pairs_P2 = pairs_P2[least[pairs_P2[:, 0]] != least[pairs_P2[:, 1]]]
    return least


def _connect(groups: Groups, pairs_P2: Rows, own: slice) -> None:
    """Newcomers that no earlier group has taken, with each other."""
    first_n = groups.first_N[own]
    ends_P2 = groups.first_N[pairs_P2] - own.start
    least_n = connected(ends_P2[(ends_P2 >= 0).all(1)], len(first_n)) + own.start
    free_n = first_n >= own.start
    first_n[free_n] = least_n[first_n[free_n] - own.start]


def _join(groups: Groups, pairs_P2: Rows, own: slice, number: int) -> None:
    """Newcomers to the first-seen earlier group that they are linked to."""
    first_n, pass_n = groups.first_N[own], groups.pass_N[own]
    is_old_P2 = groups.first_N[pairs_P2] < own.start
    across_P = is_old_P2.any(1) & ~is_old_P2.all(1)
    pairs_P2, is_old_P2 = pairs_P2[across_P], is_old_P2[across_P]
    new_P, old_P = groups.first_N[pairs_P2[~is_old_P2]] - own.start, pairs_P2[is_old_P2]
    target_n, least_n = np.full((2, len(first_n)), NOTHING)
    np.minimum.at(target_n, new_P, groups.first_N[old_P])
    chosen_P = target_n[new_P] == groups.first_N[old_P]
    # What repeats the bytes of a near duplicate is a near duplicate of the keeper.
    np.minimum.at(least_n, new_P[chosen_P], np.maximum(groups.pass_N[old_P[chosen_P]], number))
    free = np.flatnonzero(first_n >= own.start)
    joins = free[target_n[first_n[free] - own.start] != NOTHING]
    heads = first_n[joins] - own.start
    first_n[joins], pass_n[joins] = target_n[heads], least_n[heads]


def _choose(groups: Groups, own: slice, rank_N: Rows, after: Sequence[Rows]) -> None:
    """The keeper of each new group, and the pass in which each member met it; of what has joined an earlier
    one, its keeper.
    """
    first_n = groups.first_N[own]
    order = np.lexsort((rank_N[own], first_n))
    heads, at = np.unique(first_n[order], return_index=True)
    keeper_n = order[at][np.searchsorted(heads, first_n)]
    new_n = first_n >= own.start
    groups.keeper_N[own] = np.where(new_n, keeper_n + own.start, groups.keeper_N[first_n])
    met_n = np.stack([labels_n == labels_n[keeper_n] for labels_n in after]).argmax(0)
    met_n[keeper_n == np.arange(len(first_n))] = KEEPER
    groups.pass_N[own] = np.where(new_n, met_n, groups.pass_N[own])
