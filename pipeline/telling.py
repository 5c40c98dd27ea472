"""What a job tells of its steps as it makes them: events, metrics, and what the forecast goes by.

Of an asset nothing is told, only of the shard that holds it: by slot and key, which `pardalis logs --uid`
finds for an asset as long as the corpus holds it. So nothing here has to be erased with what is taken back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from infra import metrics, s3
from infra.artifact import Artifact, Shard
from infra.corpus import Version
from infra.forecast import Part
from infra.telemetry import Log
from pipeline.engine import Done
from pipeline.step import Step


def is_pinned(step: Step, version: Version) -> bool:
    """A model that was fitted once and for all."""
    return step.fitted and step.stays is None and step.name in version.models


def part(step: Step, version: Version) -> Part:
    pinned = is_pinned(step, version)
    return Part(name=step.name, reads=step.inputs, fitted=step.fitted, pinned=pinned)


def plan(log: Log, steps: Sequence[Step], version: Version) -> None:
    """Told before the first of them begins."""
    log.forecast.plan(part(step, version) for step in steps)
    log.event("plan", steps=[step.name for step in steps])


def pinned(log: Log, step: Step, version: Version) -> None:
    log.event("pinned", step=step.name, key=version.models[step.name])
    log.forecast.settle(part(step, version), 1)
    forecast(log)


def found(log: Log, step: Step, version: Version, artifact: Artifact) -> None:
    """The whole artifact is there."""
    log.event("found", step=step.name, key=artifact.key, shards=len(artifact.shards))
    metrics.jobs.shards.labels(step.name, "found").inc(len(artifact.shards))
    log.forecast.settle(part(step, version), len(artifact.shards))
    forecast(log)


def begin(log: Log, step: Step, version: Version, *, there: int, missing: int) -> None:
    """Some shards are missing; those that are there are told at once."""
    if there:
        log.event("found", step=step.name, shards=there)
        metrics.jobs.shards.labels(step.name, "found").inc(there)
    log.event("begin", step=step.name, shards=missing)
    log.forecast.begin(part(step, version), found=there, missing=missing)
    forecast(log)


def made(log: Log, step: Step, done: Done) -> None:
    size = written(done.shard)
    told = {name: rows for name, rows in done.shard.counts.items() if rows}
    log.shard(
        rows=0 if step.fitted else sum(told.values()),
        step=step.name,
        slot=done.slot,
        key=done.shard.key,
        node=done.node,
        began=round(done.began, 3),
        seconds=round(done.seconds, 3),
        tries=done.tries,
        counts=told,
        bytes=size,
    )
    metrics.jobs.shards.labels(step.name, "made").inc()
    metrics.jobs.shard_seconds.labels(step.name).observe(done.seconds)
    metrics.jobs.written_bytes.labels(step.name).inc(size)
    for outcome, rows in told.items():
        metrics.jobs.rows.labels(step.name, outcome).inc(rows)
    log.forecast.made(step.name, done.seconds, is_usual=not step.erasing)
    forecast(log)


def end(log: Log, step: Step) -> None:
    log.forecast.end(step.name)
    forecast(log)


def written(shard: Shard) -> int:
    """Bytes, without files that another shard wrote."""
    return sum(file.size for file in shard.files.values() if file.at is None)


def forecast(log: Log) -> None:
    ahead = log.forecast.ahead()
    metrics.jobs.plan_done_ratio.set(math.nan if ahead.share is None else ahead.share)
    metrics.jobs.plan_left_seconds.set(math.nan if ahead.left_s is None else ahead.left_s)


def count_retry(operation: str) -> None:
    metrics.jobs.storage_retries.labels(operation).inc()


s3.retried.append(count_retry)
