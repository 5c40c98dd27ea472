"""Verdicts by thresholds over the scores: no model runs here, so that a threshold is changed in seconds.

A threshold that is None is off; one that is set asks for its scorer in ``pipeline.scores``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from infra.artifact import Made
from infra.settings import Section
from pipeline import erasing, outcomes, schema, tables
from pipeline.embed import FEATURES
from pipeline.filtering.rules import Rule, verdicts
from pipeline.scores import SCORES, ScoreConfig
from pipeline.step import ROWS, Report, Step, Task, aligned


class ScreenRules(Section):
    max_nsfw: float | None = Field(None, ge=0, le=1)
    """Probability. Its authors take under 0.2 for safe and over 0.8 for not."""
    max_stock_marks: int | None = Field(None, ge=0)
    """Readings that name an agency."""
    max_text_repeats: int | None = Field(None, ge=1)
    """How often one text of four letters and more may stand in a picture."""
    max_text_share: float | None = Field(None, ge=0, le=1)
    """Of the picture, under any text."""
    max_faces: int | None = Field(None, ge=0)
    max_unrecorded_face: float | None = Field(None, ge=0, le=1)
    """Share of the picture of the largest face, where the record says that nobody recognisable is pictured:
    over it, a person decides."""
    min_alignment: float | None = Field(None, ge=-1, le=1)
    """Cosine; it means nothing for another encoder."""
    min_aesthetic: float | None = None
    """On the scale of the head."""


SCORER_OF: Mapping[str, str] = {
    "max_nsfw": "nsfw",
    "max_stock_marks": "watermark",
    "max_text_repeats": "watermark",
    "max_text_share": "watermark",
    "max_faces": "faces",
    "max_unrecorded_face": "faces",
    "min_alignment": "alignment",
    "min_aesthetic": "aesthetic",
}
"""The switch in ``pipeline.scores`` that a threshold needs."""


def unscored(rules: ScreenRules, config: ScoreConfig) -> list[tuple[str, str]]:
    """Thresholds that are set and the scorer that each needs, where that is off."""
    return [
        (threshold, scorer)
        for threshold, scorer in SCORER_OF.items()
        if getattr(rules, threshold) is not None and not getattr(config, scorer)
    ]


def judge(table: pa.Table, rules: ScreenRules) -> pa.Table:
    return verdicts(table, rules_of(table, rules))


def rules_of(table: pa.Table, rules: ScreenRules) -> tuple[Rule, ...]:
    """Those whose threshold is set, over rows that have scores."""
    nobody = pc.equal(table[schema.PEOPLE.name], "no")
    unrecorded = pc.if_else(nobody, table[schema.FACE_SHARE.name], None)
    asked: tuple[tuple[str, pa.Field, Literal["<", ">"], float | None], ...] = (
        ("nsfw", schema.NSFW, ">", rules.max_nsfw),
        ("watermark", schema.STOCK_MARKS, ">", rules.max_stock_marks),
        ("repeated_text", schema.TEXT_REPEATS, ">", rules.max_text_repeats),
        ("text_share", schema.TEXT_SHARE, ">", rules.max_text_share),
        ("faces", schema.FACES, ">", rules.max_faces),
        ("alignment", schema.ALIGNMENT, "<", rules.min_alignment),
        ("aesthetic", schema.AESTHETIC, "<", rules.min_aesthetic),
    )
    found = [
        Rule(code=code, value=table[column.name], sign=sign, bound=bound)
        for code, column, sign, bound in asked
        if bound is not None
    ]
    if rules.max_unrecorded_face is not None:
        face = Rule(
            code="unrecorded_face",
            value=unrecorded,
            sign=">",
            bound=rules.max_unrecorded_face,
            outcome="quarantined",
        )
        found.append(face)
    return tuple(found)


def step(rules: ScreenRules) -> Step:
    return Step(
        name="screen",
        inputs=("filter", "features", "scores"),
        settings=rules,
        tasks=lambda source: aligned(
            source, rows=("filter", ROWS), features=("features", FEATURES), scores=("scores", SCORES)
        ),
        open=lambda: functools.partial(screen_shard, rules=rules),
        erase=erasing.rows,
    )


def screen_shard(task: Task, _report: Report, *, rules: ScreenRules) -> Made:
    rows = tables.read_parquet(task.only("rows"))
    rows = joined(rows, tables.read_ipc(task.only("features")), schema.LOOKS)
    rows = joined(rows, tables.read_ipc(task.only("scores")), schema.MEASURED)
    judged = judge(outcomes.kept(rows), rules)
    rows = outcomes.settle(rows, judged[schema.VERDICT.name].to_pylist(), "screen")
    return Made(files={ROWS: tables.to_parquet(rows)}, counts=outcomes.counts(rows, "screen"))


def joined(rows: pa.Table, found: pa.Table, columns: Sequence[pa.Field]) -> pa.Table:
    """With columns of ``found``, which has one row for each kept row of ``rows``, in the same order; the
    others get nulls.

    Raises ValueError for what is of other rows.
    """
    kept = outcomes.is_kept(rows)
    if found[schema.UID.name] != rows[schema.UID.name].filter(kept):
        names = ", ".join(column.name for column in columns)
        raise ValueError(f"{names} are of other rows than these; make them again")
    place = pc.subtract(pc.cumulative_sum(pc.cast(kept, pa.int64())), 1)
    at = pc.if_else(kept, place, None)
    for column in columns:
        rows = rows.append_column(column, found[column.name].take(at))
    return rows
