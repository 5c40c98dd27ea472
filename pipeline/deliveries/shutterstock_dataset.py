"""A data-licence delivery of Shutterstock: images, ``asset_metadata.csv`` and ``file_metadata.csv``.

As in Shutterstock's own sample (Hugging Face, ShutterstockInc/object_detection). Tables may come in parts, in
folders or under numbered names: whatever begins ``asset_metadata`` has a row an asset, and whatever begins
``file_metadata`` a row a file, joined on the asset's id. The image of asset 123 is ``123.jpg`` or
``shutterstock_123.jpg``, in any folder.

Two surprising rules. A row of a file whose asset has none refuses the delivery: nobody would ever hear of it.
Of an asset with rows for several sizes the one whose image was delivered counts, whichever that is: only a
single row is held against the image's bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from infra.guarded.refused import Refused
from pipeline.contract import Delivery
from pipeline.deliveries import agency, columns
from pipeline.deliveries.agency import Reading
from pipeline.deliveries.columns import Cells
from pipeline.deliveries.rows import Entry, Table
from pipeline.deliveries.sample import MIME_OF

ASSETS, FILES = "asset_metadata", "file_metadata"
JOINED = "file metadata"
"""Where a row has its files' rows; no column is called so, since their names have no spaces here."""
LANGUAGES = {"german": "de", "spanish": "es", "french": "fr", "korean": "ko", "japanese": "ja"}
MAX_JOINED = 64 * 1024 * 1024
"""Bytes of the files' rows, which are held until their assets' come: 60,000 rows of eight short cells."""
ROW_BYTES, CELL_BYTES = 500, 64
"""Taken by Python, besides what the cells and their columns' names say."""
SIZE = "asset_file_size_i"
"""Begins the name of the size in bytes."""
_DECIMALS = re.compile(r"-?[0-9]{1,3}\.[0-9]{2,}")
_POSITION = re.compile(
    r"\b(lat|lon|lng|latitude|longitude|coordinates)\b|point\s*\(|[°º]|[0-9]\s*(?-i:[NSEW])\b", re.IGNORECASE
)


def entries(tables: Sequence[Table]) -> Iterator[Entry]:
    files: dict[str, list[Cells]] = {}
    places: dict[str, tuple[str, str]] = {}
    left = MAX_JOINED
    for table in of(tables, FILES):
        for place, cells in agency.folded(table):
            left -= ROW_BYTES + CELL_BYTES * len(cells) + columns.weight(cells) + len(place)
            if left < 0:
                told = f"the rows of files take over {MAX_JOINED} bytes; split the delivery"
                raise Refused(table.where, place, "join", told)
            files.setdefault(str(cells.get("asset_id", "")), []).append(cells)
            places.setdefault(str(cells.get("asset_id", "")), (table.where, place))
    for table in of(tables, ASSETS):
        for place, cells in agency.folded(table):
            name = str(cells.get("id", ""))
            yield Entry(
                place=place,
                key=agency.asset_id(name),
                image=name,
                also=(f"shutterstock_{name}",) if name else (),
                cells={**cells, JOINED: files.pop(name, [])},
            )
    for name in files:
        told = f"asset {name[:80]!a} has no row in {ASSETS}; send its row, or leave the file's out"
        raise Refused(*places[name], "join", told)


def of(tables: Sequence[Table], kind: str) -> list[Table]:
    """The tables of a kind; one that is neither refuses the delivery."""
    for table in tables:
        if not PurePosixPath(table.path).name.startswith((ASSETS, FILES)):
            told = f"the name of a table begins {ASSETS} or {FILES}; rename it"
            raise Refused(table.where, "", "table", told)
    return [table for table in tables if PurePosixPath(table.path).name.startswith(kind)]


def record(cells: Cells, delivery: Delivery) -> dict[str, Any]:
    row = Reading(cells)
    people = row.tri("has_people")
    fields = {
        **agency.identity(row.cell("id")),
        "image_type": row.image_type("image_type"),
        "description": row.cell("description"),
        "descriptions": translations(row),
        "keywords": agency.words(row.cell("keywords")),
        "categories": agency.named(row.cell("primary_category")),
        # Creative pictures may be editorial too (the API's is_editorial), so only "no" tells.
        "is_editorial": True if row.flag("is_creative") is False else None,
        "is_adult": row.flag("mature_flag"),
        # Machines wrote these: the names are read, and the cell is kept as it was sent. So is "labels".
        "moderation_labels": [moderation(entry) for entry in agency.words(cells.get("moderation_labels"))],
        "has_people": people,
        "releases": releases(people, released=row.flag("has_model_release")),
        "location": agency.said({"text": place_of(row.cell("asset_location"))}),
        "date_submitted": row.moment("date_submitted"),
        "date_created": row.moment("date_captured"),
        "file": claims(cells[JOINED]),
    }
    return row.record(fields, delivery)


def translations(row: Reading) -> list[dict[str, Any]]:
    told = {lang: row.cell(f"{name}_description") for name, lang in LANGUAGES.items()}
    return [{"lang": lang, "text": text, "origin": "translated"} for lang, text in agency.said(told).items()]


def releases(people: str | None, *, released: bool | None) -> dict[str, Any]:
    """Nothing where there is a release: it may be a limited one, so that the delivery says what it is."""
    if released:
        return {}
    if people == "no":
        return {"model": "not_applicable"}
    return {} if released is None else {"model": "none"}


def moderation(entry: Any) -> dict[str, Any]:
    """A name, and a score from 0 to 1, which a cell of text writes after a colon.

    >>> moderation("Alcohol: 0.25"), moderation("Smoking: much"), moderation({"Name": "Weapons"})
    ({'name': 'Alcohol', 'score': 0.25}, {'name': 'Smoking: much'}, {'name': 'Weapons'})
    """
    if isinstance(entry, Mapping):
        name, score = entry.get("name", entry.get("Name")), entry.get("score")
        told = score if isinstance(score, int | float) and 0 <= score <= 1 else None
        return {"name": name or agency.plain(entry), **agency.said({"score": told})}
    found = re.fullmatch(r"(.+?):\s*([01](?:\.[0-9]{1,19})?)", str(entry))
    if found is None or float(found[2]) > 1:
        return {"name": str(entry)}
    return {"name": found[1], "score": float(found[2])}


def place_of(cell: Any) -> Any:
    """A place in words. Coordinates are not kept, not even under ``extra``.

    >>> [place_of(cell) for cell in ("Utrecht, NL", "52.0907, 5.1214", "POINT(5.1 52.0)", "52°5'N")]
    ['Utrecht, NL', None, None, None]
    """
    text = str(cell or "")
    numbers = _DECIMALS.findall(text)
    position = len(numbers) > 1 or _POSITION.search(text) or not any(char.isalpha() for char in text)
    return None if position else cell


def claims(files: Sequence[Cells]) -> dict[str, Any]:
    """What the one row of the image's file says of its bytes; nothing where there are several."""
    pictures = [file for file in files if kind(file) in MIME_OF]
    sizes = [cell for file in pictures for name, cell in file.items() if name.startswith(SIZE)]
    if len(pictures) != 1 or len(sizes) != 1:
        return {}
    return {"bytes": int(sizes[0]) if re.fullmatch("[0-9]{1,19}", sizes[0]) else sizes[0]}


def kind(file: Cells) -> str:
    """An asset that is drawn has a row for its EPS too, which is no image here."""
    return str(file.get("asset_file_extension", "jpg")).lower().lstrip(".")
