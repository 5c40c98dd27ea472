"""A Merkle tree over sorted uids, as in RFC 6962 section 2.1, and proofs that a uid is not among them.

The surprising rule: a proof shows that two uids stand side by side in the tree with that root. That the tree
is sorted, and holds all that an artifact holds, is what `pardalis verify` saw when it read the files.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Sequence
from typing import Any

LEAF, NODE = b"\0", b"\1"
"""Stand before what is hashed, so that no node can be taken for a leaf."""
EMPTY = hashlib.sha256(b"").hexdigest()


def leaf_hash(uid: str) -> bytes:
    return hashlib.sha256(LEAF + uid.encode("utf-8", "surrogatepass")).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(NODE + left + right).digest()


class Tree:
    """Of uids, whatever their order; 32 bytes a node."""

    def __init__(self, uids: Sequence[str] | set[str]) -> None:
        self.uids = sorted(set(uids))
        level = [leaf_hash(uid) for uid in self.uids]
        self._levels = [level]
        while len(level) > 1:
            pairs = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
            level = pairs + ([level[-1]] if len(level) % 2 else [])
            self._levels.append(level)

    @property
    def root(self) -> str:
        return self._levels[-1][0].hex() if self.uids else EMPTY

    def path(self, index: int) -> list[str]:
        """The sibling hashes from a leaf up to the root."""
        found = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                found.append(level[sibling].hex())
            index >>= 1
        return found

    def absence(self, uid: str) -> dict[str, Any] | None:
        """The proof, as JSON: size, and the leaves before and after, with paths. None if the uid is there."""
        at = bisect.bisect_left(self.uids, uid)
        if at < len(self.uids) and self.uids[at] == uid:
            return None
        sides = {"before": at - 1 if at else None, "after": at if at < len(self.uids) else None}
        leaves = {
            side: None
            if index is None
            else {"uid": self.uids[index], "index": index, "path": self.path(index)}
            for side, index in sides.items()
        }
        return {"uid": uid, "size": len(self.uids), **leaves}


def is_included(uid: str, index: int, size: int, path: Sequence[str], root: str) -> bool:
    """RFC 9162 section 2.1.3.2, by itself: needs no tree."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf_hash(uid)
    for told in path:
        sibling = bytes.fromhex(told)
        if last == 0 or len(sibling) != len(found):
            return False
        if place % 2 or place == last:
            found = node_hash(sibling, found)
            while place and not place % 2:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and found.hex() == root


def is_absent(proof: dict[str, Any], uid: str, root: str) -> bool:
    """Whether a proof of :meth:`Tree.absence` shows that ``uid`` is not among the leaves of ``root``."""
    size, before, after = proof["size"], proof["before"], proof["after"]
    if size == 0:
        return bool(root == EMPTY and before is None and after is None)
    for leaf in (before, after):
        if leaf is not None and not is_included(leaf["uid"], leaf["index"], size, leaf["path"], root):
            return False
    if before is None:
        return bool(after is not None and after["index"] == 0 and uid < after["uid"])
    if after is None:
        return bool(before["index"] == size - 1 and before["uid"] < uid)
    return bool(after["index"] == before["index"] + 1 and before["uid"] < uid < after["uid"])
