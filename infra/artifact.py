"""Immutable step outputs, addressed by what produced them.

A *shard* is the unit of work and of retry: a few files under ``shards/STEP/KEY/``. Its key is the hash of
the step, its revision, its settings and the content of every file it reads, so it is known before the work
starts. ``shard.json`` is written last and names each file with its sha256: a shard without it does not exist,
and two workers that race write the same bytes. An *artifact* is a manifest that lists shards by slot.

Nothing here knows a clock, a path outside the store, or how many workers there were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash

from infra.storage import Missing, Store

FORMAT = 1
"""Version of the manifests; written into each, so that a reader can tell."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    sha256: str
    size: int


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
        return f"{self.folder}/{file}"

    def sha256(self, file: str) -> str:
        return self.files[file].sha256

    def json(self) -> dict[str, Any]:
        files = {name: {"sha256": file.sha256, "bytes": file.size} for name, file in self.files.items()}
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
        files = {k: File(sha256=v["sha256"], size=v["bytes"]) for k, v in value["files"].items()}
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


def publish_shard(store: Store, step: str, key: str, made: Made) -> Shard:
    """Write the files, then the manifest that makes them a shard. Publishing twice changes nothing."""
    files = {
        name: File(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for name, data in sorted(made.files.items())
    }
    shard = Shard(
        step=step, key=key, files=files, counts=dict(sorted(made.counts.items())), facts=dict(made.facts)
    )
    for name, data in made.files.items():
        store.write(shard.name(name), data)
    store.write(f"{shard.folder}/shard.json", pretty(shard.json()))
    return shard


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
    try:
        value = json.loads(store.read(artifact_name(step, key)))
    except Missing:
        return None
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


def publish_artifact(store: Store, artifact: Artifact) -> None:
    store.write(artifact_name(artifact.step, artifact.key), pretty(artifact.json()))
