"""Form (ii) of a delivery: images, and tables (``.csv`` or ``.parquet``) whose rows are their records.

A column is named by the field of the asset record that it holds, the parts of a nested one joined by dots:
``asset_id``, ``releases.model``, ``file.sha256``, ``extra.anything``. ``path`` names the delivered image.
A list of words is one cell, its entries separated by ``;`` (``keywords``, ``license_ids``,
``releases.model_release_ids``, ``releases.property_release_ids``); entries that hold a ``;``, and lists of
objects, have a column each, numbered from 0: ``keywords.0``, ``categories.0.name``, ``descriptions.1.lang``.
True and false are written so, numbers in digits, times as ``2026-01-31T00:00:00Z``. A blank cell is a field
that is left out. ``schema`` and ``provider`` may be left out altogether: ``delivery.json`` says them.

The surprising rule: ``delivery.json`` says how many rows a table has (``samples``), so that tasks are listed
without reading it. A table is read again for every batch of rows; 10,000 rows are a good size.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from infra.guarded import csv, parquet, tar
from infra.guarded.refused import Refused
from pipeline.contract import Delivery, DeliveryFile
from pipeline.deliveries import manifest
from pipeline.deliveries.batch import ASSETS, Batch
from pipeline.deliveries.manifest import MANIFEST
from pipeline.deliveries.sample import MIME_OF, Delivered, Sample, Wrong, described

ROLE = "files"
PATH = "path"
ADDRESSES = ("file.uri", "uri", "url")
EXTENSIONS = {"image": tuple(MIME_OF), "manifest": ("csv", "parquet")}
SEPARATOR = ";"
LISTS = frozenset({"keywords", "license_ids", "releases.model_release_ids", "releases.property_release_ids"})
BOOLEANS = frozenset({"is_editorial", "is_adult"})
INTEGERS = frozenset({"asset_revision", "file.bytes", "file.width", "file.height"})
NUMBERS = frozenset({"moderation_labels.0.score"})
FREE = "extra"
"""Its keys are the provider's own, dots and digits included."""
Row = tuple[str, Mapping[str, Any]]
"""(place, cells by column)."""


def count(delivery: Delivery) -> int:
    return sum(num_rows(file) for file in tables(delivery))


def batches(delivery: Delivery) -> list[Batch]:
    """So many rows each of every table, in the order of their paths."""
    for file in delivery.files:
        if file.role in EXTENSIONS and extension(file.path) not in EXTENSIONS[file.role]:
            told = f"a file of role {file.role!r} ends in {' or '.join(EXTENSIONS[file.role])}"
            raise Refused(MANIFEST, file.path, "extension", told)
    return [
        Batch(files=(file,), facts={"rows": [start, min(start + ASSETS, num_rows(file))]})
        for file in tables(delivery)
        for start in range(0, num_rows(file), ASSETS)
    ]


def read(at: Delivered, batch: Batch) -> Iterator[Sample]:
    (file,) = batch.files
    start, stop = batch.facts["rows"]
    images = {image.path: image for image in at.delivery.files if image.role == "image"}
    found = rows(manifest.verified(at.store, file), at.store.where(file.path))
    for place, cells in itertools.islice(found, start, stop):
        yield sample(at, (f"{file.path} {place}", cells), images.get(cells.get(PATH, "")))


def check(at: Delivered) -> None:
    """What :func:`read` takes for granted, over all tables. They are small next to the images.

    Raises :class:`Refused` with rule ``samples``, ``duplicate``, ``uri`` or ``unused``, or a reader's.
    """
    named: set[str] = set()
    for file in tables(at.delivery):
        where = at.store.where(file.path)
        named |= checked(file, rows(manifest.verified(at.store, file), where), where)
    for image in at.delivery.files:
        if image.role == "image" and image.path not in named:
            told = "no row names the image in its column path; name it, or leave it out"
            raise Refused(at.store.where(MANIFEST), image.path, "unused", told)


def checked(file: DeliveryFile, found: Iterator[Row], where: str) -> set[str]:
    """The images that the table names."""
    paths, ids, num = set(), set(), 0
    for place, cells in found:
        num += 1
        path, asset_id = str(cells.get(PATH, "")), cells.get("asset_id")
        if "://" in path or (not path and any(name in cells for name in ADDRESSES)):
            told = "images at other addresses are not fetched yet; deliver the file and name it under path"
            raise Refused(where, place, "uri", told)
        if asset_id is not None and asset_id in ids:
            told = f"asset {str(asset_id)[:80]!a} has two rows; keep one, with the highest asset_revision"
            raise Refused(where, place, "duplicate", told)
        paths.add(path)
        ids.add(asset_id)
    if num != file.samples:
        fix = "send the whole table, or correct the number"
        raise Refused(where, "", "samples", f"it holds {num}, {MANIFEST} says {file.samples}; {fix}")
    return paths


def tables(delivery: Delivery) -> list[DeliveryFile]:
    files = (file for file in delivery.files if file.role == "manifest")
    return sorted(files, key=lambda file: file.path)


def num_rows(file: DeliveryFile) -> int:
    assert file.samples is not None  # noqa: S101  # the contract asks it of every manifest
    return file.samples


def rows(data: bytes, where: str) -> Iterator[Row]:
    reader = csv.rows if extension(where) == "csv" else parquet.rows
    return reader(data, file=where)


def extension(path: str) -> str:
    return PurePosixPath(path).suffix.removeprefix(".")


def sample(at: Delivered, row: Row, image: DeliveryFile | None) -> Sample:
    """The sample of a row. One without a proper id goes by its place, which no asset id can be."""
    place, cells = row
    asset_id = cells.get("asset_id")
    key = asset_id if isinstance(asset_id, str) and tar.KEY.fullmatch(asset_id) else place
    parts = {} if image is None else {extension(image.path): manifest.verified(at.store, image)}
    record = functools.partial(stated, cells, at.delivery, image)
    return described(key, record, parts, delivery=at.delivery, name=place)


def stated(cells: Mapping[str, Any], delivery: Delivery, image: DeliveryFile | None) -> dict[str, Any]:
    """The record of a row whose image was delivered."""
    if image is None:
        told = f"path: got {str(cells.get(PATH, ''))[:80]!a}; name an image that {MANIFEST} lists"
        raise Wrong("no_image", told)
    fields = {name: cell for name, cell in cells.items() if name != PATH}
    return {"schema": "asset/1.0", "provider": delivery.provider, **document(fields)}


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
