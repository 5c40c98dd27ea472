"""Every row ends in exactly one recorded outcome, and rows in = sum of outcomes.

A step judges the rows that are still kept and gives each a *verdict*: null, or ``OUTCOME:CODE`` with an
optional ``: detail``. Judged rows stay in the table, so that the catalog can say why anything is not in the
corpus.
"""

from __future__ import annotations

import collections

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema

KEPT = "kept"
OUTCOMES = (KEPT, "rejected", "quarantined", "failed")


def is_kept(table: pa.Table) -> pa.ChunkedArray:
    return pc.equal(table[schema.OUTCOME.name], KEPT)


def kept(table: pa.Table) -> pa.Table:
    return table.filter(is_kept(table))


def settle(table: pa.Table, verdicts: list[str | None], step: str) -> pa.Table:
    """Write verdicts on the rows that are still kept, in their order; rows settled earlier are left alone."""
    # A loop over rows: verdicts are rare and the three columns are small next to the images of the same rows.
    mask = is_kept(table).to_pylist()
    if sum(mask) != len(verdicts):
        raise ValueError(f"step {step!r} gave {len(verdicts)} verdicts for {sum(mask)} kept rows")
    outcome, by, reasons = (table[column.name].to_pylist() for column in schema.SETTLED)
    rows = [row for row, here in enumerate(mask) if here]
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict is not None:
            outcome[row], _, reason = verdict.partition(":")
            by[row], reasons[row] = step, [reason.strip()]
    for column, values in zip(schema.SETTLED, (outcome, by, reasons), strict=True):
        at = table.schema.get_field_index(column.name)
        table = table.set_column(at, column, pa.array(values, column.type))
    return table


def counts(table: pa.Table, step: str) -> dict[str, int]:
    """Outcomes of the rows that entered ``step``: kept, or ``OUTCOME:CODE`` for those that it settled."""
    total: collections.Counter[str] = collections.Counter()
    columns = (table[column.name].to_pylist() for column in schema.SETTLED)
    for outcome, by, reasons in zip(*columns, strict=True):
        if outcome == KEPT:
            total[KEPT] += 1
        elif by == step:
            total[f"{outcome}:{reasons[0].partition(':')[0]}"] += 1
    return dict(sorted(total.items()))
