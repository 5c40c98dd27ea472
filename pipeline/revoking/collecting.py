"""Erase what no version lists: shards, manifests, segments of registers, rows of deliveries; and old logs.

The surprising rule: a version that was compacted is not kept as it was. Its manifests are replaced by a word
on where what is left of them stands, and then its shards go; a run that was begun on it goes on with what is
left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from infra import logs, pieces, storage
from infra.artifact import artifact_name, find_artifact, forward_artifact
from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline.deliveries import kept, listing

SWEPT = ("shards/", "artifacts/", "registers/", "deliveries/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    files: int
    bytes: int
    forwarded: int
    """Manifests of compacted versions that now say where what is left of them stands."""

    def facts(self) -> dict[str, Any]:
        told = asdict(self)
        return {"erased_files": told["files"], "erased_bytes": told["bytes"], "forwarded": told["forwarded"]}


def collect(corpus: Corpus, head: Version, *, dry_run: bool = False) -> Erased:
    """From within the corpus's lease: a build that is under way has shards that no version lists yet."""
    store = corpus.store
    versions = [corpus.version(number) for number in corpus.numbers()]
    standing = [one for one in versions if one.number >= head.floor]
    listed = {pair for version in standing for pair in manifests(version)}  # most stand in several versions
    keep = {name for step, key in listed for name in names_of(store, step, key)}
    keep |= {name for version in standing for name in names_beside(store, version)}
    forwarded = 0
    for version in (one for one in versions if one.number < head.floor):
        for step, key in manifests(version):
            name = artifact_name(step, key)
            if name in keep:
                continue
            left = head.artifacts.get(step) or head.models.get(step)
            old = find_artifact(store, step, key)
            if old is not None and left is not None:
                keep.add(name)
                if not dry_run and old.shards:
                    # Said again where it was said before: what it led to may have been compacted since.
                    forward_artifact(store, old, left)
                    forwarded += 1
    sizes = {name: size for prefix in SWEPT for name, size in store.sizes(prefix).items()}
    gone = sorted(name for name in sizes if name not in keep)
    expired = logs.expired(store, datetime.now(UTC))
    sizes |= expired
    gone += sorted(expired)
    if not dry_run:
        store.erase(gone)
    # What a killed write left, and on S3 the older versions of manifests that were replaced above.
    hidden = {name: size for prefix in SWEPT for name, size in store.hidden(prefix).items()}
    if not dry_run:
        store.erase_hidden(list(hidden))
        # Blocks of packs, which nobody can tell whether they held any of it; and what another machine erased.
        pieces.forget()
        storage.forget()
    size = sum(sizes[name] for name in gone) + sum(hidden.values())
    return Erased(files=len(gone) + len(hidden), bytes=size, forwarded=forwarded)


def manifests(version: Version) -> Iterator[tuple[str, str]]:
    yield from version.artifacts.items()
    yield from version.models.items()


def names_of(store: Store, step: str, key: str) -> Iterator[str]:
    """An artifact and all of its files; nothing if it is not there."""
    artifact = find_artifact(store, step, key)
    if artifact is None:
        return
    yield artifact_name(step, key)
    for shard in artifact.shards.values():
        yield f"{shard.folder}/shard.json"
        yield from map(shard.name, shard.files)


def names_beside(store: Store, version: Version) -> Iterator[str]:
    """What a version lists beside its artifacts."""
    for segments in version.registers.values():
        yield from segments
    for folded in version.deliveries:
        here = kept.folder(folded.sha256)
        yield kept.manifest_ref(store, folded.sha256, folded.manifest).name
        yield f"{here}/{listing.LICENSES}"
        yield kept.list_ref(store, here, folded.batches).name
        for batch in kept.batches(store, folded.sha256, folded.batches):
            if batch.rows is not None:
                yield batch.rows.name
