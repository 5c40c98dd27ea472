"""Immutable step outputs, addressed by what produced them.

A *shard* is the unit of work and of retry: a few files under ``shards/STEP/KEY/``. Its key is the hash of
the step, its revision, its settings and the content of every file it reads, so it is known before the work
starts. ``shard.json`` is written last and names each file with its sha256: a shard without it does not exist,
and two workers that race write the same bytes. An *artifact* is a manifest that lists shards by slot.

Nothing here knows a clock, a path outside the store, or how many workers there were.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import xxhash

from infra.storage import LocalStore, Missing, Store

FORMAT = 1
"""Version of the manifests; written into each, so that a reader can tell."""
MOVED = "moved"
"""In a manifest that stands for one that was erased: the key of what is left of it."""
FEW = 64
"""So many shards are asked for without a listing."""
ASKED_AT_ONCE = 32
"""Questions to a store, which takes some 20 ms to answer one on S3: 340,000 in sequence are two hours."""


class Corrupt(ValueError):
    """Stored bytes are not the bytes that were written."""


def fingerprint(*parts: object) -> str:
    """Hash JSON values into 32 hex digits; the order of keys does not matter."""
    return hashlib.sha256(canonical(parts)).hexdigest()[:32]


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a worker hands back for a shard before it is published."""

    files: Mapping[str, bytes]
    counts: Mapping[str, int] = field(default_factory=dict)
    """Outcome of every row: ``kept``, ``rejected:RULE``, ``quarantined:REASON``, ``failed:ERROR``."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON values worth reading without opening the files."""
    kept: Mapping[str, File] = field(default_factory=dict)
    """Files that are another shard's already, byte for byte: listed, and not written again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    sha256: str
    size: int
    at: str | None = None
    """Folder of the shard that wrote it, where that is another one."""

    def json(self) -> dict[str, Any]:
        facts = {"sha256": self.sha256, "bytes": self.size}
        return facts if self.at is None else {**facts, "at": self.at}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A published shard, or the entry of one in an artifact."""

    step: str
    key: str
    files: Mapping[str, File]
    counts: Mapping[str, int]
    facts: Mapping[str, Any]

    @property
    def folder(self) -> str:
        return f"shards/{self.step}/{self.key}"

    def name(self, file: str) -> str:
        return f"{self.files[file].at or self.folder}/{file}"

    def lent(self, *names: str) -> dict[str, File]:
        """Files of this shard for another one to list."""
        return {name: replace(self.files[name], at=self.files[name].at or self.folder) for name in names}

    def sha256(self, file: str) -> str:
        return self.files[file].sha256

    def json(self) -> dict[str, Any]:
        files = {name: file.json() for name, file in self.files.items()}
        return {
            "format": FORMAT,
            "step": self.step,
            "key": self.key,
            "files": files,
            "counts": dict(self.counts),
            "facts": dict(self.facts),
        }

    @staticmethod
    def of(value: Mapping[str, Any]) -> Shard:
        files = {
            name: File(sha256=file["sha256"], size=file["bytes"], at=file.get("at"))
            for name, file in value["files"].items()
        }
        return Shard(
            step=value["step"],
            key=value["key"],
            files=files,
            counts=value["counts"],
            facts=value["facts"],
        )


def find_shard(store: Store, step: str, key: str) -> Shard | None:
    try:
        value = json.loads(store.read(f"shards/{step}/{key}/shard.json"))
    except Missing:
        return None
    return Shard.of(value)


def find_shards(store: Store, step: str, keys: Iterable[str]) -> dict[str, Shard]:
    """Those of the shards that are there, by key.

    Of many, listings tell which, a thousand names an answer: what is missing is asked for by no question of
    its own, so a step that nobody began costs next to nothing.
    """
    wanted = list(dict.fromkeys(keys))
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        if len(wanted) > FEW:
            # A folder is walked whole, whatever the prefix; S3 answers sixteen listings at once.
            firsts = ("",) if isinstance(store, LocalStore) else "0123456789abcdef"
            names = pool.map(store.sizes, [f"shards/{step}/{first}" for first in firsts])
            there = {name for some in names for name in some}
            wanted = [key for key in wanted if f"shards/{step}/{key}/shard.json" in there]
        found = list(pool.map(functools.partial(find_shard, store, step), wanted))
    return {key: shard for key, shard in zip(wanted, found, strict=True) if shard is not None}


def publish_shard(store: Store, step: str, key: str, made: Made) -> Shard:
    """Write the files, then the manifest that makes them a shard. The first to publish wins: a worker that
    was given up and works on, or a second one set beside it, changes nothing, even where it made other bytes.
    """
    folder = f"shards/{step}/{key}"
    files = {name: _placed(store, folder, name, data) for name, data in made.files.items()}
    shard = Shard(
        step=step,
        key=key,
        files=dict(sorted({**files, **made.kept}.items())),
        counts=dict(sorted(made.counts.items())),
        facts=dict(made.facts),
    )
    if store.create(f"{folder}/shard.json", pretty(shard.json())):
        return shard
    first = find_shard(store, step, key)
    if first is None:
        raise Missing(f"{store.where(folder)} was erased while it was made; run the command again")
    return first


def _placed(store: Store, folder: str, name: str, data: bytes) -> File:
    """The file as written. Where another worker left other bytes of this name, beside them: it may be about
    to list those.
    """
    file = File(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    if store.create(f"{folder}/{name}", data):
        return file
    if hashlib.sha256(store.read(f"{folder}/{name}")).hexdigest() == file.sha256:
        return file
    file = replace(file, at=f"{folder}/{file.sha256[:16]}")
    store.write(f"{file.at}/{name}", data)
    return file


def check(data: bytes, sha256: str, where: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Corrupt(
            f"{where} has sha256 {found[:16]}…, its manifest says {sha256[:16]}…; delete its folder"
        )


def is_part(data: Any, size: int, xxh3: str) -> bool:
    """Whether bytes, or an Arrow buffer, are a part that is read often, which is hashed as fast as memory."""
    return len(data) == size and xxhash.xxh3_64_hexdigest(data) == xxh3


def check_part(data: Any, size: int, xxh3: str, where: str) -> None:
    if not is_part(data, size, xxh3):
        raise Corrupt(
            f"{where} has xxh3 {xxhash.xxh3_64_hexdigest(data)} ({len(data)} bytes), its manifest says "
            f"{xxh3} ({size} bytes); delete the shard and fetch or build it again"
        )


def pretty(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The output of a step: its shards by slot. A slot keeps its name along a chain of map steps."""

    step: str
    key: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    """Artifact key of every step that this one read."""
    shards: Mapping[str, Shard]

    @property
    def counts(self) -> dict[str, int]:
        """Outcomes, added up over the shards."""
        total: dict[str, int] = {}
        for shard in self.shards.values():
            for outcome, rows in shard.counts.items():
                total[outcome] = total.get(outcome, 0) + rows
        return dict(sorted(total.items()))

    @property
    def only(self) -> Shard:
        """The single shard of a fitted model."""
        (shard,) = self.shards.values()
        return shard

    def at(self, slot: str) -> Shard:
        """The slot's shard; of a fitted model, whose one shard serves every slot, that one."""
        shard = self.shards.get(slot)
        return self.only if shard is None else shard

    def json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "step": self.step,
            "key": self.key,
            "settings": dict(self.settings),
            "inputs": dict(self.inputs),
            "shards": {slot: shard.json() for slot, shard in sorted(self.shards.items())},
        }


def artifact_name(step: str, key: str) -> str:
    return f"artifacts/{step}/{key}.json"


def find_artifact(store: Store, step: str, key: str) -> Artifact | None:
    """The artifact; where it was compacted, what is left of it, under its own key."""
    try:
        value = json.loads(store.read(artifact_name(step, key)))
    except Missing:
        return None
    if MOVED in value:
        left = find_artifact(store, step, value[MOVED])
        if left is None:
            return None
        shards = {slot: left.shards[slot] for slot in value["slots"] if slot in left.shards}
        return replace(left, key=key, shards=shards)
    return Artifact(
        step=value["step"],
        key=value["key"],
        settings=value["settings"],
        inputs=value["inputs"],
        shards={slot: Shard.of(shard) for slot, shard in value["shards"].items()},
    )


def load_artifact(store: Store, step: str, key: str) -> Artifact:
    found = find_artifact(store, step, key)
    if found is None:
        raise Missing(f"{store.where(artifact_name(step, key))} is gone; build the corpus again")
    return found


def forward_artifact(store: Store, old: Artifact, key: str) -> None:
    """In place of an artifact whose shards are erased: where what is left of its slots is listed."""
    told = {"format": FORMAT, "step": old.step, "key": old.key, MOVED: key, "slots": sorted(old.shards)}
    store.write(artifact_name(old.step, old.key), pretty(told))


def publish_artifact(store: Store, artifact: Artifact) -> None:
    store.write(artifact_name(artifact.step, artifact.key), pretty(artifact.json()))
