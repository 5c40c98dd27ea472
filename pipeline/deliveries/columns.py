"""Read a delivered table or a page of an API, whatever its columns: rows as (place, cells).

The surprising rule: a table is read once, when its delivery is opened, and every value stays as it was sent.
What a column means is said by a layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from infra.guarded import csv, json, parquet
from infra.guarded.refused import Refused

Cells = Mapping[str, Any]
Row = tuple[str, Cells]
"""(place, cells by column)."""
PAGE = json.Limits(max_bytes=8 * 1024 * 1024, max_values=250_000)
"""An answer of 500 objects has 1.5 MB. JSON Lines may have any number of them."""
MAX_CELLS = 256 * 1024 * 1024
"""Characters of all tables of a delivery, which their rows will take beside the corpus: with what is counted
for each row, 260,000 rows of 500 characters. The ids of so many are held in 60 MiB."""
ROW_CHARACTERS = 512
"""Counted for a row, whatever it holds."""
MAX_ROW = 1024 * 1024
"""Characters; a record has at most 64 KiB."""
LISTS = ("data", "images")
"""Where an API's page holds its objects."""


def extension(path: str) -> str:
    return PurePosixPath(path).suffix.removeprefix(".").lower()


@dataclass(slots=True)
class Budget:
    """What the tables of one delivery may say, however many they are, and what they have said."""

    most: int = MAX_CELLS
    spent: int = 0


def rows(data: bytes, where: str, budget: Budget | None = None) -> Iterator[Row]:
    """Rows of a ``.csv``, ``.parquet``, ``.jsonl`` or ``.json`` file. Raises :class:`Refused`."""
    return bounded(parsed(data, where), where, budget or Budget())


def bounded(found: Iterable[Row], where: str, budget: Budget) -> Iterator[Row]:
    """The same rows. Raises :class:`Refused` with rule ``cells`` for a small file that says a great deal: a
    dictionary of Parquet, an entry or a name of a column that is repeated in every row.
    """
    for place, cells in found:
        size = weight(cells)
        budget.spent += size + ROW_CHARACTERS
        if size > MAX_ROW:
            raise Refused(where, place, "cells", f"{size} characters in a row, at most {MAX_ROW}; cut it")
        if budget.spent > budget.most:
            told = f"with their columns' names its cells have over {budget.most} characters; split it"
            raise Refused(where, place, "cells", told)
        yield place, cells


def weight(cell: Any) -> int:
    """Characters of a value, of names too, since every row repeats them, and 8 for whatever is in it."""
    if isinstance(cell, Mapping):
        return 8 + sum(len(name) + weight(inner) for name, inner in cell.items())
    if isinstance(cell, list):
        return 8 + sum(map(weight, cell))
    return 8 + len(cell) if isinstance(cell, str) else 8


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
