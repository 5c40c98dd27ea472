"""Which assets the revocations name: read off the records and columns of a corpus before anything is erased.

The surprising rule: what was made of a revoked asset is revoked with it. An example that lists it under
``sources`` counts, and so do the derived assets that it names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from pipeline.verify import naming, texts
from pipeline.verify.revocations import Target

SHA_BYTES = 32


@dataclass(slots=True)
class Known:
    """Of one file, or of all."""

    uids: set[str] = field(default_factory=set)
    named: set[tuple[str, int]] = field(default_factory=set)
    """(uid, number of the target that takes it)."""
    pictures: set[tuple[str, bytes]] = field(default_factory=set)
    """(uid, sha256 of its delivered bytes)."""
    ids: set[tuple[str, int]] = field(default_factory=set)
    made: list[tuple[list[str], list[str]]] = field(default_factory=list)
    """(sources, names of what was made of them)."""

    def add(self, other: Known) -> None:
        self.uids |= other.uids
        self.named |= other.named
        self.pictures |= other.pictures
        self.ids |= other.ids
        self.made += other.made


class Resolver:
    """A sight that looks at tables, and at records in texts and tars."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = {
            (target.kind, target.provider, target.value): number for number, target in enumerate(targets)
        }
        self.seen = Known()

    def begin(self) -> Known:
        self.seen = Known()
        return self.seen

    def raw(self, data: memoryview, place: str, parts: Any) -> None: ...
    def name(self, name: str, place: str) -> None: ...
    def array(self, values: NDArray[Any], place: str) -> None: ...
    def binary(self, data: memoryview, place: str) -> None: ...
    def index(self, index: Any, place: str) -> None: ...

    def member(self, name: str, data: memoryview, _place: str) -> None:
        if name.endswith(".json"):
            self._record(naming.uid_of_record(bytes(data)), parsed(bytes(data)))

    def text(self, data: bytes, _place: str) -> None:
        for _, value in texts.documents(data):
            for record in texts.records(value):
                if "asset_id" in record:
                    self._record("", record)

    def batch(self, batch: pa.RecordBatch, _place: str, _row: int, schema: pa.Schema) -> None:
        names = set(schema.names)
        if "uid" in names and pa.types.is_string(schema.field("uid").type):
            uids = batch.column("uid").to_pylist()
            self.seen.uids.update(uid for uid in uids if uid)
            for column, take in COLUMNS.items():
                if column in names:
                    for uid, value in zip(uids, batch.column(column).to_pylist(), strict=True):
                        if uid and value is not None:
                            take(self, uid, value)
        if "sources" in names and pa.types.is_list(schema.field("sources").type):
            made = [batch.column(one).to_pylist() for one in ("derived", "example") if one in names]
            sources = batch.column("sources").to_pylist()
            for number, told in enumerate(sources):
                results = [one for column in made for one in _listed(column[number])]
                self.seen.made.append((_listed(told), results))

    def _record(self, uid: str, record: dict[str, Any]) -> None:
        provider, asset = record.get("provider"), record.get("asset_id")
        if isinstance(provider, str) and isinstance(asset, str):
            uid = f"{provider}:{asset}"
        if not uid:
            return
        self.seen.uids.add(uid)
        contributor, releases, file = (record.get(name) or {} for name in ("contributor", "releases", "file"))
        if isinstance(contributor, dict):
            self.take(uid, "contributor", _listed(contributor.get("id")))
        if isinstance(releases, dict):
            self.take(uid, "model_release", _listed(releases.get("model_release_ids")))
        self.take(uid, "delivery", _listed(record.get("delivery_id")))
        if isinstance(file, dict):
            self.picture(uid, file.get("sha256"))
        licenses = _listed(record.get("license_ids"))
        owner = uid.partition(":")[0]
        if licenses and all(("license", owner, one) in self._targets for one in licenses):
            self.take(uid, "license", licenses)

    def record(self, uid: str, told: str) -> None:
        self._record(uid, parsed(told.encode()))

    def take(self, uid: str, kind: str, values: Iterable[str]) -> None:
        owner, _, asset = uid.partition(":")
        for provider, value in [(owner, value) for value in values] + [("", value) for value in values]:
            number = self._targets.get((kind, provider, value))
            if number is not None:
                self.seen.named.add((uid, number))
        number = self._targets.get(("asset", owner, asset))
        if number is not None:
            self.seen.named.add((uid, number))

    def picture(self, uid: str, told: Any) -> None:
        digest = told if isinstance(told, bytes) else _unhexed(told)
        if len(digest) == SHA_BYTES:
            self.seen.pictures.add((uid, digest))
            self.take(uid, "content_sha256", [digest.hex()])

    def index_id(self, uid: str, number: int) -> None:
        self.seen.ids.add((uid, number))
        self.take(uid, "asset", [])


COLUMNS: dict[str, Any] = {
    "record": Resolver.record,
    "contributor": lambda self, uid, told: self.take(uid, "contributor", _listed(told)),
    "model_releases": lambda self, uid, told: self.take(uid, "model_release", _listed(told)),
    "sha256": Resolver.picture,
    "image": Resolver.picture,
    "id": Resolver.index_id,
    "revision": lambda self, uid, _told: self.take(uid, "asset", []),
}


def revoked(known: Known, targets: Sequence[Target]) -> dict[str, str]:
    """Uid, or name of what was made of one, to the uid by which it is told: itself, or its source."""
    found = {uid: uid for uid, _ in known.named}
    for target in targets:
        if target.kind == "asset":
            found[f"{target.provider}:{target.value}"] = f"{target.provider}:{target.value}"
    pictures: dict[bytes, set[str]] = {}
    for uid, digest in known.pictures:
        pictures.setdefault(digest, set()).add(uid)
    for uid, number in known.named:
        target = targets[number]
        for digest in [digest for one, digest in known.pictures if one == uid]:
            for twin in pictures[digest] - found.keys():
                is_own = twin.partition(":")[0] == uid.partition(":")[0]
                if target.is_about_content or (target.follows_picture and is_own):
                    found[twin] = twin
    while True:
        more = {
            name: found[source]
            for sources, names in known.made
            for source in sources
            if source in found
            for name in names
            if name not in found
        }
        if not more:
            return found
        found |= more


def leading_nowhere(known: Known, targets: Sequence[Target]) -> list[Target]:
    """Targets that no asset of the corpus goes with."""
    named = {targets[number] for _, number in known.named}
    return [
        target
        for target in targets
        if target not in named
        and not (target.kind == "asset" and f"{target.provider}:{target.value}" in known.uids)
    ]


def parsed(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _listed(told: Any) -> list[str]:
    many = told if isinstance(told, list) else [told]
    return [one for one in many if isinstance(one, str)]


def _unhexed(told: Any) -> bytes:
    try:
        return bytes.fromhex(told)
    except (TypeError, ValueError):
        return b""
