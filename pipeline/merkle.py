"""A Merkle tree over sorted uids (RFC 6962, section 2.1): one hash for a set, and short proofs of who is not
in it.

The surprising rule: a leaf is hashed with 0x00 before it and a node with 0x01, so that no node can be passed
off as a leaf. Absence is shown by the two neighbors that stand side by side where the uid would be.
Uids sort by their UTF-8 bytes. Paths go from the leaf to the root. All hashes are hex outside of this module.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

EMPTY = hashlib.sha256().hexdigest()
"""The root of nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    uid: str
    index: int
    path: tuple[str, ...]
    """The siblings, from the leaf up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """The members around the place of ``uid``; None where it would stand first, or last."""

    uid: str
    size: int
    """Members of the tree."""
    before: Inclusion | None
    after: Inclusion | None


class Tree:
    """Of a set of uids; 65 bytes and 2 us a uid and level."""

    def __init__(self, uids: Iterable[str]) -> None:
        self.uids = sorted(set(uids))
        self._levels = [[_leaf(uid) for uid in self.uids]]
        while len(self._levels[-1]) > 1:
            level = self._levels[-1]
            pairs = [_node(*level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
            self._levels.append(pairs + level[len(level) & ~1 :])  # the odd one goes up as it is

    @property
    def root(self) -> str:
        return self._levels[-1][0].hex() if self.uids else EMPTY

    def inclusion(self, uid: str) -> Inclusion:
        """ValueError if it is not in the tree."""
        index = bisect.bisect_left(self.uids, uid)
        if self.uids[index : index + 1] != [uid]:
            raise ValueError(f"{uid!r} is not among the {len(self.uids)} uids of the tree")
        return self._at(index)

    def absence(self, uid: str) -> Absence:
        """ValueError if it is in the tree."""
        index = bisect.bisect_left(self.uids, uid)
        if self.uids[index : index + 1] == [uid]:
            raise ValueError(f"{uid!r} is in the tree, as number {index}")
        return Absence(
            uid=uid,
            size=len(self.uids),
            before=self._at(index - 1) if index else None,
            after=self._at(index) if index < len(self.uids) else None,
        )

    def _at(self, index: int) -> Inclusion:
        siblings = ((level, index >> height ^ 1) for height, level in enumerate(self._levels[:-1]))
        path = tuple(level[at].hex() for level, at in siblings if at < len(level))
        return Inclusion(uid=self.uids[index], index=index, path=path)


def is_in(root: str, size: int, found: Inclusion) -> bool:
    """Whether the path leads from the uid to the root of a tree of so many."""
    turns = list(_turns(found.index, size)) if 0 <= found.index < size else [None]
    if len(turns) != len(found.path):
        return False
    hashed = _leaf(found.uid)
    for is_right, sibling in zip(turns, map(bytes.fromhex, found.path), strict=True):
        hashed = _node(sibling, hashed) if is_right else _node(hashed, sibling)
    return hashed.hex() == root


def is_absent(root: str, proof: Absence) -> bool:
    """Whether the proof shows that the uid is not in the tree of that root.

    A wrong size does not help a liar: the turns of a path are those of the leaf's place in the true tree.
    """
    before, after, size = proof.before, proof.after, proof.size
    if before is None and after is None:
        return size == 0 and root == EMPTY
    index = 0 if before is None else before.index + 1
    stands = index == size if after is None else index == after.index
    around = [one for one in (before, after) if one is not None]
    sorts = (before is None or before.uid < proof.uid) and (after is None or proof.uid < after.uid)
    return stands and sorts and all(is_in(root, size, one) for one in around)


def _turns(index: int, size: int) -> Iterator[bool]:
    """From the leaf up, at each node that has two children, whether it comes from the right."""
    for height in itertools.count():
        width = -(-size >> height)
        if width <= 1:
            return
        at = index >> height
        if at % 2 or at + 1 < width:
            yield bool(at % 2)


def _leaf(uid: str) -> bytes:
    return hashlib.sha256(b"\0" + uid.encode()).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
