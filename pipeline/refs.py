"""References to the files of a shard."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from infra.artifact import Shard
from infra.corpus import Version
from infra.refs import Ref
from infra.storage import Store

__all__ = ["Ref", "each", "of", "registered"]


def of(store: Store, shard: Shard, file: str) -> Ref:
    return Ref(store, shard.name(file), shard.sha256(file))


def each(store: Store, shards: Iterable[Shard], file: str) -> tuple[Ref, ...]:
    """The same file of several shards, in their order."""
    return tuple(of(store, shard, file) for shard in shards)


def registered(store: Store, version: Version, register: str) -> list[Ref]:
    """A register's segments, oldest first. They are named by their sha256."""
    return [Ref(store, name, PurePosixPath(name).name) for name in version.registers.get(register, ())]
