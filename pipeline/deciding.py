"""Decide the rights of every record: kept, rejected, or left to a person, with the reasons.

The instant ``as_of`` and the revocation register enter here and nowhere else. What decides is put into the
task's facts: the licences that the shard names, whether each is in force, the revocations in effect that name
something of it, and the rows that other deliveries put out of date. So another ``as_of``, or a revocation
elsewhere, that changes none of these finds the shards that are there.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from infra.artifact import Made, Shard, fingerprint
from infra.corpus import Corpus, Version
from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline import embedded, folding, outcomes, refs, revisions, schema, tables
from pipeline.contract import Asset, Delivery, License, Revocation
from pipeline.deliveries.listing import MANIFEST
from pipeline.outcomes import KEPT
from pipeline.reasons import code_of
from pipeline.records import RECORDS, REVISIONS
from pipeline.revoked import Revoked, followed
from pipeline.rights import NOTICE, Decision, Purpose, decide
from pipeline.step import ROWS, Report, Source, Step, Task, generation, slot_name


def step(purpose: Purpose, as_of: datetime) -> Step:
    return Step(
        name="decide",
        revision=7,
        inputs=("records",),
        settings=purpose,
        tasks=functools.partial(list_tasks, as_of=as_of),
        open=lambda: functools.partial(decide_shard, purpose=purpose),
    )


def purpose_of(corpus: Corpus, version: Version) -> Purpose:
    """What a version was decided for. Its settings are JSON, which has lists where a purpose has tuples."""
    return Purpose.model_validate(dict(corpus.artifact(version, "decide").settings), strict=False)


def list_tasks(source: Source, *, as_of: datetime) -> Sequence[Task]:
    register = folding.revocations(source.store, source.version)
    records = source.artifact("records").shards
    delivered = [
        folding.manifest(folding.manifest_ref(source.store, one)) for one in source.version.deliveries
    ]
    check_arrived(source, delivered, records)
    revisions_of = {slot: refs.of(source.store, shard, REVISIONS) for slot, shard in records.items()}
    came = dict(zip(revisions_of, tables.read_each(revisions_of.values()), strict=True))
    outdated = revisions.outdated(came, corrections(delivered))
    due = [line for line in register if line.effective_at <= as_of]
    due += copies(due, came)
    concerned = concerning(due, source.version, came, records)
    providers = {folded.provider for folded in source.version.deliveries}
    licenses = {name: folding.licenses(source.store, source.version, name) for name in providers}
    tasks = []
    for slot, shard in sorted(records.items()):
        known = licenses[source.version.deliveries[int(generation(slot))].provider]
        named = [known[name] for name in shard.facts["licenses"] if name in known]
        in_effect = [line.model_dump_json(by_alias=True) for line in concerned[slot]]
        tasks.append(
            Task(
                slot=slot,
                reads={"records": (refs.of(source.store, shard, RECORDS),)},
                facts={
                    "licenses": [standing(license_, as_of) for license_ in named],
                    # Only where there are any: a revocation, or a correction, leaves the other shards alone.
                    **({"revocations": fingerprint(in_effect)} if in_effect else {}),
                    **({"outdated": outdated[slot]} if slot in outdated else {}),
                },
                hints={
                    "licenses": [license_.model_dump_json(by_alias=True) for license_ in named],
                    "revocations": in_effect,
                    "as_of": as_of,
                },
            )
        )
    return tasks


def concerning(
    due: Sequence[Revocation], version: Version, came: Mapping[str, pa.Table], records: Mapping[str, Shard]
) -> dict[str, list[Revocation]]:
    """Of each slot, the revocations that name something of it, with those of their targets that do."""
    if not due:
        return {slot: [] for slot in came}
    found: dict[str, list[Revocation]] = {}
    for slot, table in came.items():
        folded = version.deliveries[int(generation(slot))]
        here = revisions.Named.of(table, folded, records[slot].facts["licenses"])
        found[slot] = [
            record if len(targets) == len(record.targets) else record.model_copy(update={"targets": targets})
            for record in due
            if (targets := here.targets(record))
        ]
    return found


def corrections(delivered: Sequence[Delivery]) -> frozenset[str]:
    """The generations whose deliveries mean to correct."""
    meant = (number for number, delivery in enumerate(delivered) if delivery.kind == "correction")
    return frozenset(generation(slot_name(number, 0)) for number in meant)


def copies(due: Sequence[Revocation], came: Mapping[str, pa.Table]) -> list[Revocation]:
    """The same revocations, of the bytes that were ever delivered under what they name: a picture that was
    taken back does not stay, or come back, under another id.
    """
    images = revisions.images(came, {target for record in due for target in followed(record)})
    found = []
    for record in due:
        hashes = {sha256 for target in followed(record) for sha256 in images.get(target, ())}
        if hashes:
            told = {"target_type": "content_sha256", "targets": tuple(sorted(hashes))}
            found.append(record.model_copy(update=told))
    return found


def check_arrived(source: Source, delivered: Sequence[Delivery], records: Mapping[str, Shard]) -> None:
    """Every delivery brought as many samples as it says, now that its tars are read."""
    arrived: collections.Counter[int] = collections.Counter()
    for slot, shard in records.items():
        arrived[int(generation(slot))] += shard.facts["rows"]
    for number, delivery in enumerate(delivered):
        told = delivery.counts.get("samples")
        if told not in (None, arrived[number]):
            where = Store.at(source.version.deliveries[number].uri).where(MANIFEST)
            fix = "send what is missing, or correct the count"
            detail = f"got {told}, but {arrived[number]} arrived; {fix}"
            raise Refused(where, "counts.samples", "counts", detail)


def standing(record: License, as_of: datetime) -> list[Any]:
    """The record, and all that ``as_of`` says about it: which of its dates are past."""
    until = record.valid_until
    past = [
        as_of < record.valid_from,
        until is not None and until <= as_of,
        until is not None and until - NOTICE <= as_of,
        record.revoked_at is not None and record.revoked_at <= as_of,
    ]
    return [fingerprint(record.model_dump(mode="json", by_alias=True)), *past]


def decide_shard(task: Task, _report: Report, *, purpose: Purpose) -> Made:
    licenses = [License.model_validate_json(line) for line in task.hints["licenses"]]
    as_of: datetime = task.hints["as_of"]
    register = [Revocation.model_validate_json(line) for line in task.hints["revocations"]]
    judge = functools.partial(
        decide,
        licenses={record.license_id: record for record in licenses},
        purpose=purpose,
        as_of=as_of,
        revoked=Revoked.of(register, as_of),
    )
    outdated: Mapping[str, str] = task.facts.get("outdated", {})
    rows = (
        decided(row, judge, outdated) if row["record"] else unreadable(row)
        for row in tables.read_rows(task.only("records"))
    )
    table = tables.of_rows(rows, schema.DECIDED)
    return Made(
        files={ROWS: tables.to_parquet(table)},
        counts=outcomes.counts(table, "decide"),
        facts={"rows": table.num_rows},
    )


def decided(
    row: Mapping[str, Any], judge: Callable[..., Decision], outdated: Mapping[str, str]
) -> dict[str, Any]:
    """A catalog row. Words of an asset that is refused stay out of the catalog: only why, and which one."""
    asset = Asset.model_validate_json(row["record"])
    decision = judge(asset, extracted=embedded.from_json(row["extracted"]))
    why = outdated.get(asset.uid)
    # What was taken back is told before all, whatever came after it.
    if why is not None and revisions.REVOKED not in map(code_of, decision.reasons):
        waits = why == revisions.CONTESTED
        decision = Decision(outcome="quarantined" if waits else "rejected", reasons=(why,))
    kept = decision.outcome == KEPT
    return {
        "uid": asset.uid,
        "revision": asset.asset_revision,
        "key": asset.member_key,
        "sha256": asset.file.sha256,
        "bytes": asset.file.bytes,
        "description": asset.description if kept else "",
        "keywords": list(asset.keywords) if kept else [],
        "categories": [category.name for category in asset.categories] if kept else [],
        "contributor": asset.contributor.id,
        "width": asset.file.width,
        "height": asset.file.height,
        "image_type": asset.image_type,
        "ai_generated": asset.ai_generated,
        "people": asset.has_people,
        "release": asset.releases.model,
        "moderation": [label.model_dump() for label in asset.moderation_labels] if kept else [],
        "licenses": list(decision.license_ids),
        "attribution": decision.attribution,
        "may_be_neighbor": decision.may_be_neighbor,
        "may_be_shown": decision.may_be_shown,
        "may_derive": decision.may_derive,
        "outcome": decision.outcome,
        "settled_by": "" if kept else "decide",
        "reasons": list(decision.reasons),
    }


def unreadable(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for a record that is no asset."""
    outcome, _, fault = row["fault"].partition(":")
    return {
        "uid": row["uid"],
        "revision": 0,
        "key": row["uid"].replace(":", "_"),
        "sha256": "",
        **dict.fromkeys(("bytes", "width", "height"), 0),
        "description": "",
        **dict.fromkeys(("keywords", "categories", "moderation"), ()),
        "contributor": "",
        **dict.fromkeys(("image_type", "ai_generated", "people", "release"), "unknown"),
        "licenses": [],
        "attribution": "",
        **dict.fromkeys(("may_be_neighbor", "may_be_shown", "may_derive"), False),
        "outcome": outcome,
        "settled_by": "decide",
        "reasons": [fault],
    }
