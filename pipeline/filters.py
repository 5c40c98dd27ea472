"""Decide which admitted images enter the corpus, and say why the others do not.

Each rule has its own threshold and its own code; the first one broken, cheapest first, is the verdict, with
the value and the threshold. Bounds are inclusive: a picture that just meets a rule stays.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from infra.artifact import Made
from infra.settings import Section
from pipeline import outcomes, schema, tables
from pipeline.stage import Stage, opened
from pipeline.step import ROWS, Report, Step, Task, aligned

READS = (schema.WIDTH, schema.HEIGHT, schema.DESCRIPTION, schema.PIXEL_STD)


class FilterRules(Section):
    min_side: int = Field(128, ge=1)
    """Shorter side, in pixels."""
    max_aspect: float = Field(3.0, ge=1)
    """Longer side over shorter side."""
    min_caption_chars: int = Field(2, ge=0)
    """Unicode characters, white space around the caption not counted."""
    max_caption_chars: int = Field(2000, ge=1)
    min_caption_words: int = Field(1, ge=0)
    """Runs without white space: a sentence in Chinese is one word."""
    max_caption_words: int = Field(400, ge=1)
    min_pixel_std: float = Field(2.0, ge=0)
    """Standard deviation over all pixels, of 255: below it the picture is blank or flat."""

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        for unit in ("chars", "words"):
            low, high = getattr(self, f"min_caption_{unit}"), getattr(self, f"max_caption_{unit}")
            if low > high:
                raise ValueError(
                    f"min_caption_{unit} = {low} is over max_caption_{unit} = {high}; no caption can pass"
                )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    code: str
    value: pa.ChunkedArray
    sign: Literal["<", ">"]
    """How a value that breaks the rule stands to the bound."""
    bound: float

    @property
    def broken(self) -> pa.ChunkedArray:
        """A value that nobody measured breaks nothing: rows without pixels were settled before."""
        compare = pc.less if self.sign == "<" else pc.greater
        return pc.fill_null(compare(self.value, self.bound), fill_value=False)

    @property
    def verdict(self) -> pa.ChunkedArray:
        value = pc.cast(self.value, pa.string())
        return pc.binary_join_element_wise(f"rejected:{self.code}:", value, self.sign, str(self.bound), " ")


def judge(batch: pa.Table, rules: FilterRules) -> pa.Table:
    """The first rule that each row breaks, as a verdict with value and threshold; else null."""
    asked = rules_of(batch, rules)
    broken = pc.make_struct(*(rule.broken for rule in asked))
    return pa.table(
        [pc.case_when(broken, *(rule.verdict for rule in asked))], schema=pa.schema([schema.VERDICT])
    )


def rules_of(batch: pa.Table, rules: FilterRules) -> tuple[Rule, ...]:
    """Cheapest first; the numbers of the catalog before the captions."""
    width, height, caption, std = (batch[column.name] for column in READS)
    shorter, longer = pc.min_element_wise(width, height), pc.max_element_wise(width, height)
    aspect = pc.divide(pc.cast(longer, pa.float64()), pc.cast(shorter, pa.float64()))
    chars = pc.utf8_length(pc.utf8_trim_whitespace(caption))
    words = pc.count_substring_regex(pc.utf8_trim_whitespace(caption), r"[^\s\pZ]+")
    return (
        Rule(code="min_side", value=shorter, sign="<", bound=rules.min_side),
        Rule(code="max_aspect", value=aspect, sign=">", bound=rules.max_aspect),
        Rule(code="blank", value=std, sign="<", bound=rules.min_pixel_std),
        Rule(code="min_caption_chars", value=chars, sign="<", bound=rules.min_caption_chars),
        Rule(code="max_caption_chars", value=chars, sign=">", bound=rules.max_caption_chars),
        Rule(code="min_caption_words", value=words, sign="<", bound=rules.min_caption_words),
        Rule(code="max_caption_words", value=words, sign=">", bound=rules.max_caption_words),
    )


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
