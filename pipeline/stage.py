"""A stage: a function over a record batch, with the columns it reads and the columns it adds.

Stages keep rows: same count, same order, more columns. :meth:`Stage.apply` hands the function only the
columns that it declared and refuses anything that it did not promise. Only a step may drop, join or regroup
rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

Transform = Callable[[pa.Table], pa.Table]


class SchemaError(ValueError):
    """A stage returned columns or rows that it did not declare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    name: str
    reads: tuple[pa.Field, ...]
    adds: tuple[pa.Field, ...]
    open: Callable[[], Transform]
    """Called once a worker. Load weights here and return a function that closes over them."""
    batch_rows: int = 256

    def apply(self, transform: Transform, batch: pa.Table) -> pa.Table:
        """Run ``transform`` on the columns it declared, and append the columns it declared."""
        added = transform(batch.select([column.name for column in self.reads]))
        promised = pa.schema(self.adds)
        if not added.schema.equals(promised):
            raise SchemaError(
                f"stage {self.name!r} promised {describe(promised)}, returned {describe(added.schema)}"
            )
        if added.num_rows != batch.num_rows:
            raise SchemaError(
                f"stage {self.name!r} received {batch.num_rows} rows, returned {added.num_rows}"
            )
        for column, values in zip(self.adds, added.columns, strict=True):
            batch = batch.append_column(column, values)
        return batch


def describe(schema: pa.Schema) -> str:
    return "(" + ", ".join(f"{column.name}: {column.type}" for column in schema) + ")"


def opened(stages: Sequence[Stage]) -> Transform:
    """The stages one after the other, each in batches of its own size. Batches never cross the table's
    end.
    """
    transforms = [stage.open() for stage in stages]

    def run(table: pa.Table) -> pa.Table:
        for stage, transform in zip(stages, transforms, strict=True):
            starts = range(0, max(table.num_rows, 1), stage.batch_rows)
            batches = [table.slice(start, stage.batch_rows) for start in starts]
            table = pa.concat_tables([stage.apply(transform, batch) for batch in batches])
        return table

    return run
