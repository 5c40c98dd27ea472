"""What was made before, less the rows of what was taken back: a revocation costs what it touches.

The surprising rule: nothing is decoded, encoded or multiplied. A stage keeps rows and judges each alone, so
dropping the rows of its output is the same, byte for byte, as dropping those of its input and doing the work
again; a law says so of every step.
"""

from __future__ import annotations

import base64
import io
import re
import tarfile
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.artifact import Made
from pipeline import outcomes, schema, tables
from pipeline.outcomes import KEPT
from pipeline.step import ROWS, Before, Task

BLOCK_BYTES = 512
"""A tar is made of blocks."""
PAX_PATH = re.compile(rb"(?:^|\n)[0-9]+ path=([^\n]*)\n")


def rows(_task: Task, before: Before) -> Made:
    """Of a step whose files have a row, or the members, of each asset."""
    files, counts = {}, before.shard.counts
    for name in before.shard.files:
        data = before.read(name)
        if name.endswith(".tar"):
            files[name] = without(name, data, before.gone)
            continue
        files[name], left = rows_dropped(name, data, before.gone)
        counts = outcomes.counts(left, before.shard.step) if name == ROWS else {KEPT: left.num_rows}
    return Made(files=files, counts=counts, facts=before.shard.facts)


def without(name: str, data: bytes, gone: Collection[str]) -> bytes:
    """A file of ours without the assets. ValueError for one of no known kind."""
    kind = PurePosixPath(name).suffix
    if kind == ".tar":
        return members_dropped(data, {uid.replace(":", "_") for uid in gone})
    if kind in (".parquet", ".arrow"):
        return rows_dropped(name, data, gone)[0]
    raise ValueError(f"{name} has no rows that are known by their assets; give its step a way to erase them")


def rows_dropped(name: str, data: bytes, gone: Collection[str]) -> tuple[bytes, pa.Table]:
    """The file, and the table that it holds."""
    table = table_of(name, data)
    left = dropped(table, gone)
    if left.num_rows == table.num_rows:
        return data, table
    return (tables.to_parquet if name.endswith(".parquet") else tables.to_ipc)(left), left


def table_of(name: str, data: bytes) -> pa.Table:
    if name.endswith(".parquet"):
        return as_written(pq.ParquetFile(io.BytesIO(data)))
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()


def as_written(file: pq.ParquetFile) -> pa.Table:
    """The table with the types it was written with, to the last name: Parquet calls the items of all lists
    alike, and whoever writes them again would write other bytes.
    """
    table = file.read().combine_chunks()
    told = (file.metadata.metadata or {}).get(b"ARROW:schema")
    if told is None:
        return table
    written = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(told)))
    columns = [renamed(column, field.type) for column, field in zip(table.columns, written, strict=True)]
    return pa.table(columns, schema=written)


def renamed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """A list's items called as ``kind`` calls them."""
    if not pa.types.is_list(kind) or not len(column):
        return column.cast(kind) if not len(column) else column
    lists = column.combine_chunks()
    return pa.ListArray.from_arrays(lists.offsets, lists.values, type=kind)


def dropped(table: pa.Table, gone: Collection[str]) -> pa.Table:
    named = pc.is_in(table[schema.UID.name], value_set=pa.array(sorted(gone), pa.string()))
    return table.filter(pc.invert(named))


def members_dropped(data: bytes, keys: Collection[str]) -> bytes:
    """A tar that we wrote, without the members of these keys: what is left is copied as it stands.

    A member's key is its name up to the first dot.
    """
    kept = bytearray()
    for name, start, stop in members(data):
        if name.partition(".")[0] not in keys:
            kept += memoryview(data)[start:stop]
    # Two empty blocks, and more up to a whole record, end a tar.
    kept += bytes(2 * BLOCK_BYTES)
    kept += bytes(-len(kept) % tarfile.RECORDSIZE)
    return bytes(kept)


def members(data: bytes) -> Iterator[tuple[str, int, int]]:
    """(name, where it starts, where the next one does). ValueError for one that is no plain file.

    Read from the headers themselves (POSIX.1-2001, ustar and pax): ``tarfile`` takes 30 us a member, as long
    as 12 kB of a picture take to copy ten times.
    """
    start = at = 0
    long_name: bytes | None = None
    while at + BLOCK_BYTES <= len(data) and data[at]:
        header = data[at : at + BLOCK_BYTES]
        size, kind = int(header[124:136].rstrip(b"\0 "), 8), header[156:157]
        body = at + BLOCK_BYTES
        at = body + -(-size // BLOCK_BYTES) * BLOCK_BYTES
        if kind == b"x":  # what does not fit the header of the member that comes next: a name over 100 bytes
            told = PAX_PATH.search(data[body : body + size])
            long_name = told[1] if told else None
            continue
        name = long_name or header[:100].rstrip(b"\0")
        if kind not in (b"0", b"\0"):
            raise ValueError(f"member {name!r} is of kind {kind!r}, and images tars have plain files alone")
        yield name.decode(), start, at
        start, long_name = at, None
