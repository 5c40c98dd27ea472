"""A rule over a measured column: what it measured, its bound, and the verdict on the rows that break it.

Bounds are inclusive: a row that just meets a rule stays. What nobody measured is null, and breaks nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        return pc.fill_null(compare(self.value, self.bound), fill_value=False)

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
