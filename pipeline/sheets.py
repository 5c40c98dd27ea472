"""Tables for people and their programs: CSV for spreadsheets, and Parquet.

The surprising rule: a spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@``, so in the CSV
such a text gets an apostrophe before it. The Parquet file has it as it is.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import pyarrow as pa

from infra.storage import Store
from pipeline import tables

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The last two are passed over by spreadsheets, which then look at what follows."""


def write(out: Store, name: str, table: pa.Table) -> list[str]:
    """``NAME.csv`` and ``NAME.parquet``; where they are."""
    files = {f"{name}.csv": to_csv(table), f"{name}.parquet": tables.to_parquet(table)}
    for file, data in files.items():
        out.write(file, data)
    return [out.where(file) for file in files]


def to_csv(table: pa.Table) -> bytes:
    """UTF-8 with a line of names, as RFC 4180 has it; an unknown cell is empty."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\r\n")  # a cell that has one of these is quoted
    writer.writerow(map(guarded, table.column_names))
    for batch in table.to_batches(max_chunksize=tables.PIECE_ROWS):
        writer.writerows([guarded(cell) for cell in row.values()] for row in batch.to_pylist())
    return sink.getvalue().encode()


def guarded(cell: Any) -> Any:
    """What a spreadsheet shows and does not run.

    >>> guarded("=1+1"), guarded("acme:c1"), guarded(-3), guarded(None)
    ("'=1+1", 'acme:c1', -3, '')
    """
    if cell is None:
        return ""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
