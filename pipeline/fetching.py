"""The step before all others: images that a delivery only names are brought in from https and s3 addresses.

An address is followed where the delivery and the configuration both allow its host or bucket; neither alone
is enough, and by default the configuration allows none. What comes must have the sha256 that its row states.

The surprising rule: this is the one step whose answer the network decides. Every try of a batch is a shard of
its own, which asks only for what the tries before it could not reach; so what was brought stays as it is, and
the next ``pardalis ingest`` tries the rest again.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from pydantic import Field, model_validator

from infra.artifact import Made, Shard, find_shard
from infra.guarded import s3
from infra.guarded.address import check_uri
from infra.guarded.https import INTERNET, Limits, Network
from infra.guarded.refused import Refused
from infra.settings import Section
from infra.storage import Missing, Store
from pipeline import erasing, folding, refs
from pipeline.contract import Delivery
from pipeline.deliveries import fetched, kept, objects, signed
from pipeline.deliveries.download import Effort, Wanted, download
from pipeline.deliveries.fetched import Missed
from pipeline.deliveries.kept import KeptBatch
from pipeline.deliveries.sample import Delivered
from pipeline.fields import SHA256, Many
from pipeline.outcomes import KEPT
from pipeline.step import Before, Report, Source, Step, Task, by_slot, slot_name, try_name

STEP = "fetch"
Allowed = Mapping[str, Any]
"""Of one delivery: ``hosts`` and ``buckets`` that it and the configuration allow, and ``max_bytes``."""
BARRED = frozenset({"host", "bucket", "size"})
"""Refusals that other settings may lift; the row is asked for again under them."""
THREADS = 8
"""Images read at a time; each may hold ``max_bytes`` twice, before and after it is counted."""
UNSIGNED = "what lies at an address may change; state the sha256 of the image"


class FetchConfig(Section):
    hosts: Many[str] = ()
    """Hosts whose https addresses may be followed, such as ``images.agency.example``; by default none."""
    buckets: Many[str] = ()
    """S3 buckets that rows of a delivery may name; by default none."""
    max_bytes: int = Field(32 * 1024 * 1024, ge=1)
    """Of one image. A JPEG of 24 MP at full quality has some 20 MB."""
    batch_bytes: int = Field(256 * 1024 * 1024, ge=1)
    """Of the images of a batch; what is over is left for the next try. While it reads, a worker holds this,
    and at most 16 times ``max_bytes``."""
    seconds: float = Field(120.0, gt=0)
    """For one image, from the first byte of the question to the last of the answer."""

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.batch_bytes < self.max_bytes:
            told = f"batch_bytes {self.batch_bytes} has no room for one image of max_bytes {self.max_bytes}"
            raise ValueError(f"{told}; raise the first or lower the second")
        return self


def step(config: FetchConfig, network: Network = INTERNET) -> Step:
    """``network`` resolves names and connects; every address that it finds is checked."""
    return Step(
        name=STEP,
        # How long and how much at a time decide when something arrives, and never what.
        settings=Section(),
        tasks=functools.partial(list_tries, config=config),
        open=lambda: functools.partial(fetch, config=config, network=network),
        speculative=False,
    )


def unfollowed(config: FetchConfig) -> Step:
    """The same step, for a check: it refuses what may not be followed, and follows nothing."""
    return replace(step(config), open=lambda: judge)


def made_before(config: FetchConfig, tried: Mapping[str, Shard]) -> Step:
    """The same step for the tries that were made, whose tables lost rows since: asks for nothing.

    A try reads what the one before it missed, so each run of the step comes one try further; it takes
    :func:`rounds` of them.
    """
    settings = settings_of(tried)
    return replace(
        step(config),
        tasks=functools.partial(list_tries, config=config, known=settings, asking=False),
        erase=without,
    )


def rounds(tried: Mapping[str, Shard]) -> int:
    return max(map(len, by_slot(tried).values()), default=0)


def list_tries(
    source: Source,
    *,
    config: FetchConfig,
    known: Mapping[str, Sequence[Allowed]] | None = None,
    asking: bool = True,
) -> Sequence[Task]:
    """Every try of each batch with addresses: those that were made, and one more where rows are left.

    ``known``: settings of the tries that were made, by slot; default those that the version lists.
    """
    if known is None:
        known = earlier(source)
    tasks: list[Task] = []
    for number, folded in enumerate(source.version.deliveries):
        delivery = folding.manifest(folding.manifest_ref(source.store, folded))
        facts = {"allowed": allowed_by(delivery, config)}
        # Rows that come again since their signatures expired are the same rows: only the delivery is another.
        signed_facts = {**facts, "delivery": folded.sha256}
        asked: dict[int, tuple[KeptBatch, Task]] = {}
        for i, batch in enumerate(kept.batches(source.store, folded.sha256, folded.batches)):
            if not batch.addresses:
                continue
            slot = slot_name(number, i)
            mine = signed_facts if batch.signed else facts
            before = known.get(slot, [])
            made, new = tries(source, slot, batch, mine, before)
            tasks += made
            if new is not None and asking:
                asked[i] = (batch, new)
            elif new is not None and new.facts["try"] < len(before):
                tasks.append(new)
        tasks += with_addresses(asked, Delivered(store=Store.at(folded.uri), delivery=delivery))
    return tasks


def allowed_by(delivery: Delivery, config: FetchConfig) -> Allowed:
    return {
        "hosts": sorted({*delivery.allowed_hosts} & {*config.hosts}),
        "buckets": sorted({*delivery.allowed_buckets} & {*config.buckets}),
        "max_bytes": config.max_bytes,
    }


def tries(
    source: Source, slot: str, batch: KeptBatch, facts: Mapping[str, Any], known: Sequence[Allowed]
) -> tuple[list[Task], Task | None]:
    """The tries that were made, each under the settings of its time, and the one that is to be made now.

    What was brought stays, so a try that is known is listed whatever the settings are today.
    """
    assert batch.rows is not None  # noqa: S101  # addresses stand in rows
    found: list[Task] = []
    before: tuple[refs.Ref, ...] = ()
    shard: Shard | None = None
    for number in itertools.count():
        if number >= len(known) and shard is not None and not left_over(shard, facts["allowed"]):
            break
        # Its number too: a try that missed what the one before it missed is another try all the same.
        mine = {**facts, "allowed": known[number] if number < len(known) else facts["allowed"], "try": number}
        reads = {"table": (batch.rows,), "missed": before}
        task = Task(slot=try_name(slot, number), reads=reads, facts=mine)
        shard = find_shard(source.store, STEP, step(FetchConfig()).key(task))
        if shard is None:
            return found, task
        found.append(task)
        before = (refs.of(source.store, shard, fetched.MISSED),)
    return found, None


def left_over(shard: Shard, allowed: Allowed) -> bool:
    """Whether another try may bring more: the network may answer, or settings allow what they did not."""
    return bool(shard.facts["again"]) or (bool(shard.facts["barred"]) and shard.facts["allowed"] != allowed)


def earlier(source: Source) -> dict[str, list[Allowed]]:
    """For each slot, the settings under which its tries were made: what was brought under them stays."""
    return settings_of(source.artifact(STEP).shards) if STEP in source.version.artifacts else {}


def settings_of(tried: Mapping[str, Shard]) -> dict[str, list[Allowed]]:
    return {slot: [shard.facts["allowed"] for shard in shards] for slot, shards in by_slot(tried).items()}


def with_addresses(asking: Mapping[int, tuple[KeptBatch, Task]], at: Delivered) -> list[Task]:
    """The tries that are to be made, by the number of their batch, each with the signed addresses it needs.

    No more of these are held than today's tries will follow. Of a delivery that is gone, or in whose place
    another was put, nothing is asked again: what it could not bring stays as it is told, and the corpus goes
    on.
    """
    rows = {i: batch.rows for i, (batch, _) in asking.items() if batch.signed and batch.rows}
    try:
        found = signed.addresses(rows, at)
    except (Missing, Refused):
        if any(asking[i][1].facts["try"] == 0 for i in rows):
            raise
        found = {}
        asking = {i: one for i, one in asking.items() if i not in rows}
    return [replace(task, hints={"signed": found.get(i, {})}) for i, (_, task) in asking.items()]


def fetch(task: Task, _report: Report, *, config: FetchConfig, network: Network) -> Made:
    wanted, missed = left(task)
    refused = refusals(wanted, task.facts["allowed"])
    asked = {number: row for number, row in wanted.items() if number not in refused}
    effort = Effort(threads=THREADS, max_total_bytes=config.batch_bytes)
    answers = download(
        [wanted_by(number, row) for number, row in asked.items() if not is_object(row)],
        hosts=task.facts["allowed"]["hosts"],
        limits=Limits(max_bytes=task.facts["allowed"]["max_bytes"], total_s=config.seconds),
        network=network,
        effort=effort,
    )
    found: dict[int, bytes | Missed] = {answer.row: answer.outcome for answer in answers}
    found |= objects.read(
        [wanted_by(number, row) for number, row in asked.items() if is_object(row)],
        buckets=task.facts["allowed"]["buckets"],
        max_bytes=task.facts["allowed"]["max_bytes"],
        effort=replace(effort, max_total_bytes=config.batch_bytes - objects.held(found)),
    )
    images = {number: image for number, image in found.items() if isinstance(image, bytes)}
    still = {number: why for number, why in found.items() if isinstance(why, Missed)}
    return made(images, {**missed, **refused, **still}, task.facts["allowed"])


def judge(task: Task, _report: Report) -> Made:
    """What can be said of addresses without following one; nothing is said of those that may be followed."""
    wanted, missed = left(task)
    return made({}, {**missed, **refusals(wanted, task.facts["allowed"])}, task.facts["allowed"])


def left(task: Task) -> tuple[dict[int, Any], dict[int, Missed]]:
    """The rows that this try asks for, with their whole addresses, and what the tries before it missed."""
    rows = {number: row for number, row in rows_of(task).items() if row is not None}
    missed = {
        number: why for ref in task.reads["missed"] for number, why in fetched.read_missed(ref.read()).items()
    }
    ask = list(rows)
    if task.reads["missed"]:
        ask = [number for number, why in missed.items() if why.again or why.code in BARRED]
        # First those that had no turn, or rows that fail at great length would keep them out for ever.
        ask.sort(key=lambda number: missed[number].code != objects.OVER.code)
    uris = {number: task.hints["signed"].get(number, rows[number]["uri"]) for number in ask}
    return {number: {**rows[number], "uri": uri} for number, uri in uris.items() if uri}, missed


def rows_of(task: Task) -> dict[int, Any]:
    """None for one that was taken back."""
    return dict(enumerate(json.loads(line) for line in task.only("table").read().splitlines()))


def without(task: Task, before: Before) -> Made:
    """What a try brought and missed, less the rows that its table no longer holds."""
    gone = {number for number, row in rows_of(task).items() if row is None}
    missed = fetched.read_missed(before.read(fetched.MISSED))
    left = made(
        {}, {number: why for number, why in missed.items() if number not in gone}, task.facts["allowed"]
    )
    archive = erasing.members_dropped(before.read(fetched.IMAGES), {fetched.key(number) for number in gone})
    num = sum(1 for _ in erasing.members(archive))
    return replace(left, files={**left.files, fetched.IMAGES: archive}, counts={KEPT: num})


def made(images: Mapping[int, bytes], told: Mapping[int, Missed], allowed: Allowed) -> Made:
    missed = {number: why for number, why in told.items() if number not in images}
    again = sum(why.again for why in missed.values())
    barred = sum(why.code in BARRED for why in missed.values())
    facts = {"again": again, "barred": barred, "allowed": dict(allowed)}
    return Made(files=fetched.files(images, missed), counts={KEPT: len(images)}, facts=facts)


def refusals(rows: Mapping[int, Any], allowed: Allowed) -> dict[int, Missed]:
    """Rows whose address may not be followed, and why; the network is not asked."""
    found = {}
    for number, row in rows.items():
        try:
            check(row, allowed)
        except Refused as error:
            found[number] = Missed.of(error)
    return found


def check(row: Mapping[str, Any], allowed: Allowed) -> None:
    if not SHA256.fullmatch(expected(row)):
        raise Refused(row["place"], "file.sha256", "no_sha256", UNSIGNED)
    if is_object(row):
        s3.check_uri(row["uri"], allowed["buckets"])
    else:
        check_uri(row["uri"], allowed["hosts"])


def is_object(row: Mapping[str, Any]) -> bool:
    return str(row["uri"]).startswith("s3://")


def wanted_by(number: int, row: Mapping[str, Any]) -> Wanted:
    version = stated(row, "file.s3_version_id")
    return Wanted(row=number, uri=row["uri"], sha256=expected(row), version=version)


def expected(row: Mapping[str, Any]) -> str:
    return stated(row, "file.sha256", "sha256")


def stated(row: Mapping[str, Any], *columns: str) -> str:
    return next((str(row["cells"][name]) for name in columns if row["cells"].get(name)), "")
