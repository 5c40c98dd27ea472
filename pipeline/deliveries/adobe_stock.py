"""The CSV that a contributor uploads to Adobe Stock, with the pictures that it names.

``Filename, Title, Keywords, Category, Releases`` (helpx.adobe.com, CSV requirements). The name without its
extension is the asset's id, and the title, which Adobe asks to be a short description, is the description.

The surprising rule: a filled ``Releases`` is no release. It lists names, of models or of properties, without
saying which; they are kept under ``extra``, and what releases there are stands under ``every_asset``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.contract import Delivery
from pipeline.deliveries import agency, shutterstock_contributor
from pipeline.deliveries.agency import Reading
from pipeline.deliveries.columns import Cells
from pipeline.deliveries.rows import Entry, Table
from pipeline.deliveries.shutterstock_contributor import NAME, stem

_NAMES = (
    "Animals", "Buildings and Architecture", "Business", "Drinks", "The Environment", "States of Mind",
    "Food", "Graphic Resources", "Hobbies and Leisure", "Industry", "Landscapes", "Lifestyle", "People",
    "Plants and Flowers", "Culture and Religion", "Science", "Social Issues", "Sports", "Technology",
    "Transport", "Travel",
)  # fmt: skip
CATEGORIES = {str(number): name for number, name in enumerate(_NAMES, start=1)}


def entries(tables: Sequence[Table]) -> Iterator[Entry]:
    return shutterstock_contributor.entries(tables)


def record(cells: Cells, delivery: Delivery) -> dict[str, Any]:
    row = Reading(cells)
    fields = {
        **agency.identity(stem(row.cell(NAME) or "")),
        "description": row.cell("title"),
        "keywords": agency.words(row.cell("keywords")),
        "categories": category(row.cell("category")),
    }
    return row.record(fields, delivery)


def category(cell: Any) -> list[dict[str, Any]]:
    """A number and what Adobe calls it, or a name.

    >>> category("3"), category("22"), category("Cats")
    ([{'id': '3', 'name': 'Business'}], [{'id': '22', 'name': '22'}], [{'name': 'Cats'}])
    """
    told = str(cell or "").strip()
    return [{"id": told, "name": CATEGORIES.get(told, told)}] if told.isdecimal() else agency.named(cell)
