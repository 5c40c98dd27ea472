"""Read a delivered table or a page of an API, whatever its columns: rows as (place, cells).

The surprising rule: a table is read once, when its delivery is opened, and every value stays as it was sent.
What a column means is said by a layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from infra.guarded import csv, json, parquet
from infra.guarded.refused import Refused

Cells = Mapping[str, Any]
Row = tuple[str, Cells]
"""(place, cells by column)."""
PAGE = json.Limits(max_bytes=64 * 1024 * 1024)
MAX_CELLS = 256 * 1024 * 1024
"""Characters of a whole table, which its rows will take beside the corpus: 2,600 a row of 100,000."""
LISTS = ("data", "images")
"""Where an API's page holds its objects."""


def extension(path: str) -> str:
    return PurePosixPath(path).suffix.removeprefix(".").lower()


def rows(data: bytes, where: str) -> Iterator[Row]:
    """Rows of a ``.csv``, ``.parquet``, ``.jsonl`` or ``.json`` file. Raises :class:`Refused`."""
    return bounded(parsed(data, where), where)


def bounded(found: Iterable[Row], where: str) -> Iterator[Row]:
    """The same rows. Raises :class:`Refused` with rule ``cells`` for a small file that says a great deal: a
    dictionary of Parquet, an entry or a name of a column that is repeated in every row.
    """
    left = MAX_CELLS
    for place, cells in found:
        left -= sum(len(name) + (len(cell) if isinstance(cell, str) else 8) for name, cell in cells.items())
        if left < 0:
            told = f"with their columns' names its cells have over {MAX_CELLS} characters; split the table"
            raise Refused(where, place, "cells", told)
        yield place, cells


def parsed(data: bytes, where: str) -> Iterator[Row]:
    match extension(where):
        case "csv":
            return csv.rows(data, file=where)
        case "parquet":
            return parquet.rows(data, file=where)
        case "jsonl":
            return objects(json.lines(data, file=where), where)
        case "json":
            return objects(page(data, where), where)
    raise Refused(where, "", "extension", "a table is a .csv, .parquet, .jsonl or .json file")


def page(data: bytes, where: str) -> Iterator[tuple[str, Any]]:
    """The objects of an API's answer: a list, an object that holds one, or a single object."""
    document = json.loads(data, file=where, limits=PAGE)
    if isinstance(document, dict):
        document = next(
            (document[name] for name in LISTS if isinstance(document.get(name), list)), [document]
        )
    if not isinstance(document, list):
        raise Refused(where, "", "page", f"it is no list of objects; send {' or '.join(LISTS)} as one")
    for number, entry in enumerate(document):
        yield f"object {number}", entry


def objects(found: Iterator[tuple[str, Any]], where: str) -> Iterator[Row]:
    for place, entry in found:
        if not isinstance(entry, dict):
            raise Refused(where, place, "page", f"got {str(entry)[:60]!a}; every entry is an object")
        # Null is how an API says that it has nothing to say.
        yield place, {name: value for name, value in entry.items() if value is not None}
