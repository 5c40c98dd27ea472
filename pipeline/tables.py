"""Tables to bytes and back, so that the same rows are always the same bytes."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.artifact import ASKED_AT_ONCE
from pipeline import refs, schema

PIECE_ROWS, PIECE_CHARACTERS = 1000, 4 * 1024 * 1024
"""Rows of Python objects that are in memory at a time, and characters in them: a record may have 100,000."""


def to_parquet(table: pa.Table) -> bytes:
    """A row group for each 64 Ki rows, zstd, no dictionary surprises: the bytes depend on the rows alone."""
    sink = io.BytesIO()
    pq.write_table(table.combine_chunks(), sink, compression="zstd", row_group_size=65_536, store_schema=True)
    return sink.getvalue()


@dataclass(slots=True)
class Growing:
    """A table of rows that are made one after the other; a piece of them is in memory as objects."""

    kind: pa.Schema
    num_characters: int = 0
    _batches: list[pa.RecordBatch] = field(default_factory=list)
    _piece: list[Mapping[str, Any]] = field(default_factory=list)
    _until: int = PIECE_CHARACTERS

    def add(self, row: Mapping[str, Any]) -> None:
        self.num_characters += sum(len(cell) for cell in row.values() if isinstance(cell, str))
        self._piece.append(row)
        if len(self._piece) == PIECE_ROWS or self.num_characters >= self._until:
            self._close_piece()

    def table(self) -> pa.Table:
        self._close_piece()
        return pa.Table.from_batches(self._batches, schema=self.kind)

    def _close_piece(self) -> None:
        self._batches.append(pa.RecordBatch.from_pylist(self._piece, schema=self.kind))
        self._piece.clear()
        self._until = self.num_characters + PIECE_CHARACTERS


def of_rows(rows: Iterable[Mapping[str, Any]], kind: pa.Schema) -> pa.Table:
    growing = Growing(kind)
    for row in rows:
        growing.add(row)
    return growing.table()


def to_ipc(table: pa.Table) -> bytes:
    """Arrow IPC, uncompressed: float vectors and tokens do not compress, and can be memory-mapped."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def read_parquet(ref: refs.Ref, columns: Sequence[pa.Field] | None = None) -> pa.Table:
    """All columns, or those asked for in the order asked for."""
    names = None if columns is None else [column.name for column in columns]
    return pq.read_table(io.BytesIO(ref.read()), columns=names)


def read_each(files: Iterable[refs.Ref], columns: Sequence[pa.Field] | None = None) -> Iterator[pa.Table]:
    """Many Parquet files in their order, as many asked for at once as a store is asked questions: one of S3
    takes 20 ms to come.
    """
    left = iter(files)
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        while some := list(islice(left, 2 * ASKED_AT_ONCE)):
            yield from pool.map(functools.partial(read_parquet, columns=columns), some)


def map_ipc(path: Path) -> pa.Table:
    """Of a local file: only what is looked at is read."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def with_slot(table: pa.Table, slot: str) -> pa.Table:
    """The rows, each with the slot that they are of."""
    return table.append_column(schema.SLOT, pa.array([slot] * table.num_rows, schema.SLOT.type))


def read_rows(ref: refs.Ref) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, a piece of them in memory as objects."""
    for piece in pq.ParquetFile(io.BytesIO(ref.read())).iter_batches(batch_size=PIECE_ROWS):
        yield from piece.to_pylist()


def read_ipc(ref: refs.Ref) -> pa.Table:
    return pa.ipc.open_file(pa.BufferReader(ref.read())).read_all()


def typed(columns: dict[str, object], kind: pa.Schema) -> pa.Table:
    """Columns in the order and the types of ``kind``; a missing or a superfluous one is an error."""
    return pa.table([pa.array(columns[field.name], field.type) for field in kind], schema=kind)


def list_column(values_BT: NDArray[Any]) -> pa.ListArray:
    """A rectangular array as a list column, without a loop over rows."""
    B, T = values_BT.shape
    offsets = pa.array(np.arange(B + 1, dtype=np.int32) * T)
    return pa.ListArray.from_arrays(offsets, pa.array(values_BT.ravel()))
