"""References to the files of a shard."""

from __future__ import annotations

from infra.artifact import Shard
from infra.refs import Ref
from infra.storage import Store

__all__ = ["Ref", "of"]


def of(store: Store, shard: Shard, file: str) -> Ref:
    return Ref(store, shard.name(file), shard.sha256(file))
