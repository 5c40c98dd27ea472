"""Join each row with its duplicate group, and send whole groups to training or to validation.

The split stands before anything that is fitted. It is a function of the group's first-seen uid alone, so it
never changes when the corpus grows, and no duplicate of a validation image is ever trained on.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import pyarrow as pa
from pydantic import Field

from infra.artifact import Made
from infra.settings import Section
from pipeline import erasing, outcomes, refs, schema, tables
from pipeline.step import ROWS, Report, Source, Step, Task, generation

TRAIN = "train"
VALIDATION = "validation"


class SplitConfig(Section):
    validation: float = Field(0.01, ge=0, lt=1)
    """Share of duplicate groups held out."""
    seed: int = 0


def side(group: str, config: SplitConfig) -> str:
    """The split of a duplicate group."""
    digest = hashlib.sha256(f"{config.seed}:{group}".encode()).digest()
    return VALIDATION if int.from_bytes(digest[:8]) < config.validation * 2**64 else TRAIN


def step(config: SplitConfig) -> Step:
    return Step(
        name="split",
        inputs=("dedup", "screen"),
        settings=config,
        tasks=list_tasks,
        open=lambda: functools.partial(join, config=config),
        erase=erasing.rows,
    )


def list_tasks(source: Source) -> Sequence[Task]:
    groups = source.artifact("dedup").shards
    return [
        Task(
            slot=slot,
            reads={
                "rows": (refs.of(source.store, shard, ROWS),),
                "groups": (refs.of(source.store, groups[generation(slot)], f"{slot}.parquet"),),
            },
        )
        for slot, shard in source.artifact("screen").shards.items()
    ]


def join(task: Task, _report: Report, *, config: SplitConfig) -> Made:
    rows = with_groups(
        tables.read_parquet(task.only("rows")), tables.read_parquet(task.only("groups")), config
    )
    return Made(files={ROWS: tables.to_parquet(rows)}, counts=outcomes.counts(rows, "split"))


def with_groups(rows: pa.Table, groups: pa.Table, config: SplitConfig) -> pa.Table:
    """``groups`` has one row for each kept row of ``rows``, in the same order: its group and its verdict."""
    of_kept = dict(zip(*(groups[column].to_pylist() for column in ("uid", "group")), strict=True))
    rows = outcomes.settle(rows, groups[schema.VERDICT.name].to_pylist(), "dedup")
    names = [of_kept.get(uid) for uid in rows[schema.UID.name].to_pylist()]
    sides = [None if name is None else side(name, config) for name in names]
    rows = rows.append_column(schema.GROUP, pa.array(names, schema.GROUP.type))
    return rows.append_column(schema.SPLIT, pa.array(sides, schema.SPLIT.type))
