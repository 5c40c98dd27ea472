"""Tables to bytes and back, so that the same rows are always the same bytes."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import refs


def to_parquet(table: pa.Table) -> bytes:
    """One row group a 64 Ki rows, zstd, no dictionary surprises: the bytes depend on the rows alone."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=65_536, store_schema=True)
    return sink.getvalue()


def to_ipc(table: pa.Table) -> bytes:
    """Arrow IPC, uncompressed: float vectors and tokens do not compress, and can be memory-mapped."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def read_parquet(ref: refs.Ref) -> pa.Table:
    return pq.read_table(io.BytesIO(ref.read()))


def read_ipc(ref: refs.Ref) -> pa.Table:
    return pa.ipc.open_file(pa.BufferReader(ref.read())).read_all()


def typed(columns: dict[str, object], kind: pa.Schema) -> pa.Table:
    """Columns in the order and the types of ``kind``; a missing or a superfluous one is an error."""
    return pa.table([pa.array(columns[field.name], field.type) for field in kind], schema=kind)
