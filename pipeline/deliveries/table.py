"""Form (ii) of a delivery: tables (``.csv`` or ``.parquet``) of records, in the contract's own columns.

A column is named by the field of the asset record that it holds, the parts of a nested one joined by dots:
``asset_id``, ``releases.model``, ``file.sha256``, ``extra.anything``. ``path`` names a delivered image;
``file.uri`` one at an address, with its required ``file.sha256``; in img2dataset's words ``url``, ``caption``
and ``sha256``. What is left out of ``file`` is read from the image.
A list of words is one cell, its entries separated by ``;`` (``keywords``, ``license_ids``,
``usage_restrictions`` and both kinds of release ids); entries that hold a ``;``, and lists of objects, have a
column each, numbered from 0: ``keywords.0``, ``categories.0.name``, ``descriptions.1.lang``.
True and false are written so, numbers in digits, times as ``2026-01-31T00:00:00Z``. A blank cell is a field
that is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline import stated
from pipeline.contract import Delivery
from pipeline.deliveries.columns import Cells
from pipeline.deliveries.rows import Entry, Table
from pipeline.deliveries.sample import Fault, Wrong
from pipeline.fields import SHA256

PATH = "path"
ALIASES = {"uri": "file.uri", "url": "file.uri", "sha256": "file.sha256", "caption": "description"}
"""Columns as img2dataset and others call them."""
HASHES = ("file.sha256", "sha256")
SEPARATOR = ";"
LISTS = frozenset(
    {
        "keywords",
        "license_ids",
        "releases.model_release_ids",
        "releases.property_release_ids",
        "usage_restrictions",
    }
)
BOOLEANS = frozenset({"is_editorial", "is_adult"})
INTEGERS = frozenset({"asset_revision", "file.bytes", "file.width", "file.height"})
NUMBERS = frozenset({"moderation_labels.0.score"})
FREE = "extra"
"""Its keys are the provider's own, dots and digits included."""


def entries(tables: Sequence[Table]) -> Iterator[Entry]:
    for table in tables:
        for place, cells in table.rows:
            path, uri, key = str(cells.get(PATH, "")), address(cells), cells.get("asset_id")
            yield Entry(
                place=place,
                key=key if isinstance(key, str) else None,
                image=path,
                uri=uri,
                cells=lowered(cells),
                fault=placed(place, path, uri),
            )


def placed(place: str, path: str, uri: str) -> Fault | None:
    """The fault of a row whose image lies in two places, or at an address under ``path``."""
    if "://" not in path and not (path and uri):
        return None
    told = "an image is delivered, under path, or lies at an address, under file.uri; name one"
    return Fault(code="invalid_record", message=f"{place}: {told}")


def lowered(cells: Cells) -> Cells:
    """With hashes as the contract spells them: PowerShell and others write them in capitals."""
    told = {name: str(cells.get(name, "")).lower() for name in HASHES}
    return {**cells, **{name: cell for name, cell in told.items() if SHA256.fullmatch(cell)}}


def address(cells: Cells) -> str:
    return next((str(cells[name]) for name in ("file.uri", "uri", "url") if cells.get(name)), "")


def record(cells: Cells, delivery: Delivery) -> dict[str, Any]:
    """The fields that a row states. The revision of one that states none is the delivery's number."""
    known = {ALIASES.get(name, name): cell for name, cell in cells.items() if name != PATH}
    if len(known) < len(cells) - (PATH in cells):
        raise both(next(name for name in ALIASES if name in cells))
    return {**stated.standing(delivery.sequence, delivery.every_asset), **document(known)}


def document(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The nested record of flat cells; raises :class:`Wrong` where two columns hold the same field.

    >>> document({"asset_id": "7", "is_adult": "no", "keywords": "a; b", "categories.0.name": "x"})
    {'asset_id': '7', 'is_adult': 'no', 'keywords': ['a', 'b'], 'categories': [{'name': 'x'}]}
    """
    tree: dict[str, Any] = {}
    for name, cell in cells.items():
        *parents, last = name.split(".", 1) if name.startswith(f"{FREE}.") else name.split(".")
        inside = tree
        for parent in parents:
            inside = inside.setdefault(parent, {})
            if not isinstance(inside, dict):
                raise both(name)
        if last in inside:
            raise both(name)
        inside[last] = typed(name, cell)
    return {name: value if name == FREE else listed(value) for name, value in tree.items()}


def both(name: str) -> Wrong:
    told = f"column {name} and one with a shorter or longer name hold the same field; fill one of them"
    return Wrong("invalid_record", told)


def typed(name: str, cell: Any) -> Any:
    """What a cell of text says; text that does not say it is left to the contract, which tells what to do."""
    field = re.sub(r"\.[0-9]+(?=\.|$)", ".0", name)
    if not isinstance(cell, str):
        return cell
    if field in BOOLEANS:
        return {"true": True, "false": False}.get(cell.lower(), cell)
    if field in INTEGERS:
        return int(cell) if re.fullmatch("-?[0-9]{1,19}", cell) else cell
    if field in NUMBERS:
        return float(cell) if re.fullmatch(r"[0-9]{1,19}(\.[0-9]{1,19})?", cell) else cell
    return [entry.strip() for entry in cell.split(SEPARATOR)] if field in LISTS else cell


def listed(value: Any) -> Any:
    """Fields numbered from 0 without a gap become a list."""
    if not isinstance(value, dict):
        return value
    inside = {name: listed(inner) for name, inner in value.items()}
    numbered = [inside[str(i)] for i in range(len(inside)) if str(i) in inside]
    return numbered if len(numbered) == len(inside) else inside


def cells(record: Any, name: str = "") -> dict[str, Any]:
    """The flat cells of a nested record: what :func:`document` reads back.

    >>> cells({"asset_id": "7", "keywords": ["a", "b"], "license_ids": ["x;y"], "file": {"bytes": 3}})
    {'asset_id': '7', 'keywords': 'a;b', 'license_ids.0': 'x;y', 'file.bytes': 3}
    """
    if name in LISTS and all(entry == entry.strip() and SEPARATOR not in entry for entry in record):
        return {name: SEPARATOR.join(record)}
    if not isinstance(record, list | dict):
        return {name: record}
    fields = record.items() if isinstance(record, dict) else enumerate(record)
    parts = [cells(value, f"{name}.{field}".lstrip(".")) for field, value in fields]
    return {column: cell for part in parts for column, cell in part.items()}
