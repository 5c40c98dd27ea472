"""The dedup step: one task a generation, judged against everything that came before.

Groups of earlier rows never change: a new row joins the group of the earliest-seen picture that it is the
same as, or opens one under its own uid. The first seen stays; the others are rejected and named after it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pyarrow as pa

from infra.artifact import Made
from pipeline import duplicates, refs, rows, schema, tables
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
    """One task a generation: its rows, and what every earlier generation saw first."""
    shards = source.artifact("filter").shards
    names = sorted({generation(slot) for slot in shards})
    return [
        Task(
            slot=name,
            reads={
                "rows": tuple(
                    refs.of(source.store, shard, ROWS)
                    for slot, shard in sorted(shards.items())
                    if generation(slot) == name
                ),
                "earlier": tuple(
                    refs.of(source.store, shard, ROWS)
                    for slot, shard in sorted(shards.items())
                    if generation(slot) < name
                ),
            },
            facts={"slots": [slot for slot in sorted(shards) if generation(slot) == name]},
        )
        for name in names
    ]


def judge(task: Task, _report: Report, *, config: DuplicateConfig) -> Made:
    new = [rows.kept(ref) for ref in task.reads["rows"]]
    earlier = [rows.kept(ref) for ref in task.reads["earlier"]]
    table = pa.concat_tables([*earlier, *new])
    uids, digests = (table[column.name].to_pylist() for column in (schema.UID, schema.SHA256))
    first = duplicates.group(duplicates.from_columns(table), digests, config)
    files, counts, at = {}, {KEPT: 0}, sum(part.num_rows for part in earlier)
    seen = set(uids[:at])
    for slot, part in zip(task.facts["slots"], new, strict=True):
        places = range(at, at + part.num_rows)
        at += part.num_rows
        verdicts = [verdict(place, int(first[place]), uids, digests, seen) for place in places]
        for found in verdicts:
            outcome = KEPT if found is None else ":".join(found.split(":")[:2])
            counts[outcome] = counts.get(outcome, 0) + 1
        judged = {"uid": part["uid"], "group": [uids[first[place]] for place in places], "verdict": verdicts}
        files[f"{slot}.parquet"] = tables.to_parquet(pa.table(judged, schema=JUDGED))
    return Made(files=files, counts=counts)


def verdict(place: int, first: int, uids: list[str], digests: list[str], seen: set[str]) -> str | None:
    """Null for the first of its group; a uid that came before is no new asset, whatever it shows."""
    uid = uids[place]
    if uid in seen:
        return f"rejected:uid_seen: {uid}"
    seen.add(uid)
    if first == place:
        return None
    kind = "exact_duplicate" if digests[first] == digests[place] else "near_duplicate"
    return f"rejected:{kind}: {uids[first]}"
