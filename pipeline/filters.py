"""Decide which admitted images enter the corpus, and say why the others do not.

Each rule has its own threshold and its own code; the first one broken, cheapest first, is the verdict, with
the value and the threshold. Bounds are inclusive: a picture that just meets a rule stays.
"""

from __future__ import annotations

import functools

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from infra.artifact import Made
from infra.settings import Section
from pipeline import outcomes, schema, tables
from pipeline.stage import Stage, opened
from pipeline.step import ROWS, Report, Step, Task, aligned

READS = (schema.WIDTH, schema.HEIGHT, schema.DESCRIPTION, schema.PIXEL_STD)


class FilterRules(Section):
    min_side: int = Field(64, ge=1)
    """Shorter side, in pixels."""
    max_aspect: float = Field(3.0, ge=1)
    """Longer side over shorter side."""
    min_caption_chars: int = Field(2, ge=0)
    max_caption_chars: int = Field(2000, ge=1)
    min_pixel_std: float = Field(2.0, ge=0)
    """Standard deviation over all pixels, of 255: below it the picture is blank."""


def judge(batch: pa.Table, rules: FilterRules) -> pa.Table:
    """The first rule that each row breaks, as a verdict with value and threshold; null where it breaks
    none.
    """
    width, height, caption, std = (batch[column.name] for column in READS)
    shorter, longer = pc.min_element_wise(width, height), pc.max_element_wise(width, height)
    aspect = pc.divide(pc.cast(longer, pa.float64()), pc.cast(shorter, pa.float64()))
    chars = pc.utf8_length(caption)
    broken = (
        ("min_side", shorter, pc.less(shorter, rules.min_side), "<", rules.min_side),
        ("max_aspect", aspect, pc.greater(aspect, rules.max_aspect), ">", rules.max_aspect),
        ("min_caption_chars", chars, pc.less(chars, rules.min_caption_chars), "<", rules.min_caption_chars),
        (
            "max_caption_chars",
            chars,
            pc.greater(chars, rules.max_caption_chars),
            ">",
            rules.max_caption_chars,
        ),
        ("blank", std, pc.less(std, rules.min_pixel_std), "<", rules.min_pixel_std),
    )
    conditions = pc.make_struct(*(condition for _, _, condition, _, _ in broken))
    verdicts = (
        pc.binary_join_element_wise(f"rejected:{name}:", pc.cast(value, pa.string()), sign, str(bound), " ")
        for name, value, _, sign, bound in broken
    )
    return pa.table([pc.case_when(conditions, *verdicts)], schema=pa.schema([schema.VERDICT]))


def stage(rules: FilterRules) -> Stage:
    return Stage(
        name="filter",
        reads=READS,
        adds=(schema.VERDICT,),
        open=lambda: functools.partial(judge, rules=rules),
        batch_rows=4096,
    )


def step(rules: FilterRules) -> Step:
    return Step(
        name="filter",
        inputs=("images",),
        settings=rules,
        tasks=lambda source: aligned(source, rows=("images", ROWS)),
        open=lambda: functools.partial(filter_shard, rules=rules),
    )


def filter_shard(task: Task, _report: Report, *, rules: FilterRules) -> Made:
    rows = tables.read_parquet(task.only("rows"))
    judged = opened([stage(rules)])(outcomes.kept(rows))
    rows = outcomes.settle(rows, judged[schema.VERDICT.name].to_pylist(), "filter")
    return Made(files={ROWS: tables.to_parquet(rows)}, counts=outcomes.counts(rows, "filter"))
