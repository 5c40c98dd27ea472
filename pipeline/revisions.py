"""Which delivered rows are out of date: of an asset's revisions the highest counts, and it counts whole.

The surprising rule: of equal revisions the first counts, whatever the later one says. Otherwise what was
revoked would be back as soon as it was sent again; a change needs a revision of its own. But a change that
cannot be followed is no reason to go on as before: while the newest word on an asset is a faulty record, or a
correction without a higher revision, the asset waits for a person.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Folded
from pipeline import schema
from pipeline.contract import Asset, Revocation
from pipeline.naming import asset_id
from pipeline.revoked import OF_RIGHTS, Target
from pipeline.step import generation

SUPERSEDED = "superseded"
"""The reason of a row whose asset has a higher revision, wherever that was delivered."""
REVISION_SEEN = "revision_seen"
"""The reason of a row whose very revision was delivered before."""
REVOKED = "revoked"
"""The reason of a row whose asset is said to be revoked by another record of it: there is no way back."""
CONTESTED = "contested"
"""The reason of a row that would count, were it not for what came after it."""

NUMBER = pa.field("revision", pa.int32())
"""Of the record; null for a faulty one."""
CONTENT = pa.field("content", pa.binary(32))
"""sha256 of the record, whatever delivery it came with; null for a faulty one."""
IMAGE = pa.field("image", pa.binary(32))
"""sha256 of the image; null where none came."""
WITHDRAWN = pa.field("withdrawn", pa.bool_(), nullable=False)
"""Whether the record says that the asset is revoked."""
RELEASES = pa.field("model_releases", pa.list_(pa.string()), nullable=False)
REVISIONS = pa.schema(
    [schema.UID, NUMBER, CONTENT, IMAGE, WITHDRAWN, schema.CONTRIBUTOR.with_metadata(None), RELEASES]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What revocations may name of a slot."""

    provider: str
    delivery: str
    licenses: frozenset[str]
    assets: frozenset[str]
    contributors: frozenset[str]
    releases: frozenset[str]
    hashes: frozenset[str]

    @staticmethod
    def of(table: pa.Table, folded: Folded, licenses: Collection[str]) -> Named:
        def values(column: str) -> frozenset[Any]:
            return frozenset(pc.unique(table[column]).to_pylist())

        releases = pc.unique(pc.list_flatten(table[RELEASES.name])).to_pylist()
        return Named(
            provider=folded.provider,
            delivery=folded.delivery_id,
            licenses=frozenset(licenses),
            assets=frozenset(uid.partition(":")[2] for uid in values(schema.UID.name)),
            contributors=values(schema.CONTRIBUTOR.name),
            releases=frozenset(releases),
            hashes=frozenset(image.hex() for image in values(IMAGE.name) if image is not None),
        )

    def targets(self, record: Revocation) -> tuple[str, ...]:
        """Those of a record's targets that may be of the slot. Who resembles a picture is told row by row."""
        if record.target_type == "content_pdq":
            return record.targets
        if record.target_type == "content_sha256" and record.reason not in OF_RIGHTS:
            return tuple(target for target in record.targets if target in self.hashes)
        if record.provider != self.provider:
            return ()
        known = {
            "asset": self.assets,
            "contributor": self.contributors,
            "license": self.licenses,
            "delivery": {self.delivery},
            "content_sha256": self.hashes,
            "model_release": self.releases,
        }[record.target_type]
        return tuple(target for target in record.targets if bare(record, target) in known)


def bare(record: Revocation, target: str) -> str:
    """What a record names, as the catalog has it."""
    if record.target_type == "asset":
        return asset_id(target.removeprefix(f"{record.provider}:"))
    return target


def of(uid: str, asset: Asset | None, sha256: str | None) -> dict[str, Any]:
    """What is remembered of a record for the deliveries that come after it: None for a faulty one, and for
    one without an image.
    """
    seen = {"uid": uid, "image": None if sha256 is None else bytes.fromhex(sha256)}
    if asset is None:
        return {**seen, "withdrawn": False, "contributor": "", "model_releases": []}
    said = asset.model_dump(mode="json", by_alias=True, exclude={"delivery_id"})
    return {
        **seen,
        "revision": asset.asset_revision,
        "content": hashlib.sha256(json.dumps(said, sort_keys=True).encode()).digest(),
        "withdrawn": asset.status == "revoked",
        "contributor": asset.contributor.id,
        "model_releases": list(asset.releases.model_release_ids),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A record of an asset that came more than once."""

    slot: str
    revision: int | None
    """None for a faulty one."""
    content: bytes | None
    withdrawn: bool


def outdated(
    revisions: Mapping[str, pa.Table], corrections: Collection[str] = ()
) -> dict[str, dict[str, str]]:
    """For each slot that has such rows: the reason of each, by uid.

    ``revisions`` are the rows of :func:`of`, by slot; a slot names an asset once at most. ``corrections`` are
    the generations whose deliveries mean to correct.
    """
    found: dict[str, dict[str, str]] = {}
    for uid, rows in contested(revisions).items():
        for row, reason in judged(rows, corrections):
            found.setdefault(row.slot, {})[uid] = reason
    for slot, uid in twins_of_withdrawn(revisions):
        found.setdefault(slot, {}).setdefault(uid, REVOKED)
    return found


def judged(rows: Sequence[Row], corrections: Collection[str]) -> Iterator[tuple[Row, str]]:
    """The rows of one asset that do not count, in the order of slots, each with its reason."""
    records = [row for row in rows if row.revision is not None]
    current = max(records, key=lambda row: row.revision or 0, default=None)  # the first of equals
    if current is None:
        return
    for row in records:
        if row is not current:
            yield row, REVISION_SEEN if row.revision == current.revision else SUPERSEDED
    if any(row.withdrawn for row in records):
        # Its own word needs no other; see pipeline.rights.
        yield from [] if current.withdrawn else [(current, REVOKED)]
    elif any(contests(row, current, corrections) for row in rows if row is not current):
        yield current, CONTESTED


def contests(row: Row, current: Row, corrections: Collection[str]) -> bool:
    """Whether what came in no earlier a delivery leaves in doubt what the asset's record is."""
    came = generation(row.slot)
    if row.revision is None:
        return came >= generation(current.slot)
    if row.revision == current.revision:
        return row.content != current.content
    return came in corrections and came > generation(current.slot)


def contested(revisions: Mapping[str, pa.Table]) -> dict[str, list[Row]]:
    """The rows of the assets that came more than once, in the order of slots."""
    uid = schema.UID.name
    everything = pa.chunked_array(
        [chunk for table in revisions.values() for chunk in table[uid].chunks], pa.string()
    )
    tally = pc.value_counts(everything)
    several = tally.field("values").filter(pc.greater(tally.field("counts"), 1))
    found: dict[str, list[Row]] = {}
    for slot, table in sorted(revisions.items()):
        for row in table.filter(pc.is_in(table[uid], value_set=several)).to_pylist():
            found.setdefault(row.pop(uid), []).append(
                Row(
                    slot=slot,
                    revision=row["revision"],
                    content=row["content"],
                    withdrawn=row["withdrawn"],
                )
            )
    return found


def twins_of_withdrawn(revisions: Mapping[str, pa.Table]) -> Iterator[tuple[str, str]]:
    """(slot, uid) of the rows with an image that another record of the same provider says is revoked."""
    image, withdrawn = IMAGE.name, WITHDRAWN.name
    gone: dict[str, list[bytes]] = {}
    for table in revisions.values():
        for row in table.filter(pc.and_(table[withdrawn], pc.is_valid(table[image]))).to_pylist():
            gone.setdefault(provider(row["uid"]), []).append(row[image])
    for slot, table in revisions.items():
        if not table.num_rows:
            continue
        whose = provider(table[schema.UID.name][0].as_py())  # a slot is of one delivery
        hashes = pa.array(gone.get(whose, []), IMAGE.type)
        same = pc.and_(pc.is_in(table[image], value_set=hashes), pc.invert(table[withdrawn]))
        yield from ((slot, uid) for uid in table.filter(same)[schema.UID.name].to_pylist())


def provider(uid: str) -> str:
    return uid.partition(":")[0]


def images(revisions: Mapping[str, pa.Table], targets: Collection[Target]) -> dict[Target, list[str]]:
    """sha256 of every image that was ever delivered under each of the targets, sorted: of assets,
    contributors and model releases.
    """
    uids = pa.array([f"{whose}:{name}" for kind, whose, name in targets if kind == "asset"], pa.string())
    people = pa.array([name for kind, _, name in targets if kind == "contributor"], pa.string())
    released = any(kind == "model_release" for kind, *_ in targets)
    wanted, found = {*targets}, dict[Target, set[str]]()
    for table in revisions.values():
        named = pc.or_(
            pc.is_in(table[schema.UID.name], value_set=uids),
            pc.is_in(table[schema.CONTRIBUTOR.name], value_set=people),
        )
        if released:
            named = pc.or_(named, pc.greater(pc.list_value_length(table[RELEASES.name]), 0))
        for row in table.filter(pc.and_(named, pc.is_valid(table[IMAGE.name]))).to_pylist():
            for target in {*named_by(row)} & wanted:
                found.setdefault(target, set()).add(row["image"].hex())
    return {target: sorted(hashes) for target, hashes in sorted(found.items())}


def named_by(row: Mapping[str, Any]) -> Iterator[Target]:
    whose, _, name = row["uid"].partition(":")
    yield "asset", whose, name
    yield "contributor", whose, row["contributor"]
    yield from (("model_release", whose, release) for release in row["model_releases"])
