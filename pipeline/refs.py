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
    """Of its own slots and files: two that say the same are equal."""
    files: Mapping[str, Ref] = field(compare=False, repr=False)
    """By slot. Directories that grow delivery by delivery share one, which holds later slots too."""

    @staticmethod
    def of(files: Mapping[str, Ref], slots: Iterable[str]) -> Directory:
        return Directory(fingerprint({slot: files[slot].sha256 for slot in slots}), files)


def of(store: Store, shard: Shard, file: str) -> Ref:
    return Ref(store, shard.name(file), shard.sha256(file))


def each(store: Store, shards: Iterable[Shard], file: str) -> tuple[Ref, ...]:
    """The same file of several shards, in their order."""
    return tuple(of(store, shard, file) for shard in shards)


def registered(store: Store, version: Version, register: str) -> list[Ref]:
    """A register's segments, oldest first. They are named by their sha256."""
    return [Ref(store, name, PurePosixPath(name).name) for name in version.registers.get(register, ())]
