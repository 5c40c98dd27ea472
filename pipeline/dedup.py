"""The dedup step: one task a generation, judged against everything that came before.

Groups of earlier rows never change: a new row joins the group of the earliest-seen picture that it is the
same as, or opens one under its own uid. The first seen stays; the others are rejected and named after it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pyarrow as pa

from infra.artifact import Made
from pipeline import duplicates, refs, rows, schema, signatures, tables
from pipeline.duplicates import DuplicateConfig
from pipeline.outcomes import KEPT
from pipeline.step import ROWS, Report, Source, Step, Task, generation

JUDGED = pa.schema([schema.UID, schema.GROUP, schema.VERDICT])


def step(config: DuplicateConfig) -> Step:
    return Step(
        name="dedup",
        inputs=("filter",),
        settings=config,
        tasks=list_tasks,
        open=lambda: functools.partial(judge, config=config),
    )


def list_tasks(source: Source) -> Sequence[Task]:
    """One task a generation; it reads its own rows and those of every generation before it."""
    shards = sorted(source.artifact("filter").shards.items())
    names = sorted({generation(slot) for slot, _ in shards})
    rows_of = {
        name: tuple(refs.of(source.store, shard, ROWS) for slot, shard in shards if generation(slot) == name)
        for name in names
    }
    return [
        Task(
            slot=name,
            reads={earlier: rows_of[earlier] for earlier in names if earlier <= name},
            facts={"slots": [slot for slot, _ in shards if generation(slot) == name]},
        )
        for name in names
    ]


def judge(task: Task, _report: Report, *, config: DuplicateConfig) -> Made:
    own = task.reads[max(task.reads)]
    parts = [rows.kept(ref) for name in sorted(task.reads) for ref in task.reads[name]]
    table = pa.concat_tables(parts)
    uids, digests = (table[column.name].to_pylist() for column in (schema.UID, schema.SHA256))
    # By order alone: what is delivered later never changes what an earlier row was told.
    first = duplicates.group(signatures.from_columns(table), digests, config).tolist()
    at = sum(part.num_rows for part in parts[: -len(own)])
    files, counts = {}, {KEPT: 0}
    for slot, part in zip(task.facts["slots"], parts[-len(own) :], strict=True):
        verdicts = []
        for place in range(at, at + part.num_rows):
            found = repeats(place, first[place], digests)
            verdicts.append(found and f"rejected:{found}: {uids[first[place]]}")
            outcome = f"rejected:{found}" if found else KEPT
            counts[outcome] = counts.get(outcome, 0) + 1
        groups = [uids[first[place]] for place in range(at, at + part.num_rows)]
        at += part.num_rows
        judged = pa.table({"uid": part["uid"], "group": groups, "verdict": verdicts}, schema=JUDGED)
        files[f"{slot}.parquet"] = tables.to_parquet(judged)
    return Made(files=files, counts=counts)


def repeats(place: int, first: int, digests: Sequence[str]) -> str | None:
    """How a row repeats the first of its group; None if it is the first."""
    if place == first:
        return None
    return "exact_duplicate" if digests[first] == digests[place] else "near_duplicate"
