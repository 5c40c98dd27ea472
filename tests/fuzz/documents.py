"""Tables and pages changed as documents: other names of columns, other cells, rows that come twice or not."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pipeline import agencies

Values = Sequence[Any]
NAMES = (
    "file", "file.0", "file.sha256", "file.sha256.x", "file.uri", "file.bytes", "file.mime", "sha256",
    "releases", "releases.model", "releases.model.x", "releases.model_release_ids.x", "keywords",
    "keywords.x", "keywords.0", "keywords.2", "keywords.00", "extra", "extra.0", "extra.a.b", "extra..",
    "categories", "categories.0", "categories.0.name.x", "descriptions.0.lang", "descriptions.1",
    "moderation_labels", "moderation_labels.0.score", "path", "uri", "url", "asset_id", "id", "key", "status",
    "schema", "provider", "delivery_id", "contributor", "contributor.id.0", "license_ids", "license_ids.1",
    "location.x", "is_adult", "asset_revision", "date_created", "caption", "txt", "a..b", "a.", "exif",
    "error_message", "Filename", "allowed_use", "media_type", "usage_restrictions",
)  # fmt: skip
"""Of columns: those that mean something somewhere, and neighbors of theirs that nest otherwise."""
TEXTS = (
    "", " ", "0", "-1", "007", "1.5", "1e999", "NaN", "true", "FALSE", "null", "{}", "[]", '["a", 1, null]',
    '{"a": 1}', "[" * 300, "a;b;;", ";", ",", '"', "\n", "9" * 19, "9" * 5_000, "x" * 5_000, "x" * 70_000,
    "\u202e", "\x1b[2J", "e\u0301", "\u0130", "\ufeff", "\U0001f426", "0001-01-01", "2026-02-30T00:00:00Z",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "https://images.example/a.jpg?sig=fe5f",
    "https://user:pw@h.example/", "http://[::1", "https://", "../../x", "images/m1.jpg", "m1", "M1.JPG",
    "success", "no", "unknown", "=cmd()", "0" * 64, "image/png", "unlimited", "acme-data-2026",
)  # fmt: skip
NUMBERS = (None, True, False, 0, -1, 2**63 - 1, 0.5, -0.0, 1e308, float("nan"), float("inf"))
MOMENTS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
COLUMNED = (["a"], [1], {"a": "b"})
"""What Arrow can write in one column, and is refused."""
NESTED: Values = (
    [], {}, [None], [[]], [{}], {"a": None}, {"id": {}}, {"name": []}, {"file": {}}, ["a", 1], 10**30,
)  # fmt: skip
FAR = (2**53 + 1, -(2**53), 1)
"""Of times: seconds, or parts of them, most of which Python has no date for."""
UNITS = ("s", "ms", "us", "ns")
Change = Callable[[bytes, random.Random], bytes]


def change(document: Any, values: Values, rng: random.Random) -> None:
    """One change, somewhere in it."""
    inside = document
    while rng.random() < 0.8:
        below = list(inside.values()) if isinstance(inside, dict) else inside
        found = [one for one in below if isinstance(one, list | dict) and one]
        if not found:
            break
        inside = rng.choice(found)
    if isinstance(inside, dict):
        change_fields(inside, values, rng)
    elif inside:
        change_entries(inside, values, rng)


def change_fields(fields: dict[str, Any], values: Values, rng: random.Random) -> None:
    name = rng.choice(list(fields) or [""])
    match rng.randrange(6):
        case 0:
            fields.pop(name, None)
        case 1:
            fields[rng.choice(NAMES)] = fields.pop(name, None)
        case 2:
            fields[rng.choice(NAMES)] = fields.get(name)
        case 3:
            fields[rng.choice(NAMES)] = rng.choice(values)
        case _:
            fields[name or rng.choice(NAMES)] = rng.choice(values)


def change_entries(entries: list[Any], values: Values, rng: random.Random) -> None:
    at = rng.randrange(len(entries))
    match rng.randrange(3):
        case 0:
            del entries[at]
        case 1:
            entries.insert(at, copy.deepcopy(entries[at]))
        case _:
            entries[at] = rng.choice(values)


def changed(document: Any, values: Values, rng: random.Random) -> Any:
    for _ in range(rng.choice((1, 1, 2, 4))):
        change(document, copy.deepcopy(values), rng)  # what goes in may be changed in its turn
    return document


def changed_rows(rows: list[Any], values: Values, rng: random.Random) -> list[dict[str, Any]]:
    return [row for row in changed(rows, values, rng) if isinstance(row, dict) and row]


def csv_table(raw: bytes, rng: random.Random) -> bytes:
    rows = list(csv.DictReader(io.StringIO(raw.decode(), newline="")))
    return agencies.table(*changed_rows(rows, TEXTS, rng))


def page(raw: bytes, rng: random.Random) -> bytes:
    """A page of an API, a sidecar, or lines of JSON of which each is a row."""
    found = [json.loads(line) for line in raw.splitlines()]
    changed(found, (*TEXTS, *NUMBERS[:-2], *NESTED), rng)
    return b"\n".join(json.dumps(one).encode() for one in found)


def typed(raw: bytes, rng: random.Random) -> bytes:
    """Lines of cells as Parquet has them: texts, booleans and numbers, none of which hold others."""
    rows = changed_rows([json.loads(line) for line in raw.splitlines()], (*TEXTS, *NUMBERS), rng)
    return b"\n".join(json.dumps(row).encode() for row in rows)


def parquet_table(raw: bytes, rng: random.Random) -> bytes:
    rows = pq.read_table(io.BytesIO(raw)).to_pylist()
    found = changed_rows(rows, (*TEXTS, *NUMBERS, *MOMENTS, *COLUMNED), rng)
    names = dict.fromkeys(name for row in found for name in row)
    columns = {name: array([row.get(name) for row in found]) for name in names}
    if found and rng.random() < 0.2:
        columns[rng.choice(NAMES)] = moments(len(found), rng)
    return parquet(columns, rng)


def array(cells: list[Any]) -> pa.Array:
    try:
        return pa.array(cells)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return pa.array([None if cell is None else str(cell) for cell in cells])


def moments(num: int, rng: random.Random) -> pa.Array:
    kind = pa.timestamp(rng.choice(UNITS), "UTC")
    return pa.array([rng.choice(FAR) for _ in range(num)], pa.int64()).cast(kind)


def parquet(columns: dict[str, pa.Array], rng: random.Random | None = None) -> bytes:
    sink = io.BytesIO()
    options: dict[str, Any] = {"compression": "snappy"}
    if rng is not None:
        options = {
            "compression": rng.choice(("snappy", "snappy", "none", "zstd")),
            "use_dictionary": rng.random() < 0.5,
            "row_group_size": rng.choice((1, 1024)),
            "store_schema": rng.random() < 0.5,
        }
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


CHANGES: Mapping[str, Change] = {
    "csv": csv_table,
    "json": page,
    "jsonl": page,
    "parquet": parquet_table,
}
"""By the extension of what is changed."""
