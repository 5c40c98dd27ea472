"""Which samples of a delivery are as if they had never come: a register of the corpus, by slot.

The surprising rule: it holds no uid. A delivery that is read again is told what to leave out by hashes, and
who reads the register learns that something is gone, and not what.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from infra.corpus import Corpus, Version
from infra.storage import Store

REGISTER = "erased"
FACT = "erased"
"""Of the tasks that read a delivery."""


def hashed(uid: str) -> str:
    return hashlib.sha256(f"erased {uid}".encode()).hexdigest()


def by_slot(store: Store, version: Version) -> dict[str, list[str]]:
    """The hashes of each slot that lost something, sorted."""
    found: dict[str, set[str]] = {}
    for segment in Corpus(store).segments(version, REGISTER):
        for slot, hashes in json.loads(segment).items():
            found.setdefault(slot, set()).update(hashes)
    return {slot: sorted(hashes) for slot, hashes in sorted(found.items())}


def add(corpus: Corpus, version: Version, uids: Mapping[str, Iterable[str]]) -> Version:
    """The version with more that is erased, by slot."""
    told = {slot: sorted(map(hashed, some)) for slot, some in sorted(uids.items())}
    if not any(told.values()):
        return version
    return corpus.append(version, REGISTER, json.dumps(told, sort_keys=True).encode())
