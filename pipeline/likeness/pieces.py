"""Which candidate pairs still have something to tell: of a series of copies, all pairs say the same.

Rows of one delivery that a pass has connected are one piece, and will be of one group. A pair within a piece
is not judged, nor is a pair of a row and a piece of another delivery that the row is linked to already. The
surprising rule: being alike is not transitive, and this is exact nevertheless. What is left out could only
repeat a connection (within a delivery) or a link of the row to the same group (across deliveries).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.likeness.grouping import connected
from pipeline.likeness.meetings import places
from pipeline.likeness.signatures import Rows

# N rows, P pairs (row, row before it), S slots
JOINED = -1
"""In ``part_N``: not of those that are still to be connected."""
JUDGED = "judged"
"""Counted: pairs that were compared."""
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Of multiplicative hashing (Knuth, The Art of Computer Programming, 6.4): 2^64 over the golden ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Filled in place, pair by pair."""

    parent_N: Rows
    """An earlier row of the same piece; itself for the first one."""
    part_N: Rows
    """Number of the delivery of each row; JOINED once it belongs to a group of an earlier one."""
    links_S: Rows
    """Links of a row to a piece, each in its slot until another one takes it: then a pair is judged again."""
    counts: Counter[str]

    @classmethod
    def after(cls, starts: Sequence[int], pairs_P2: Rows, counts: Counter[str]) -> Self:
        """What these pairs, of the passes before, leave to tell. ``starts``: of each delivery, then N."""
        num = starts[-1]
        part_N = np.repeat(np.arange(len(starts) - 1), [stop - start for start, stop in pairwise(starts)])
        across_P = part_N[pairs_P2[:, 0]] != part_N[pairs_P2[:, 1]]
        parent_N = connected(pairs_P2[~across_P], num)
        part_N[np.isin(parent_N, parent_N[pairs_P2[across_P, 0]])] = JOINED
        links_S = np.full(1 << (2 * num + 1024).bit_length(), -1)
        return cls(parent_N=parent_N, part_N=part_N, links_S=links_S, counts=counts)

    def judged(self, pairs_P2: Rows, alike: Callable[[Rows], NDArray[np.bool_]]) -> Rows:
        """Those that are alike and tell something. Each row is compared with one other, then with two more,
        four, eight: so most of a series is connected before it is looked at.
        """
        kept = [pairs_P2[:0]]
        pairs_P2, most = self._worth_judging(pairs_P2), 1
        pairs_P2 = pairs_P2[pairs_P2[:, 0].argsort(kind="stable")]
        while len(pairs_P2):
            now_P = places(pairs_P2[:, 0]) < most
            some_P2 = pairs_P2[now_P]
            self.counts[JUDGED] += len(some_P2)
            kept.append(self._told(some_P2[alike(some_P2)]))
            pairs_P2, most = self._worth_judging(pairs_P2[~now_P]), 2 * most
        return np.concatenate(kept)

    def worth_judging(self, late_P: Rows, early_P: Rows) -> NDArray[np.bool_]:
        late_root_P, early_root_P = self._roots(late_P), self._roots(early_P)
        worth_P: NDArray[np.bool_] = late_root_P != early_root_P
        across = np.flatnonzero(worth_P & self._across(late_P, early_P))
        links = self._links(late_P[across], early_root_P[across])
        worth_P[across] = self.links_S[self._slots(links)] != links
        return worth_P

    def _worth_judging(self, pairs_P2: Rows) -> Rows:
        return pairs_P2[self.worth_judging(*pairs_P2.T)]

    def _told(self, pairs_P2: Rows) -> Rows:
        """The first pair of each row and piece, which is then known."""
        links_P = self._links(pairs_P2[:, 0], self._roots(pairs_P2[:, 1]))
        links_P, first = np.unique(links_P, return_index=True)
        pairs_P2 = pairs_P2[first]
        across_P = self._across(*pairs_P2.T)
        self.links_S[self._slots(links_P[across_P])] = links_P[across_P]
        roots, within = np.unique(self._roots(pairs_P2[~across_P]), return_inverse=True)
        self.parent_N[roots] = roots[connected(within.reshape(-1, 2), len(roots))]
        return pairs_P2

    def _across(self, late_P: Rows, early_P: Rows) -> NDArray[np.bool_]:
        part_P = self.part_N[late_P]
        across_P: NDArray[np.bool_] = (part_P != self.part_N[early_P]) | (part_P == JOINED)
        return across_P

    def _roots(self, rows: Rows) -> Rows:
        roots = self.parent_N[rows]
        while not np.array_equal(roots, above := self.parent_N[roots]):
            roots = above
        self.parent_N[rows] = roots
        return roots

    def _links(self, late_P: Rows, root_P: Rows) -> Rows:
        return late_P * len(self.parent_N) + root_P

    def _slots(self, links_P: Rows) -> NDArray[np.uint64]:
        shift = np.uint64(65 - len(self.links_S).bit_length())
        slots_P: NDArray[np.uint64] = (links_P.astype(np.uint64) * SPREAD) >> shift
        return slots_P
