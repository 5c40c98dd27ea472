"""Where a file names an asset: rows of tables, members of tars, places in texts.

The surprising rule: every column of texts is looked at but those that are known to hold words, so that a
column which comes tomorrow is found in too. Nothing is decoded: pictures and vectors are found by the rows
beside them.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.packed import Role

WORDS = frozenset(
    column.name
    for column in (
        *(schema.RECORD, schema.FAULT, schema.EXTRACTED, schema.DESCRIPTION, schema.KEYWORDS),
        *(schema.CATEGORIES, schema.CONTRIBUTOR, schema.ATTRIBUTION, schema.REASONS, schema.MODERATION),
    )
)
SPANS = "spans"
"""Column of packs; it says as what an asset is in a row."""
Places = dict[str, list[int]]
"""As what, and in which rows."""


def in_parquet(file: BinaryIO, uids: Sequence[str]) -> Places:
    """By column, the rows that name one of them; a group of rows is in memory at a time."""
    found = pq.ParquetFile(file)
    leaves = [found.schema.column(number) for number in range(len(found.schema))]
    wanted = [
        leaf.path
        for leaf in leaves
        if leaf.logical_type.type == "STRING" and leaf.path.partition(".")[0] not in WORDS
    ]
    places: Places = {}
    first = 0
    for group in range(found.num_row_groups if wanted else 0):
        rows = found.read_row_group(group, columns=wanted)
        add(places, in_columns(rows.to_batches(), uids), first)
        first += rows.num_rows
    return places


def in_arrow(file: BinaryIO, uids: Sequence[str]) -> Places:
    """By column, the rows that name one of them; in packs, by the asset's role."""
    kind = pa.ipc.open_file(file).schema
    file.seek(0)
    wanted = [number for number, one in enumerate(kind) if one.name not in WORDS and has_text(one.type)]
    if not wanted:
        return {}
    found = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=wanted))
    batches = (found.get_batch(number) for number in range(found.num_record_batches))
    return in_columns(batches, uids)


def in_columns(batches: Iterable[pa.RecordBatch], uids: Sequence[str]) -> Places:
    named, places, first = pa.array(uids, pa.string()), Places(), 0
    for batch in batches:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            told = roles(column, named) if name == SPANS else {name: rows_of(column, named)}
            add(places, {what: [*dict.fromkeys(rows)] for what, rows in told.items()}, first)
        first += batch.num_rows
    return places


def add(places: Places, more: Mapping[str, Sequence[int]], first: int) -> None:
    for what, rows in more.items():
        if rows:
            places.setdefault(what, []).extend(first + row for row in rows)


def has_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return has_text(kind.value_type)
    inner = [kind.field(number).type for number in range(kind.num_fields)]
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or any(map(has_text, inner))


def rows_of(column: pa.Array, named: pa.Array) -> list[int]:
    """Rows in which a text is one of those named, with ``#`` and a number or without, as documents are."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        whole = pc.replace_substring_regex(column, "#[0-9]+$", "")
        hits = pc.is_in(whole, value_set=named)
        return np.flatnonzero(np.asarray(hits, np.bool_)).tolist()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        if not has_text(kind):
            return []
        parents = pc.list_parent_indices(column)
        return [parents[row].as_py() for row in rows_of(pc.list_flatten(column), named)]
    if pa.types.is_struct(kind):
        fields = (pc.struct_field(column, number) for number in range(kind.num_fields))
        return sorted({row for field in fields for row in rows_of(field, named)})
    return []


def roles(column: pa.Array, named: pa.Array) -> dict[str, list[int]]:
    """Of the spans of packs, by role the rows in which the asset has it."""
    spans, parents = pc.list_flatten(column), pc.list_parent_indices(column)
    hits = rows_of(pc.struct_field(spans, "uid"), named)
    role = pc.struct_field(spans, "role")
    found: dict[str, list[int]] = {}
    for hit in hits:
        found.setdefault(f"as {Role(role[hit].as_py()).name.lower()}", []).append(parents[hit].as_py())
    return found


def in_tar(data: bytes, key: str) -> list[str]:
    """Members of a key."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        return [name for name in tar.getnames() if name.partition(".")[0] == key]


def in_text(data: bytes, uids: Sequence[str]) -> list[int]:
    """The bytes at which a text names one of them, as it is or as JSON writes it."""
    written = {form for uid in uids for form in (uid, json.dumps(uid)[1:-1])}
    one = b"|".join(re.escape(form.encode()) for form in sorted(written, key=len, reverse=True))
    found = re.finditer(rb"(?<![\w-])(?:" + one + rb")(?![\w-])", data)
    return [place.start() for place in found]


def beside(file: BinaryIO, column: str, rows: Sequence[int]) -> list[Any]:
    """What stands in another column of these rows of a Parquet file, sorted: of lists their items; nothing if
    there is none.
    """
    if column not in pq.ParquetFile(file).schema_arrow.names:
        return []
    file.seek(0)
    return _items(pq.read_table(file, columns=[column])[column], rows)


def beside_in_arrow(file: BinaryIO, column: str, rows: Sequence[int]) -> list[Any]:
    """The same of an Arrow file."""
    file.seek(0)
    place = pa.ipc.open_file(file).schema.get_field_index(column)
    if place < 0 or not rows:
        return []
    file.seek(0)
    options = pa.ipc.IpcReadOptions(included_fields=[place])
    return _items(pa.ipc.open_file(file, options=options).read_all()[column], rows)


def _items(column: pa.ChunkedArray, rows: Sequence[int]) -> list[Any]:
    cells = column.take(pa.array(rows, pa.int64())).to_pylist()
    return sorted({one for cell in cells for one in (cell if isinstance(cell, list) else [cell])})
