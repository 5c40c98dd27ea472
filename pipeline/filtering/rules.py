"""A rule over a measured column: what it measured, its bound, and the verdict on the rows that break it.

Bounds are inclusive: a row that just meets a rule stays. What nobody measured is null, and breaks nothing.

The surprising rule: a bound is as precise as the column. 0.6 in float32 is over 0.6 in float64, and a score
that an agency sent as 0.6 just meets a bound of 0.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    code: str
    value: pa.ChunkedArray
    """A number a row."""
    sign: Literal["<", ">"]
    """How a value that breaks the rule stands to the bound."""
    bound: float
    outcome: Literal["rejected", "quarantined"] = "rejected"
    words: pa.ChunkedArray | None = None
    """What a verdict tells in place of value and bound, where those say little."""

    @property
    def broken(self) -> pa.ChunkedArray:
        compare = pc.less if self.sign == "<" else pc.greater
        kind = self.value.type
        bound = pa.scalar(self.bound, kind) if pa.types.is_floating(kind) else self.bound
        return pc.fill_null(compare(self.value, bound), fill_value=False)

    @property
    def verdict(self) -> pa.ChunkedArray:
        head = f"{self.outcome}:{self.code}:"
        if self.words is not None:
            return pc.binary_join_element_wise(head, self.words, " ")
        value = pc.cast(self.value, pa.string())
        return pc.binary_join_element_wise(head, value, self.sign, str(self.bound), " ")


def verdicts(table: pa.Table, asked: Sequence[Rule]) -> pa.Table:
    """The first rule that each row breaks, as a verdict; else null."""
    found = pa.nulls(table.num_rows, schema.VERDICT.type)
    if asked:
        broken = pc.make_struct(*(rule.broken for rule in asked))
        found = pc.case_when(broken, *(rule.verdict for rule in asked))
    return pa.table([found], schema=pa.schema([schema.VERDICT]))


def first_verdicts(table: pa.Table, parts: Sequence[Callable[[pa.Table], Iterable[Rule]]]) -> pa.Table:
    """The same, where a part of the rules measures only the rows that broke none of the parts before it."""
    found = pa.nulls(table.num_rows, schema.VERDICT.type)
    for part in parts:
        left = pc.is_null(found)
        rows = table.filter(left)
        judged = verdicts(rows, tuple(part(rows)))[schema.VERDICT.name]
        found = pc.replace_with_mask(found, left, judged.combine_chunks())
    return pa.table([found], schema=pa.schema([schema.VERDICT]))
