"""The first step over samples: each is read once into a record, with what its image file says of its use.

The surprising rule: words alone are kept here. Who needs the images later reads the delivery again through
:func:`samples`, and finds the same samples in the same order. Of what was erased not even a word is kept,
however often the delivery is read again: its uid stands, hashed, in a register of the corpus.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from infra.artifact import Made, Shard
from infra.guarded.refused import Refused
from infra.redaction import masked
from infra.settings import Section
from infra.storage import Store
from pipeline import (
    c2pa,
    credentials,
    embedded,
    erased,
    erasing,
    extract,
    folding,
    refs,
    revisions,
    schema,
    tables,
)
from pipeline.contract import Asset, Delivery
from pipeline.deliveries import fetched, forms, kept
from pipeline.deliveries.batch import Batch
from pipeline.deliveries.fetched import Answers
from pipeline.deliveries.sample import Delivered, Fault, Sample
from pipeline.outcomes import KEPT
from pipeline.step import Before, Report, Source, Step, Task, by_slot, slot_name

MAX_RECORDS = 64 * 1024 * 1024
"""Characters of a task's records, with what the delivery states of every asset: 6,700 each of 10,000."""
MAX_LICENSES = 10_000
"""Named in a task's records, whether there are such or not."""
RECORDS = "records.parquet"
REVISIONS = "revisions.parquet"
"""Beside the records, and small: read of every shard whenever rights are decided."""


def step() -> Step:
    return Step(
        name="records",
        revision=6,
        settings=Section(),
        numerics={"c2pa": c2pa.version()},  # decides what an image's manifest says, or that it is unread
        tasks=list_tasks,
        open=lambda: functools.partial(
            read_records, manifests=functools.partial(c2pa.entries, reader=c2pa.reader())
        ),
        erase=without,
    )


def list_tasks(source: Source) -> Sequence[Task]:
    """A task for each batch of each delivery, with all that was found at its addresses."""
    answers = tries(source)
    gone = erased.by_slot(source.store, source.version)
    tasks = []
    for number, folded in enumerate(source.version.deliveries):
        delivery = folding.manifest(folding.manifest_ref(source.store, folded))
        store = Store.at(folded.uri)
        for i, batch in enumerate(kept.batches(source.store, folded.sha256, folded.batches)):
            slot = slot_name(number, i)
            found = answers.get(slot, [])
            reads = {
                "files": tuple(refs.Ref(store, file.path, file.sha256) for file in batch.files),
                # As it was delivered, for the key: that it lists fewer files by now changes no other slot.
                "delivery": (kept.manifest_ref(source.store, folded.sha256, ""),),
                "table": () if batch.rows is None else (batch.rows,),
                "fetched": tuple(refs.of(source.store, shard, fetched.IMAGES) for shard in found),
                "missed": tuple(refs.of(source.store, shard, fetched.MISSED) for shard in found[-1:]),
            }
            # Workers need not read a list of all the files to learn of their own.
            mine = delivery.model_copy(update={"files": batch.files})
            hints = {"store": store, "delivery": mine, "addresses": batch.addresses}
            facts = {**batch.facts, **({erased.FACT: gone[slot]} if slot in gone else {})}
            tasks.append(Task(slot=slot, reads=reads, facts=facts, hints=hints))
    return tasks


def tries(source: Source) -> dict[str, list[Shard]]:
    """What was fetched for each slot, try by try; nothing where addresses were not followed."""
    return by_slot(source.artifact("fetch").shards) if "fetch" in source.version.artifacts else {}


def samples(task: Task) -> Iterator[Sample]:
    """Every sample of the task's batch; its record is checked when it is asked for."""
    delivery: Delivery = task.hints["delivery"]
    batch = Batch(
        files=delivery.files,
        rows=b"".join(ref.read() for ref in task.reads["table"]),
        addresses=task.hints["addresses"],
        facts={name: value for name, value in task.facts.items() if name != erased.FACT},
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
    gone = len(task.facts.get(erased.FACT, ()))
    return Made(
        files={RECORDS: tables.to_parquet(records), REVISIONS: tables.to_parquet(read)},
        counts={KEPT: records.num_rows},
        facts={"rows": records.num_rows + gone, "licenses": sorted(named)},
    )


def without(_task: Task, before: Before) -> Made:
    """The records without those of the assets that are gone, and the licences that are still named."""
    files = {name: erasing.without(name, before.read(name), before.gone) for name in before.shard.files}
    table = erasing.table_of(RECORDS, files[RECORDS])
    told = (json.loads(line) for line in table[schema.RECORD.name].to_pylist() if line is not None)
    named = {name for one in told for name in one["license_ids"]}
    facts = {**before.shard.facts, "licenses": sorted(named)}
    return Made(files=files, counts={KEPT: table.num_rows}, facts=facts)


def gathered(task: Task, manifests: c2pa.Read) -> tuple[pa.Table, pa.Table, set[str]]:
    """The records, what is remembered of each, and the licences that they name: a tar may have 40,000."""
    provider = task.hints["delivery"].provider
    records, read = tables.Growing(schema.RECORDS), tables.Growing(revisions.REVISIONS)
    named: set[str] = set()
    gone = frozenset(task.facts.get(erased.FACT, ()))
    for sample in samples(task):
        if gone and erased.hashed(f"{provider}:{sample.key}") in gone:
            continue
        judged = sample.asset
        asset = None if isinstance(judged, Fault) else judged
        records.add(row := record(sample, judged, provider, manifests))
        read.add(revisions.of(row["uid"], asset, sample.digest() if sample.image else None))
        named.update(asset.license_ids if asset else ())
        if records.num_characters > MAX_RECORDS or len(named) > MAX_LICENSES:
            told = f"with it there are over {MAX_RECORDS} characters of records, or {MAX_LICENSES} licences"
            fix = "split the tar, or state less under every_asset"
            raise Refused(task.hints["store"].uri, sample.key, "records", f"{told}; {fix}")
    return records.table(), read.table(), named


def record(sample: Sample, judged: Asset | Fault, provider: str, manifests: c2pa.Read) -> dict[str, Any]:
    if isinstance(judged, Fault):
        fault = f"{judged.outcome}:{judged.code}: {judged.message}"
        return {"uid": f"{provider}:{sample.key}", "record": None, "fault": masked(fault), "extracted": None}
    found = extract.extract(sample.image, sample.packets, manifests=manifests).extracted
    return {
        "uid": judged.uid,
        "record": credentials.kept(judged).model_dump_json(by_alias=True),
        "fault": None,
        "extracted": embedded.to_json(found),
    }
