"""Which delivered rows revocations take back, and the bytes by which their copies are known later.

The surprising rule: nothing here asks how rights were decided. A row goes that a revocation names, that has
the bytes of one, or whose licences have all ended: also one that was never admitted, since its record holds
words.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.artifact import Shard, fingerprint
from infra.corpus import Version
from infra.storage import Store
from pipeline import deciding, folding, refs, revisions, schema, tables
from pipeline.contract import License, Revocation
from pipeline.records import RECORDS, REVISIONS
from pipeline.revisions import bare
from pipeline.revoked import Revoked
from pipeline.step import generation

UID, CONTRIBUTOR = schema.UID.name, schema.CONTRIBUTOR.name
IMAGE, RELEASES = revisions.IMAGE.name, revisions.RELEASES.name
DELETED = ("delete_data_keep_models", "delete_data_and_models")
"""What a licence may say of data when its term ends; the others leave the data where it is, refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """What is taken back as of an instant."""

    uids: Mapping[str, frozenset[str]]
    """By slot."""
    copies: tuple[Revocation, ...]
    """The revocations that took pictures out under whatever id, of their bytes: what is erased is known by
    them when it is sent again."""
    others: tuple[str, ...]
    """Assets of other providers with the same bytes, under licences of their own: a person decides."""
    lines: tuple[Revocation, ...] = ()
    """The revocations that name any of it; licences that ended by themselves have none."""

    @property
    def every(self) -> frozenset[str]:
        return frozenset(uid for some in self.uids.values() for uid in some)


def revisions_of(store: Store, records: Mapping[str, Shard]) -> dict[str, pa.Table]:
    """What was delivered, by slot; ``records``: the shards of the records step."""
    return {slot: tables.read_parquet(refs.of(store, shard, REVISIONS)) for slot, shard in records.items()}


def found(  # of a version
    store: Store,
    version: Version,
    records: Mapping[str, Shard],
    came: Mapping[str, pa.Table],
    register: Sequence[Revocation],
    as_of: datetime,
) -> Gone:
    """``came``: :func:`revisions_of` the records."""
    due = [line for line in register if line.effective_at <= as_of]
    acting: dict[str, Revocation] = {}
    copies = deciding.copies(due, came)
    removing = [line for line in (*due, *copies) if line.action != "restrict"]
    concerned = deciding.concerning(removing, version, came, records)
    revoked, uids = Revoked.of(removing, as_of), {}
    providers = {folded.provider for folded in version.deliveries}
    licenses = {name: folding.licenses(store, version, name) for name in providers}
    for slot, table in came.items():
        folded = version.deliveries[int(generation(slot))]
        named = {uid for line in concerned[slot] for uid in of_slot(line, table)}
        if any(line.target_type == "delivery" for line in concerned[slot]):
            named |= {*table[UID].to_pylist()}
        acting |= {line.revocation_id: line for line in concerned[slot]}
        known = licenses[folded.provider]
        over = {
            name
            for name in records[slot].facts["licenses"]
            if revoked.license(folded.provider, name) or (name in known and is_over(known[name], as_of))
        }
        if over:
            named |= without_licence(refs.of(store, records[slot], RECORDS), over)
        if named:
            uids[slot] = frozenset(named)
    return Gone(
        uids=uids,
        copies=tuple(copies),
        others=tuple(sorted(elsewhere(copies, came, uids))),
        lines=tuple(acting[name] for name in sorted(acting)),
    )


def withdrawn(
    came: Mapping[str, pa.Table], register: Sequence[Revocation], as_of: datetime
) -> Iterator[Revocation]:
    """What records themselves say by their status: a revocation of each provider, of what none names yet."""
    known = {
        f"{line.provider}:{bare(line, target)}"
        for line in register
        if line.target_type == "asset" and line.action != "restrict"
        for target in line.targets
    }
    found: dict[str, set[str]] = {}
    for table in came.values():
        for uid in table.filter(table[revisions.WITHDRAWN.name])[UID].to_pylist():
            if uid not in known:
                provider, _, asset = uid.partition(":")
                found.setdefault(provider, set()).add(asset)
    for provider, assets in sorted(found.items()):
        yield Revocation(
            schema="revocation/1.0",
            revocation_id=f"status-{fingerprint(sorted(assets))}",
            provider=provider,
            target_type="asset",
            targets=tuple(sorted(assets)),
            reason="other",
            action="remove",
            requested_at=as_of,
            effective_at=as_of,
        )


def of_slot(line: Revocation, table: pa.Table) -> Iterator[str]:
    """The assets of a slot that a revocation names; those of its delivery or licence are found by others."""
    wanted = pa.array([bare(line, target) for target in line.targets], pa.string())
    if line.target_type == "asset":
        mask = pc.is_in(
            table[UID], value_set=pa.array([f"{line.provider}:{one}" for one in wanted.to_pylist()])
        )
    elif line.target_type == "contributor":
        mask = pc.is_in(table[CONTRIBUTOR], value_set=wanted)
    elif line.target_type == "content_sha256":
        hashes = pa.array([bytes.fromhex(target) for target in line.targets], table[IMAGE].type)
        mask = pc.is_in(table[IMAGE], value_set=hashes)
    elif line.target_type == "model_release":
        released = table[RELEASES].to_pylist()
        mask = pa.array([not {*line.targets}.isdisjoint(of_row) for of_row in released], pa.bool_())
    else:
        return
    yield from table.filter(mask)[UID].to_pylist()


def without_licence(records: refs.Ref, over: Collection[str]) -> set[str]:
    """Assets of a slot none of whose licences is left."""
    gone = set()
    for row in tables.read_parquet(records, [schema.UID, schema.RECORD]).to_pylist():
        names: list[Any] = [] if row["record"] is None else json.loads(row["record"])["license_ids"]
        if names and {*names} <= {*over}:
            gone.add(row["uid"])
    return gone


def is_over(license_: License, as_of: datetime) -> bool:
    """Whether it was revoked, or its term has ended and the data goes with it."""
    until, revoked_at = license_.valid_until, license_.revoked_at
    has_ended = until is not None and until <= as_of and license_.after_term in DELETED
    return has_ended or (revoked_at is not None and revoked_at <= as_of)


def elsewhere(
    copies: Sequence[Revocation], came: Mapping[str, pa.Table], uids: Mapping[str, Collection[str]]
) -> Iterator[str]:
    """Assets that stay, with the bytes of one that goes."""
    hashes = pa.array(sorted({bytes.fromhex(one) for line in copies for one in line.targets}), pa.binary(32))
    for slot, table in came.items():
        same = table.filter(pc.is_in(table[IMAGE], value_set=hashes))[UID].to_pylist()
        yield from (uid for uid in same if uid not in uids.get(slot, ()))
