"""From what was found to what is a leak: shared words and ids given anew are none.

The surprising rule: what an asset that came after the evidence was gathered has too is told, and is no leak;
what turns up in a row of one that was there before is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from pipeline.verify import files, merkle, naming
from pipeline.verify.evidence import Item
from pipeline.verify.files import File, Read
from pipeline.verify.finds import Hit
from pipeline.verify.formats import BUDGET
from pipeline.verify.needles import of as needles_of
from pipeline.verify.search import MOST_ALIKE, Search, signed

ALLOWED = ("registers/revocations/", "registers/erased/", "audit/", "receipts/")
ALLOWED_FILES = ("audit.jsonl", "receipts.jsonl")
"""Where what was taken back may be named: so that it is refused if it comes again, and proved to be gone."""
CONTENT = frozenset({"text", "codes", "vector", "blob", "integer", "digest"})
WHAT = {
    "id": "its name",
    "digest": "its sha256",
    "text": "its words",
    "blob": "a piece of its picture or of what was measured of it",
    "codes": "a run of its codes",
    "vector": "its vector",
    "integer": "its perceptual hash",
    "index_id": "its id in the index",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    file: str
    place: str
    uid: str
    kind: str
    what: str


@dataclass(slots=True, kw_only=True)
class Verdict:
    leaks: list[Leak] = field(default_factory=list)
    untold: int = 0
    """More finds of the same things in the same files, beyond :data:`MOST_ALIKE` each."""
    unread: list[tuple[str, str]] = field(default_factory=list)
    allowed: dict[str, int] = field(default_factory=dict)
    """Finds in the places where they may be."""
    shared_with: dict[str, set[str]] = field(default_factory=dict)
    """Revoked uid to assets that came later and have something of it."""
    artifacts: dict[str, merkle.Tree] = field(default_factory=dict)
    num_files: int = 0
    num_bytes: int = 0

    @property
    def passed(self) -> bool:
        return not self.leaks and not self.unread


def make_search(items: Sequence[Item]) -> Search:
    return Search(items)


def judge(listed: Sequence[File], items: Sequence[Item], *, workers: int, budget: int = BUDGET) -> Verdict:
    verdict = Verdict(num_files=len(listed), num_bytes=sum(file.size for file in listed))
    reads: list[Read] = []
    claims: dict[int, set[str]] = {}
    uids: dict[str, set[str]] = {}
    for read in files.read_all(listed, make_search, items, workers=workers, title="verify", budget=budget):
        if read.unread:
            verdict.unread.append((read.file.name, read.unread))
        if read.found is not None:
            uids.setdefault(read.file.kind, set()).update(read.found.uids)
            for number, owners in read.found.claims.items():
                claims.setdefault(number, set()).update(owners)
            if read.found.hits or read.found.wrong:
                reads.append(read)
    verdict.artifacts = {kind: merkle.Tree(found) for kind, found in sorted(uids.items()) if found}
    excused = _Excused(items, claims, reads, verdict)
    for read in sorted(reads, key=lambda read: read.file.name):
        _judge_file(read, items, excused, verdict)
    verdict.unread.sort()
    return verdict


class _Excused:
    """Which finds are no leaks."""

    def __init__(
        self, items: Sequence[Item], claims: dict[int, set[str]], reads: Sequence[Read], verdict: Verdict
    ) -> None:
        self._items, self._claims = items, claims
        self._revoked = {item.uid for item in items if item.kind == "id"}
        stay = [item for item in items if item.kind == "survivors"]
        self._known = None if not stay else Search(stay).others
        self._rows = {
            item.note: np.frombuffer(item.value, np.uint64) for item in items if item.kind == "rows"
        }
        self._new: set[tuple[int, int]] = set()
        for read in reads:
            for hit in read.found.hits:
                item, owner = items[hit.item], self._owner(hit)
                if item.kind in CONTENT and not hit.is_near and self._is_new(owner, item, read.file.kind):
                    self._new.add(self._what(hit))
                    verdict.shared_with.setdefault(item.uid, set()).add(owner)

    def _owner(self, hit: Hit) -> str:
        """Of a vector of the index whoever all tables say has its id."""
        claims = self._claims.get(hit.index_id, set())
        return hit.owner or (next(iter(claims)) if len(claims) == 1 else "")

    def _is_new(self, owner: str, item: Item, kind: str) -> bool:
        """Whether an asset came after the evidence was gathered, or what was computed of it did, as of a
        duplicate that takes the place of one that went. Without evidence nobody knows.
        """
        if not owner or self._known is None or owner in self._revoked:
            return False
        if not naming.is_among(self._known, owner):
            return True
        rows = self._rows.get(kind)
        return is_computed(item) and rows is not None and not naming.is_among(rows, owner)

    def _what(self, hit: Hit) -> tuple[int, int]:
        """Of codes each run by itself: that one is shared says nothing of the others."""
        return hit.item, hit.sub if self._items[hit.item].kind == "codes" else 0

    def __call__(self, hit: Hit) -> bool:
        item = self._items[hit.item]
        if item.kind == "index_id":  # an id that another asset has by now is that asset's
            number = signed(item)
            return any(owner and owner != item.uid for owner in self._claims.get(number, ()))
        return self._what(hit) in self._new


def is_computed(item: Item) -> bool:
    """Of numbers that pictures which are alike have in common, and not of words or bytes."""
    return item.kind in ("codes", "vector") or (item.kind == "blob" and item.note == "vector")


def _judge_file(read: Read, items: Sequence[Item], excused: _Excused, verdict: Verdict) -> None:
    file = read.file
    leaks, told = [], set()
    shown: Counter[int] = Counter()
    best: dict[int, int] = {}
    for hit in read.found.hits:
        best[hit.item] = min(_rank(hit.place), best.get(hit.item, _rank(hit.place)))
    for hit in read.found.hits:
        if not excused(hit) and _rank(hit.place) == best[hit.item]:
            item = items[hit.item]
            shown[hit.item] += 1
            if shown[hit.item] > MOST_ALIKE:
                continue
            key = hit.place, item.uid, item.kind
            if key not in told:
                told.add(key)
                leaks.append(
                    Leak(file=file.name, place=hit.place, uid=item.uid, kind=item.kind, what=_what(item))
                )
    for wrong in read.found.wrong:
        what = f"{wrong.key} {wrong.value}"
        leaks.append(Leak(file=file.name, place=wrong.place, uid="", kind="field", what=what))
    folder = allowed_folder(file)
    if folder:
        verdict.allowed[folder] = verdict.allowed.get(folder, 0) + len(leaks)
    else:
        verdict.leaks += leaks
        hits = {(hit.item, hit.sub) for hit in read.found.hits if not excused(hit)}
        counted = sum(count for what, count in read.found.counts.items() if what in hits)
        untold = counted - sum(not excused(hit) for hit in read.found.hits)
        verdict.untold += max(0, untold) + sum(max(0, num - MOST_ALIKE) for num in shown.values())


def _rank(place: str) -> int:
    """What a row or a member tells is not told again as an offset of the file, nor that as a line."""
    if place.startswith("offset "):
        return 1
    return 2 if ON_ONE_LINE in place else 0


ON_ONE_LINE = "on one line"


def _what(item: Item) -> str:
    return f"{WHAT[item.kind]} ({item.note})" if item.note else WHAT[item.kind]


def allowed_folder(file: File) -> str:
    """Empty for a file that may name nothing that was taken back."""
    if not file.is_ours:
        return ""
    name = PurePosixPath(file.name).as_posix()
    if name in ALLOWED_FILES:
        return name
    return next((folder for folder in ALLOWED if name.startswith(folder)), "")


def proofs(verdict: Verdict, revoked: Sequence[str]) -> list[dict[str, Any]]:
    """For each artifact its root, and for each revoked uid the proof that it is not among its leaves."""
    return [
        {
            "artifact": kind,
            "uids": len(tree.uids),
            "root": tree.root,
            "absent": [proof for uid in revoked if (proof := tree.absence(uid)) is not None],
            "present": [uid for uid in revoked if tree.absence(uid) is None],
        }
        for kind, tree in verdict.artifacts.items()
    ]


def searchable(items: Sequence[Item]) -> int:
    """How many strings are looked for."""
    return len(needles_of(items))
