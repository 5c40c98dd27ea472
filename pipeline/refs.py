"""References to the files of a shard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from infra.artifact import Shard, fingerprint
from infra.corpus import Version
from infra.refs import Ref
from infra.storage import Store

__all__ = ["Directory", "Ref", "each", "of", "registered"]


@dataclass(frozen=True, slots=True)
class Directory:
    """A file of each of many slots, of which a task looks into few.

    It enters a key as one hash, and goes to a worker once: 83,000 packs that each named 34,000 shards would
    be hashed and sent for days.
    """

    sha256: str
    """Of what is in it: two that say the same are equal."""
    files: Mapping[str, Ref] = field(compare=False, repr=False)

    @staticmethod
    def of(store: Store, shards: Mapping[str, Shard], file: str) -> Directory:
        files = {slot: Ref(store, shard.name(file), shard.sha256(file)) for slot, shard in shards.items()}
        return Directory(fingerprint({slot: ref.sha256 for slot, ref in files.items()}), files)


def of(store: Store, shard: Shard, file: str) -> Ref:
    return Ref(store, shard.name(file), shard.sha256(file))


def each(store: Store, shards: Iterable[Shard], file: str) -> tuple[Ref, ...]:
    """The same file of several shards, in their order."""
    return tuple(of(store, shard, file) for shard in shards)


def registered(store: Store, version: Version, register: str) -> list[Ref]:
    """A register's segments, oldest first. They are named by their sha256."""
    return [Ref(store, name, PurePosixPath(name).name) for name in version.registers.get(register, ())]
