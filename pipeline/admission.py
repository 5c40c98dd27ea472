"""The first two steps: read each delivered sample once into a record, and decide the rights of every record.

The instant ``as_of`` and the revocation register enter ``decide`` and nothing else. What decides is put into
the task's facts: the licences that the shard names, whether each is in force, and the revocations in effect.
So another ``as_of`` that changes none of these finds the shards that are there.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from infra.artifact import Made, Shard, fingerprint
from infra.guarded.refused import Refused
from infra.redaction import masked
from infra.settings import Section
from infra.storage import Store
from pipeline import c2pa, credentials, embedded, extract, folding, outcomes, refs, revisions, schema, tables
from pipeline.contract import Asset, Delivery, License, Revocation
from pipeline.deliveries import fetched, forms, kept
from pipeline.deliveries.batch import Batch
from pipeline.deliveries.fetched import Answers
from pipeline.deliveries.manifest import MANIFEST
from pipeline.deliveries.sample import Delivered, Fault, Sample
from pipeline.outcomes import KEPT
from pipeline.revoked import Revoked, revoked_uids
from pipeline.rights import NOTICE, Decision, Purpose, decide
from pipeline.step import ROWS, Report, Source, Step, Task, by_slot, generation, slot_name

MAX_RECORDS = 64 * 1024 * 1024
"""Characters of a task's records, with what the delivery states of every asset: 6,700 each of 10,000."""
MAX_LICENSES = 10_000
"""Named in a task's records, whether there are such or not."""
RECORDS = "records.parquet"
REVISIONS = "revisions.parquet"
"""Beside the records, and small: read of every shard whenever rights are decided."""


def records_step() -> Step:
    return Step(
        name="records",
        revision=5,
        settings=Section(),
        numerics={"c2pa": c2pa.version()},  # decides what an image's manifest says, or that it is unread
        tasks=list_shards,
        open=lambda: functools.partial(
            read_records, manifests=functools.partial(c2pa.entries, reader=c2pa.reader())
        ),
    )


def list_shards(source: Source) -> Sequence[Task]:
    """A task for each batch of each delivery, with all that was found at its addresses."""
    answers = tries(source)
    tasks = []
    for number, folded in enumerate(source.version.deliveries):
        manifest = folding.manifest_ref(source.store, folded)
        delivery, store = folding.manifest(manifest), Store.at(folded.uri)
        for i, batch in enumerate(kept.batches(source.store, folded.sha256, folded.batches)):
            slot = slot_name(number, i)
            found = answers.get(slot, [])
            reads = {
                "files": tuple(refs.Ref(store, file.path, file.sha256) for file in batch.files),
                "delivery": (manifest,),
                "table": () if batch.rows is None else (batch.rows,),
                "fetched": tuple(refs.of(source.store, shard, fetched.IMAGES) for shard in found),
                "missed": tuple(refs.of(source.store, shard, fetched.MISSED) for shard in found[-1:]),
            }
            # Workers need not read a list of all the files to learn of their own.
            mine = delivery.model_copy(update={"files": batch.files})
            hints = {"store": store, "delivery": mine, "addresses": batch.addresses}
            tasks.append(Task(slot=slot, reads=reads, facts=batch.facts, hints=hints))
    return tasks


def tries(source: Source) -> dict[str, list[Shard]]:
    """What was fetched for each slot, try by try; nothing where addresses were not followed."""
    return by_slot(source.artifact("fetch").shards) if "fetch" in source.version.artifacts else {}


def samples(task: Task) -> Iterator[Sample]:
    """Every sample of the task's batch, checked."""
    delivery: Delivery = task.hints["delivery"]
    batch = Batch(
        files=delivery.files,
        rows=b"".join(ref.read() for ref in task.reads["table"]),
        addresses=task.hints["addresses"],
        facts=task.facts,
        answers=Answers(
            archives=tuple(ref.read for ref in task.reads["fetched"]),
            missed={
                number: why
                for ref in task.reads["missed"]
                for number, why in fetched.read_missed(ref.read()).items()
            },
        ),
    )
    return forms.of(delivery).read(Delivered(store=task.hints["store"], delivery=delivery), batch)


def read_records(task: Task, _report: Report, *, manifests: c2pa.Read) -> Made:
    records, read, named = gathered(task, manifests)
    return Made(
        files={RECORDS: tables.to_parquet(records), REVISIONS: tables.to_parquet(read)},
        counts={KEPT: records.num_rows},
        facts={"rows": records.num_rows, "licenses": sorted(named)},
    )


def gathered(task: Task, manifests: c2pa.Read) -> tuple[pa.Table, pa.Table, set[str]]:
    """The records, what is remembered of each, and the licences that they name: a tar may have 40,000."""
    provider = task.hints["delivery"].provider
    records, read = tables.Growing(schema.RECORDS), tables.Growing(revisions.REVISIONS)
    named: set[str] = set()
    for sample in samples(task):
        asset = None if isinstance(sample.asset, Fault) else sample.asset
        records.add(row := record(sample, provider, manifests))
        read.add(revisions.of(row["uid"], asset))
        named.update(asset.license_ids if asset else ())
        if records.num_characters > MAX_RECORDS or len(named) > MAX_LICENSES:
            told = f"with it there are over {MAX_RECORDS} characters of records, or {MAX_LICENSES} licences"
            fix = "split the tar, or state less under every_asset"
            raise Refused(task.hints["store"].uri, sample.key, "records", f"{told}; {fix}")
    return records.table(), read.table(), named


def record(sample: Sample, provider: str, manifests: c2pa.Read) -> dict[str, Any]:
    if isinstance(sample.asset, Fault):
        fault = f"{sample.asset.outcome}:{sample.asset.code}: {sample.asset.message}"
        return {"uid": f"{provider}:{sample.key}", "record": None, "fault": masked(fault), "extracted": None}
    return {
        "uid": sample.asset.uid,
        "record": credentials.kept(sample.asset).model_dump_json(by_alias=True),
        "fault": None,
        "extracted": embedded.to_json(
            extract.extract(sample.image, sample.packets, manifests=manifests).extracted
        ),
    }


def decide_step(purpose: Purpose, as_of: datetime) -> Step:
    return Step(
        name="decide",
        revision=4,
        inputs=("records",),
        settings=purpose,
        tasks=functools.partial(list_decisions, as_of=as_of),
        open=lambda: functools.partial(decide_shard, purpose=purpose),
    )


def list_decisions(source: Source, *, as_of: datetime) -> Sequence[Task]:
    register = folding.revocations(source.store, source.version)
    records = source.artifact("records").shards
    check_arrived(source, records)
    revisions_of = {slot: refs.of(source.store, shard, REVISIONS) for slot, shard in records.items()}
    came = {slot: tables.read_parquet(ref) for slot, ref in revisions_of.items()}
    outdated = revisions.outdated(came, corrections(source))
    due = [line for line in register if line.effective_at <= as_of]
    due += copies(due, came)
    in_effect = [line.model_dump_json(by_alias=True) for line in due]
    providers = {folded.provider for folded in source.version.deliveries}
    licenses = {name: folding.licenses(source.store, source.version, name) for name in providers}
    tasks = []
    for slot, shard in sorted(records.items()):
        known = licenses[source.version.deliveries[int(generation(slot))].provider]
        named = [known[name] for name in shard.facts["licenses"] if name in known]
        tasks.append(
            Task(
                slot=slot,
                reads={"records": (refs.of(source.store, shard, RECORDS),)},
                facts={
                    "licenses": [standing(license_, as_of) for license_ in named],
                    "revocations": fingerprint(in_effect),
                    # Only where there are any: a correction leaves the keys of other shards alone.
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


def corrections(source: Source) -> frozenset[str]:
    """The generations whose deliveries mean to correct."""
    kinds = (
        folding.manifest(folding.manifest_ref(source.store, folded)).kind
        for folded in source.version.deliveries
    )
    return frozenset(
        generation(slot_name(number, 0)) for number, kind in enumerate(kinds) if kind == "correction"
    )


def copies(due: Sequence[Revocation], came: Mapping[str, pa.Table]) -> list[Revocation]:
    """The same revocations, of the bytes that were ever delivered under the ids that they name: a picture
    that was taken back does not stay, or come back, under another id.
    """
    images = revisions.images(came, {uid for record in due for uid in revoked_uids(record)})
    found = []
    for record in due:
        hashes = {sha256 for uid in revoked_uids(record) for sha256 in images.get(uid, ())}
        if hashes:
            told = {"target_type": "content_sha256", "targets": tuple(sorted(hashes))}
            found.append(record.model_copy(update=told))
    return found


def check_arrived(source: Source, records: Mapping[str, Shard]) -> None:
    """Every delivery brought as many samples as it says, now that its tars are read."""
    arrived: collections.Counter[int] = collections.Counter()
    for slot, shard in records.items():
        arrived[int(generation(slot))] += shard.facts["rows"]
    for number, folded in enumerate(source.version.deliveries):
        told = folding.manifest(folding.manifest_ref(source.store, folded)).counts.get("samples")
        if told not in (None, arrived[number]):
            where = Store.at(folded.uri).where(MANIFEST)
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
    why = outdated.get(asset.uid)
    decision = (
        Decision(outcome="quarantined" if why in revisions.QUARANTINED else "rejected", reasons=(why,))
        if why
        else judge(asset, extracted=embedded.from_json(row["extracted"]))
    )
    kept = decision.outcome == KEPT
    return {
        "uid": asset.uid,
        "revision": asset.asset_revision,
        "key": asset.member_key,
        "sha256": asset.file.sha256,
        "bytes": asset.file.bytes,
        "description": asset.description if kept else "",
        "keywords": list(asset.keywords) if kept else [],
        "contributor": asset.contributor.id,
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
        "bytes": 0,
        "description": "",
        "keywords": [],
        "contributor": "",
        "licenses": [],
        "attribution": "",
        **dict.fromkeys(("may_be_neighbor", "may_be_shown", "may_derive"), False),
        "outcome": outcome,
        "settled_by": "decide",
        "reasons": [fault],
    }
