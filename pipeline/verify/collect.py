"""Gathers the evidence: three readings of a corpus, before anything is erased.

The surprising rule: what an asset that stays has too is no evidence. The third reading looks for all that was
gathered in the rows of others, and drops what it finds; so a caption that two pictures share is never called
a leak.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.verify import files, harvest, naming, needles, numbers, resolving
from pipeline.verify.evidence import Item
from pipeline.verify.files import File, Root
from pipeline.verify.revocations import Target
from pipeline.verify.search import Search

LEAST_NAME, LEAST_NUMBER, LEAST_WORD = 6, 9, 20
"""Characters of an asset's own id that is looked for without its provider: of one with letters and digits, of
a number, and of one without any digit, which may be a word."""
DIGITS = re.compile(r"\d+")
WHOLE = frozenset({"text", "integer", "digest", "id"})
"""Kinds of which nothing is left if one form is shared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    items: tuple[Item, ...]
    assets: tuple[str, ...]
    """Those of the corpus that the revocations take."""
    unread: tuple[tuple[str, str], ...]
    """(file, why)."""
    shared: int
    """Pieces of evidence that were dropped since assets that stay have them too."""


def make_resolver(targets: Sequence[Target]) -> resolving.Resolver:
    return resolving.Resolver(targets)


def make_harvester(wanted: harvest.Wanted) -> harvest.Harvester:
    return harvest.Harvester(wanted)


def make_sharing(items: Sequence[Item]) -> Search:
    return Search(items, sharing=True)


def collect(corpus: Root, also: Sequence[Root], targets: Sequence[Target], *, workers: int) -> Collected:
    listed = files.listed(corpus, also)
    known, unread = resolving.Known(), {}
    of_kind: dict[str, set[str]] = {}
    for read in files.read_all(listed, make_resolver, targets, workers=workers, title="resolve"):
        if read.found is not None:
            known.add(read.found)
            of_kind.setdefault(read.file.kind, set()).update(read.found.uids)
        if read.unread:
            unread[read.file.name] = read.unread
    gone = resolving.revoked(known, targets)
    ids = {number: gone[uid] for uid, number in known.ids if uid in gone}
    gathered: set[Item] = set()
    wanted = harvest.Wanted(names=gone, ids=ids)
    for read in files.read_all(listed, make_harvester, wanted, workers=workers, title="gather"):
        gathered |= read.found or set()
    stay = known.uids - gone.keys()
    survivors = Item("survivors", "", "", naming.digests(stay).tobytes())
    items = [
        *of_targets(targets),
        *(item for name, uid in gone.items() for item in names_of(name, uid)),
        *sorted(gathered, key=lambda item: (item.kind, item.uid, item.note, item.value)),
        survivors,
        Item(
            "newest_id",
            "",
            "",
            max((number for _, number in known.ids), default=-1).to_bytes(8, "little", signed=True),
        ),
        *(
            Item("rows", "", kind, naming.digests(uids - gone.keys()).tobytes())
            for kind, uids in sorted(of_kind.items())
            if uids
        ),
        *(Item("target", "", "", bytes.fromhex(target.sha256)) for target in targets),
    ]
    items = list(dict.fromkeys(items))
    shared = _shared(items, listed, workers) if stay else set()
    kept = list(without(items, shared))
    assets = sorted(known.uids & gone.keys())
    return Collected(
        items=(*kept, *_unseen(assets, kept), *_nobodys(known, targets)),
        assets=tuple(assets),
        unread=tuple(sorted(unread.items())),
        shared=len({item for item, _ in shared}),
    )


def of_targets(targets: Sequence[Target]) -> Iterator[Item]:
    """What can be looked for without knowing the corpus."""
    for target in targets:
        if target.kind == "asset":
            uid = f"{target.provider}:{target.value}"
            yield from names_of(uid, uid)
        elif target.kind == "content_sha256":
            yield Item("digest", f"sha256:{target.value[:16]}", "content", bytes.fromhex(target.value))
        else:
            yield Item("field", target.provider, target.kind, target.value.encode())


def names_of(name: str, uid: str) -> Iterator[Item]:
    """By which a file may know it: its uid, the key of its members, and its own id if that is telling."""
    provider, split, asset = name.partition(":")
    yield Item("id", uid, "uid" if split else "made", name.encode())
    if split and provider != "derived":
        yield Item("id", uid, "key", f"{provider}_{asset}".encode())
        is_number = DIGITS.fullmatch(asset) is not None
        has_digits = any(letter.isdigit() for letter in asset)
        if len(asset) >= (LEAST_NAME if has_digits else LEAST_WORD):
            note = "digits" if is_number and len(asset) < LEAST_NUMBER else "bare"
            yield Item("id", uid, note, asset.encode())


def _shared(items: Sequence[Item], listed: Sequence[File], workers: int) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for read in files.read_all(listed, make_sharing, items, workers=workers, title="compare"):
        if read.found is not None:
            found |= read.found.shared
    return found


def without(items: Sequence[Item], shared: set[tuple[int, int]]) -> Iterator[Item]:
    """The items, less what others have too."""
    by: dict[int, set[int]] = {}
    for place, sub in shared:
        by.setdefault(place, set()).add(sub)
    for number, item in enumerate(items):
        subs = by.get(number)
        if subs is None or (item.kind == "id" and item.note in ("uid", "key")):
            yield item
        elif item.kind == "codes":
            hashed = np.frombuffer(item.value, np.uint64)
            left = np.delete(hashed, [sub for sub in subs if sub >= 0])
            if len(left):
                yield Item(item.kind, item.uid, item.note, left.tobytes())
        elif item.kind == "vector":
            # Another that is the same, as that of the same words, shares all forms; one that is close, none.
            if subs == {numbers.APPROXIMATE}:
                yield from (Item("blob", item.uid, "vector", form.data) for form in needles.of([item]))
        elif item.kind not in WHOLE and item.kind != "blob":
            yield item


def _unseen(assets: Sequence[str], items: Sequence[Item]) -> Iterator[Item]:
    """What cannot be looked for, of whom."""
    have: Mapping[str, set[tuple[str, str]]] = {uid: set() for uid in assets}
    for item in items:
        if item.uid in have:
            have[item.uid].add((item.kind, item.note if item.kind == "codes" else ""))
    for words, need in (
        ("captions", ("text", "")),
        ("pictures", ("blob", "")),
        ("image codes", ("codes", str(numbers.CODES))),
        ("text ids", ("codes", str(numbers.WORDS))),
        ("vectors", ("vector", "")),
    ):
        missing = [uid for uid in assets if need not in have[uid]]
        if missing:
            of = f"{len(missing)} of {len(assets)} assets"
            told = f"{words} of {of}: the corpus holds none that are theirs alone"
            yield Item("unseen", "", words, told.encode())


def _nobodys(known: resolving.Known, targets: Sequence[Target]) -> Iterator[Item]:
    """Targets that lead to no asset, as all do once they are erased."""
    if num := len(resolving.leading_nowhere(known, targets)):
        why = "the corpus has no asset that goes with them, as after `pardalis revoke`"
        yield Item("unseen", "", "targets", f"content of {num} of {len(targets)} targets: {why}".encode())
