"""``pardalis logs``: what jobs told of their work, by job, step, shard, or the asset that a shard holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any

import pyarrow.compute as pc
from cyclopts import Parameter

from infra import logs as written
from infra.corpus import Corpus, Version
from infra.options import ReadOptions, answer
from infra.redaction import masked_here, masked_tree
from infra.storage import Store
from pipeline import locating, naming, refs, running, schema, tables
from pipeline.records import RECORDS
from pipeline.step import generation

Event = dict[str, Any]


def logs(
    *,
    job: str | None = None,
    step: str | None = None,
    shard: str | None = None,
    uid: str | None = None,
    follow: Annotated[bool, Parameter(negative="")] = False,
    options: ReadOptions | None = None,
) -> None:
    """Show what a job told of its work: the newest one, unless another is named.

    Example: pardalis logs --step embed --follow --corpus s3://bucket/corpus

    Parameters
    ----------
    job
        The id that `pardalis status` and every event tell.
    step
        Only events of this step.
    shard
        Only the making of this shard, by slot or key; without --job in the newest job that made it.
    uid
        PROVIDER:ASSET_ID: the making of every shard of the newest version that holds it, by whichever job.
    follow
        Go on as the job does, until it ends or its driver is gone; with --json an event a line.
    """
    options = options or ReadOptions()
    if uid is not None and (job or follow or shard):
        raise ValueError(
            "--uid looks through the logs of all jobs; give it without --job, --shard and --follow"
        )
    corpus = options.open()
    jobs = written.jobs(corpus.store)
    if not jobs:
        raise ValueError(
            f"no command left a log at {corpus.store.uri}; give --corpus a corpus that one has written"
        )
    if job is not None and job not in jobs:
        raise ValueError(f"there is no log of job {job!r} at {corpus.store.uri}; the newest is {jobs[-1]}")
    if step is not None:
        check_step(corpus, job or jobs[-1], step)
    if uid is not None:
        show(of_asset(corpus, jobs, uid, step), options)
    elif follow:
        chosen = job or jobs[-1]
        for event in matching(running.followed(corpus.store, chosen), chosen, step, shard):
            write(json.dumps(masked_tree(event)) if options.json else masked_here(line(event)))
    else:
        show(of_jobs(corpus.store, [job] if job else jobs, step, shard), options)


def check_step(corpus: Corpus, job: str, step: str) -> None:
    """Of a word that is no step nothing would be shown, as of one that did nothing."""
    listed = corpus.head().artifacts
    if step in listed:
        return
    from pipeline import config, plan  # noqa: PLC0415  # torch, three seconds

    names = dict.fromkeys([*(one.name for one in plan.steps(config.Config())), *listed])
    if step not in names and not any(step in named(event) for event in written.read(corpus.store, job)):
        raise ValueError(f"there is no step {step!r}; the steps are {', '.join(names)}")


def named(event: Event) -> tuple[str | None, str | None]:
    """What an event is of: a step, or work that is told by a name."""
    return event.get("step"), event.get("name")


def show(events: Iterable[Event], options: ReadOptions) -> None:
    """For people a line as it is read, since a job may have made a million shards."""
    if options.json:
        answer(list(events), "", json=True)
        return
    for event in events:
        if event["event"] != "progress":
            write(masked_here(line(event)))


def write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def of_jobs(store: Store, jobs: Collection[str], step: str | None, shard: str | None) -> Iterator[Event]:
    """Of the newest job; of those that made a shard, where one is asked for, the newest."""
    for job in reversed([*jobs]):
        found = matching(written.read(store, job), job, step, shard)
        first = next(found, None)
        if first is not None or shard is None:
            yield from ([] if first is None else [first])
            yield from found
            return
    raise ValueError(
        f"no log of {store.uri} tells of a shard {shard!r}; `pardalis logs --step STEP` lists slots and keys"
    )


def matching(
    events: Iterable[Event], job: str, step: str | None, shard: str | None = None
) -> Iterator[Event]:
    """Those that are asked for, with the id of their job. How a job began and ended is of every step."""
    for event in events:
        if shard is not None and (event["event"] != "shard" or shard not in (event["slot"], event["key"])):
            continue
        is_whole = event["event"] in {"job", "gone", *written.CLOSING} and shard is None
        if step is None or is_whole or step in named(event):
            yield {"job": job, **event}


def of_asset(corpus: Corpus, jobs: Collection[str], uid: str, step: str | None) -> Iterator[Event]:
    """How each shard that holds the asset was made, in the order of the version's steps; what no log tells
    of is told as an event of the kind ``untold``.
    """
    naming.check_uid(uid)
    version = corpus.newest()
    held = {key: (name, slot) for name, slot, key in holding(corpus, version, uid) if step in (None, name)}
    if not held:
        where = f"step {step!r}" if step else "no step"
        raise ValueError(
            f"{uid} is in no shard of version {version.number}, {where}; see `pardalis where-is {uid}`"
        )
    told: dict[str, Event] = {}
    for job in reversed([*jobs]):
        for event in made(corpus.store, job, held.keys() - told.keys()):
            told.setdefault(event["key"], {"job": job, **event})
        if len(told) == len(held):
            break
    for key, (name, slot) in held.items():
        yield told.get(key, {"event": "untold", "step": name, "slot": slot, "key": key})


def made(store: Store, job: str, keys: Collection[str]) -> Iterator[Event]:
    """The shards of these keys that a job made. Lines are parsed only where a key stands in them."""
    wanted = [key.encode() for key in keys]
    for data in written.segments(store, job):
        if any(key in data for key in wanted):
            lines = b"\n".join(one for one in data.splitlines() if any(key in one for key in wanted))
            yield from (
                event for event in written.parsed(lines) if event["event"] == "shard" and event["key"] in keys
            )


def holding(corpus: Corpus, version: Version, uid: str) -> Iterator[tuple[str, str, str]]:
    """(step, slot, key) of each shard that holds the asset: by its rows' slot, else by what it names."""
    records = corpus.artifact(version, "records").shards
    provider = uid.partition(":")[0]
    its = {f"{n:05d}" for n, one in enumerate(version.deliveries) if one.provider == provider}
    mine = set[str]()
    for slot, shard in records.items():
        if generation(slot) in its:
            uids = tables.read_parquet(refs.of(corpus.store, shard, RECORDS), [schema.UID])[schema.UID.name]
            if pc.any(pc.equal(uids, uid)).as_py():
                mine.add(slot)
    generations = {generation(slot) for slot in mine}
    for step in version.artifacts:
        for slot, shard in corpus.artifact(version, step).shards.items():
            rows = slot.partition(".")[0]
            is_packed = not rows.replace("-", "").isdigit()
            if rows in records:
                holds = rows in mine
            elif is_packed or generation(rows) in generations:
                holds = any(True for _ in locating.named_in(corpus.store, shard.folder, [*shard.files], uid))
            else:
                holds = False
            if holds:
                yield step, slot, shard.key


def line(event: Mapping[str, Any]) -> str:
    """An event for people."""
    rest = {
        name: value for name, value in event.items() if name not in ("event", "time", "job", "known", "ahead")
    }
    when = running.instant(event["time"]) if "time" in event else "-"
    if event["event"] == "progress":
        return f"{when} progress {'; '.join(running.told(event))}"
    told = " ".join(f"{name}={value}" for name, value in rest.items())
    return f"{when} {event['event']:<8} {told}".rstrip()
