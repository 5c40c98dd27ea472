"""The CSV that a contributor uploads to Shutterstock, with the pictures that it names.

``Filename, Description, Keywords, Categories, Editorial, Mature content, illustration``, in any case. The
name without its extension is the asset's id.

The surprising rule: the table has no licence, no release, no word on people and no contributor. All of that
stands under ``every_asset`` of the delivery, or its assets are faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from pipeline.contract import Delivery
from pipeline.deliveries import agency
from pipeline.deliveries.agency import Reading
from pipeline.deliveries.columns import Cells
from pipeline.deliveries.rows import Entry, Table

NAME = "filename"


def entries(tables: Sequence[Table]) -> Iterator[Entry]:
    for table in tables:
        for place, cells in agency.folded(table):
            name = str(cells.get(NAME, ""))
            yield Entry(place=place, key=agency.asset_id(stem(name)), image=name, cells=cells)


def stem(name: str) -> str:
    """A file's name without its extension; folders stay, so that no two files are one asset."""
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).name else name


def record(cells: Cells, delivery: Delivery) -> dict[str, Any]:
    row = Reading(cells)
    fields = {
        **agency.identity(stem(row.cell(NAME) or "")),
        "description": row.cell("description"),
        "keywords": agency.words(row.cell("keywords")),
        "categories": agency.named(row.cell("categories")),
        "is_editorial": row.flag("editorial"),
        "is_adult": row.flag("mature_content"),
        # What is no illustration may be a photo or a vector.
        "image_type": "illustration" if row.flag("illustration") else None,
    }
    return row.record(fields, delivery)
