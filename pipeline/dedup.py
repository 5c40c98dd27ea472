"""The dedup step: one task a generation, judged against everything that came before.

Groups of earlier rows never change: a new row joins the group of the earliest-seen picture that it is the same
as, or opens one under its own uid. The first seen stays; the others are rejected and named after it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pyarrow as pa

from infra.artifact import Made
from pipeline import duplicates, numerics, refs, rows, schema, tables
from pipeline.duplicates import DuplicateConfig
from pipeline.outcomes import KEPT
from pipeline.step import ROWS, Report, Source, Step, Task, generation

SEEN = "seen.parquet"
"""Signature of the first-seen member of every group that this generation opened."""
JUDGED = pa.schema([schema.UID, schema.GROUP, schema.VERDICT])
FIRST = pa.schema([schema.UID, schema.SHA256, schema.STRUCTURE, schema.TINT])


def step(config: DuplicateConfig) -> Step:
    return Step(
        name="dedup",
        inputs=("filter",),
        settings=config,
        tasks=list_tasks,
        open=lambda: functools.partial(judge, config=config),
    )
