"""``pardalis where-is``: every place in a corpus that names an asset, read from the files that are there.

Shards of every step in every version, registers, what is kept of deliveries, manifests, logs and reports. The
surprising rule: files are looked at whether a version lists them or not, since what nobody lists is still
there until it is erased. What was derived of the asset is looked for with it. Bytes are not decoded, nor is
anything found by what it shows: `pardalis verify` does that.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from infra.artifact import Artifact, find_artifact
from infra.corpus import Corpus, Folded
from infra.options import ReadOptions, answer
from infra.storage import Missing, Store
from pipeline import finding, naming, packs, schema
from pipeline.contract import Revocation
from pipeline.deliveries import fetched, kept
from pipeline.examples import kind_of
from pipeline.folding import REVOCATIONS
from pipeline.indexing import MEMBERS
from pipeline.naming import asset_id
from pipeline.step import IMAGES, slot_name

MOST = 5
"""Rows that a line names."""
PARQUET = b"PAR1"
UNNAMED = ("leases", "deliveries")
"""Top folders that name no asset by its uid; what is kept of deliveries is read by itself."""
AS = "as "
"""Begins a role in packs."""
TEXT = "text, at byte"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    path: str
    """Below the corpus, or the address of what was delivered."""
    what: str
    """Column, role, or kind of place."""
    at: tuple[int | str, ...]
    """Rows from 0, members, or ids; empty where places are counted alone."""
    count: int
    step: str | None = None
    slots: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    """That list it; none: it waits to be erased, or belongs to no version."""
    sequences: tuple[int, ...] = ()
    """Of packs, numbers for `pardalis packs inspect`, in the newest version that lists them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What the versions of a corpus list, and which do."""

    artifacts: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    """By step and key."""
    versions: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    slots: dict[str, dict[str, set[int]]] = field(default_factory=dict)
    """By a shard's folder: its slots, and the versions in which it is there."""
    registers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    deliveries: dict[tuple[int, Folded], list[int]] = field(default_factory=lambda: defaultdict(list))
    """By generation."""
    first_rows: dict[str, int] = field(default_factory=dict)
    """Of packs, by path, the sequence that each begins with."""

    @staticmethod
    def of(corpus: Corpus) -> Listed:
        found = Listed()
        for number in corpus.numbers():
            version = corpus.version(number)
            for named in {**version.models, **version.artifacts}.items():
                found.versions[named].append(number)
            for name in (name for segments in version.registers.values() for name in segments):
                found.registers[name].append(number)
            for one in enumerate(version.deliveries):
                found.deliveries[one].append(number)
        for (step, key), numbers in found.versions.items():  # the newest come last, and count
            artifact = find_artifact(corpus.store, step, key)
            if artifact is not None:  # it may have been erased since
                found.take(corpus.store, artifact, numbers)
        return found

    def take(self, store: Store, artifact: Artifact, numbers: Sequence[int]) -> None:
        self.artifacts[artifact.step, artifact.key] = artifact
        for slot, shard in artifact.shards.items():
            self.slots.setdefault(shard.folder, {}).setdefault(slot, set()).update(numbers)
        if all("packs" in shard.facts for shard in artifact.shards.values()):
            for kind in sorted({kind_of(slot) for slot in artifact.shards}):
                first = 0
                for pack in packs.placed(store, packs.slots_of(artifact, kind)):
                    self.first_rows[pack.name] = first
                    first += pack.info["rows"]


def where_is(uid: str, *, options: ReadOptions | None = None) -> None:
    """List every place in a corpus that names an asset: path, as what, how often, and in which versions.

    Which runs saw it: pardalis models-affected UID

    Example: pardalis where-is fluent-emoji:1f34e --corpus demo/corpus

    Parameters
    ----------
    uid
        PROVIDER:ASSET_ID
    """
    naming.check_uid(uid)
    options = options or ReadOptions()
    corpus = options.open()
    corpus.newest()
    found = list(locations(corpus, uid))
    facts = {"corpus": corpus.store.uri, "uid": uid, "locations": [asdict(one) for one in found]}
    lines = [*map(told, found), f"{len(found)} places; which runs saw it: pardalis models-affected {uid}"]
    answer(facts, "\n".join(lines), json=options.json)


def locations(corpus: Corpus, uid: str) -> Iterator[Location]:
    listed, folders = Listed.of(corpus), defaultdict[str, list[str]](list)
    for name in corpus.store.names():
        folders[str(PurePosixPath(name).parent)].append(PurePosixPath(name).name)
    slots = set[str]()
    for folder, files in sorted(folders.items()):
        kind = folder.partition("/")[0]
        if kind == "shards":
            for location in in_shard(corpus.store, listed, folder, sorted(files), uid):
                slots.update(location.slots if location.step == "records" else ())
                yield location
        elif kind not in UNNAMED:
            for file in sorted(files):
                yield from in_other(corpus.store, listed, str(PurePosixPath(folder) / file), uid)
    yield from in_deliveries(corpus, listed, uid, slots)


def in_shard(store: Store, listed: Listed, folder: str, files: Sequence[str], uid: str) -> Iterator[Location]:
    step = folder.split("/")[1]
    slots = listed.slots.get(folder, {})
    versions = tuple(sorted(set[int]().union(*slots.values())))
    for file, what, at in named_in(store, folder, files, uid):
        path = f"{folder}/{file}"
        first = listed.first_rows.get(path)
        are_sequences = first is not None and what.startswith(AS)
        yield Location(
            path=path,
            what=what,
            at=tuple(at),
            count=len(at),
            step=step,
            slots=tuple(sorted(slots)),
            versions=versions,
            sequences=tuple(first + row for row in at) if are_sequences else (),
        )


Found = tuple[str, str, Sequence[Any]]
"""File, as what, and where in it."""


def named_in(store: Store, folder: str, files: Sequence[str], uid: str) -> Iterator[Found]:
    """Of one shard: tables first, which tell what the others hold."""
    uids, ids, is_here = [uid], list[int](), False
    for name in (one for one in files if one.endswith(".parquet")):
        with store.open(f"{folder}/{name}") as file:
            places = finding.in_parquet(file, uids)
            is_here |= schema.UID.name in places
            # Of an example that was made of it, what was derived goes where it goes.
            uids += finding.beside(file, "derived", places.get("sources", []))
        yield from ((name, what, rows) for what, rows in places.items())
    for name in (one for one in files if not one.endswith(".parquet")):
        whole = f"{folder}/{name}"
        if name.endswith(".arrow"):
            with store.open(whole) as file:
                places = finding.in_arrow(file, uids)
                if name == MEMBERS:  # before the vectors, by name
                    ids += finding.beside_in_arrow(file, schema.ID.name, places.get(schema.UID.name, []))
            yield from ((name, what, rows) for what, rows in places.items())
        elif name.endswith(".faiss") and ids:
            yield name, "vectors by id", ids
        elif name == IMAGES and is_here:
            members = finding.in_tar(store.read(whole), uid.replace(":", "_"))
            yield from [(name, "members", members)] if members else []
        elif name.endswith(".json") and (at_bytes := finding.in_text(store.read(whole), uids)):
            yield name, TEXT, at_bytes


def in_other(store: Store, listed: Listed, name: str, uid: str) -> Iterator[Location]:
    """Manifests, registers, logs, reports, and whatever else there is."""
    kind, *rest = PurePosixPath(name).with_suffix("").parts
    versions = tuple(listed.versions.get((rest[0], rest[-1]), ())) if kind == "artifacts" else ()
    if kind == "registers":
        versions = tuple(listed.registers.get(name, ()))
    data = store.read(name)
    found = finding.in_parquet(io.BytesIO(data), [uid]) if data.startswith(PARQUET) else {}
    if not data.startswith(PARQUET) and (at_bytes := finding.in_text(data, [uid])):
        found = {TEXT: at_bytes}
    if name.startswith(f"registers/{REVOCATIONS}/") and (lines := revoked_in(data, uid)):
        found = {"revocations, by line": lines}
    for what, at in found.items():
        yield Location(path=name, what=what, at=tuple(at), count=len(at), versions=versions)


def revoked_in(data: bytes, uid: str) -> list[int]:
    """The lines that name the asset, with its provider or without."""
    records = (Revocation.model_validate_json(line) for line in data.splitlines())
    named = (
        {f"{one.provider}:{asset_id(target.removeprefix(f'{one.provider}:'))}" for target in one.targets}
        if one.target_type == "asset"
        else set[str]()
        for one in records
    )
    return [number for number, uids in enumerate(named) if uid in uids]


def in_deliveries(corpus: Corpus, listed: Listed, uid: str, slots: Collection[str]) -> Iterator[Location]:
    """What is kept of the deliveries that brought it, where these lie, and what was fetched for it.

    ``slots``: of the records that name it.
    """
    provider, _, own = uid.partition(":")
    for (number, folded), numbers in listed.deliveries.items():
        if folded.provider != provider:
            continue
        versions = tuple(numbers)
        manifest = kept.manifest_ref(corpus.store, folded.sha256, folded.manifest).name
        try:
            files = json.loads(corpus.store.read(manifest))["files"]
        except Missing:  # it was written anew since, and this one was erased
            continue
        if named := [one["path"] for one in files if kept.own_id(one) == own]:
            yield Location(path=manifest, what="files", at=tuple(named), count=len(named), versions=versions)
        try:
            batches = kept.batches(corpus.store, folded.sha256, folded.batches)
        except Missing:  # it was written anew since, and this list was erased
            continue
        for slot, batch in ((slot_name(number, i), batch) for i, batch in enumerate(batches)):
            if batch.rows is not None and (rows := rows_of(batch.rows.read(), own)):
                at = tuple(rows)
                yield Location(path=batch.rows.name, what="rows", at=at, count=len(at), versions=versions)
                yield from in_fetched(corpus.store, listed, slot, rows)
            for file in batch.files if slot in slots else ():
                path = f"{folded.uri}/{file.path}"
                yield Location(path=path, what=AMONG, at=(), count=1, versions=versions)


AMONG = "delivered, in this or another file of its batch"


def rows_of(data: bytes, own: str) -> list[int]:
    rows = (json.loads(line) for line in data.splitlines())
    return [number for number, row in enumerate(rows) if row and asset_id(row["key"] or "-") == own]


def in_fetched(store: Store, listed: Listed, slot: str, rows: Sequence[int]) -> Iterator[Location]:
    """The images that were fetched for rows of a batch."""
    for folder, of_folder in sorted(listed.slots.items()):
        tries = [one for one in of_folder if one.startswith(f"{slot}.")]  # no other step has such
        path = f"{folder}/{fetched.IMAGES}"
        members = (
            [one for row in rows for one in finding.in_tar(store.read(path), f"{row:06d}")] if tries else []
        )
        if members:
            yield Location(
                path=path,
                what="members",
                at=tuple(members),
                count=len(members),
                step="fetch",
                slots=tuple(tries),
                versions=tuple(sorted(set[int]().union(*of_folder.values()))),
            )


def told(one: Location) -> str:
    """A place in a line."""
    shown = ", ".join(map(str, (one.sequences or one.at)[:MOST])) + (" …" if one.count > MOST else "")
    kind = "sequences " if one.sequences else ""
    where = f" ({kind}{shown})" if shown else ""
    versions = ", ".join(map(str, one.versions)) or "none"
    return f"{one.path}: {one.what}: {one.count}{where}; versions: {versions}"
