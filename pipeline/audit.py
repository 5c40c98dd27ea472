"""The audit log of a corpus: what was done to it, as a chain of entries under ``audit/``.

An entry is ``{type, at, facts, prev}``, and ``signature`` where a key signs; :mod:`pipeline.chain` has the
form. The surprising rule: it is written after the version that it tells of, so a process that dies between
the two leaves a version without one. Each command therefore adds whatever is missing up to the newest
version, and one that cannot write fails, though its version stands.

Facts name assets and deliveries by their ids; of contributors the keyed hash alone, or nothing
(:meth:`pipeline.sealing.Seal.contributor`).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast, get_args

from infra.artifact import pretty
from infra.corpus import Corpus, LeaseHeld, Version
from infra.storage import UNREACHABLE, Store
from pipeline import chain
from pipeline.sealing import Seal

FOLDER = "audit"
Type = Literal[
    "delivery_ingested",
    "decision_summary",
    "dataset_built",
    "revocation_loaded",
    "compaction_done",
    "gc_done",
]
TYPES = get_args(Type)


class Unrecorded(RuntimeError):
    """Work was done, and the log does not tell of it yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    number: int
    type: Type
    at: str
    """When it was written, UTC."""
    facts: Mapping[str, Any]
    prev: str
    """sha256 of the bytes of the entry before."""
    sha256: str
    """Of this entry's bytes."""
    is_signed: bool


def append(store: Store, kind: Type, facts: Mapping[str, Any], *, seal: Seal = chain.UNSEALED) -> Entry:
    """Add an entry of JSON values, from within the corpus's lease; :class:`LeaseHeld` elsewhere."""
    if kind not in TYPES:
        raise ValueError(f"{kind!r} is no type of entry; they are {', '.join(TYPES)}")
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return _entry(chain.append(store, FOLDER, {"type": kind, "at": at, "facts": dict(facts)}, seal=seal))


def entries(store: Store, *, newest_first: bool = False) -> Iterator[Entry]:
    """Unchecked: see :func:`check`."""
    return map(_entry, chain.links(store, FOLDER, newest_first=newest_first))


def check(store: Store, *, keys: Collection[bytes] = ()) -> int:
    """How many entries there are; :class:`pipeline.chain.Broken` names the first that was changed."""
    return chain.check(store, FOLDER, keys=keys)


def _entry(link: chain.Link) -> Entry:
    body = link.body
    return Entry(
        number=link.number,
        type=cast("Type", body["type"]),
        at=body["at"],
        facts=body["facts"],
        prev=body["prev"],
        sha256=link.sha256,
        is_signed="signature" in body,
    )


@contextlib.contextmanager
def _told(version: Version) -> Iterator[None]:
    """A store that fails now has let the version through: that is said, and what to do."""
    try:
        yield
    except (*UNREACHABLE, LeaseHeld) as error:
        raise Unrecorded(
            f"version {version.number} is published, and the audit log does not tell of it: {error}; run the "
            "command again, which adds what is missing"
        ) from error


def ingested(corpus: Corpus, version: Version, *, seal: Seal = chain.UNSEALED) -> None:
    """Log each delivery of the version that is not logged yet, and what was decided, if that is new."""
    with _told(version):
        known, decided = _ingested(corpus.store)
        for number in range(known, len(version.deliveries)):
            facts = {"generation": number, **asdict(version.deliveries[number]), "version": version.number}
            append(corpus.store, "delivery_ingested", facts, seal=seal)
        artifact = corpus.artifact(version, "decide")
        if artifact.key != decided:
            facts = {
                "version": version.number,
                "as_of": version.as_of,
                "deliveries": len(version.deliveries),
                "decide": artifact.key,
                "outcomes": artifact.counts,
            }
            append(corpus.store, "decision_summary", facts, seal=seal)


def _ingested(store: Store) -> tuple[int, str | None]:
    """How many deliveries are logged, and the key of the decisions that were logged last."""
    known = 0
    for entry in entries(store, newest_first=True):
        if entry.type == "delivery_ingested":
            known = max(known, entry.facts["generation"] + 1)
        if entry.type == "decision_summary":
            return max(known, entry.facts["deliveries"]), entry.facts["decide"]
    return known, None


def built(corpus: Corpus, version: Version, *, seal: Seal = chain.UNSEALED) -> None:
    """Log that the version was built, unless the newest such entry says so."""
    with _told(version):
        found = (one for one in entries(corpus.store, newest_first=True) if one.type == "dataset_built")
        newest = next(found, None)
        if newest is not None and newest.facts["version"] == version.number:
            return
        facts = {
            "version": version.number,
            "sha256": hashlib.sha256(pretty(version.json())).hexdigest(),
            "as_of": version.as_of,
            "models": dict(version.models),
            "artifacts": dict(version.artifacts),
        }
        append(corpus.store, "dataset_built", facts, seal=seal)
