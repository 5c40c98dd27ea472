"""Image objects of the Getty Images API, version 3, as ``/v3/images`` answers them, with the pictures.

Tables are pages (``{"images": [...]}``), lists, or JSON Lines. The image of object 123 is ``123.jpg``,
``gettyimages-123.jpg`` or ``GettyImages-123.jpg``, in any folder.

The surprising rule: words that restrict are read, and words that permit are not. ``usage_restrictions`` and
``call_for_image`` keep a picture for a person; ``release_info`` ("Model released"), ``how_can_i_use_it`` and
``license_model`` are kept under ``extra``, and admit nothing. Names of people are not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.contract import Delivery
from pipeline.deliveries import agency
from pipeline.deliveries.agency import Reading
from pipeline.deliveries.columns import Cells
from pipeline.deliveries.rows import Entry, Table

DROPPED = frozenset(
    {"display_sizes", "download_sizes", "largest_downloads", "max_dimensions", "referral_destinations"}
)
"""About other files than the delivered one, at addresses that are signed."""
FAMILIES = {"creative": False, "editorial": True}
CALL = "call_for_image: the agency is to be asked before the picture is used"


def entries(tables: Sequence[Table]) -> Iterator[Entry]:
    return agency.objects(tables, prefixes=("gettyimages-", "GettyImages-"))


def record(cells: Cells, delivery: Delivery) -> dict[str, Any]:
    row = Reading(cells)
    allowed = cells.get("allowed_use", {})  # kept under extra, with all that it permits
    if not isinstance(allowed, dict):
        raise agency.wrong("allowed_use", allowed, "send the object that the API answers")
    fields = {
        **agency.identity(row.cell("id")),
        "image_type": row.image_type("graphical_style"),
        "title": row.cell("title"),
        "description": row.cell("caption") or row.cell("title"),
        "keywords": [agency.inside(word, "text") or word for word in agency.words(row.cell("keywords"))],
        "is_editorial": editorial(row.cell("asset_family")),
        "has_people": "yes" if agency.words(row.cell("people")) else None,
        "date_created": row.moment("date_created"),
        "date_submitted": row.moment("date_submitted"),
        "contributor": agency.said({"id": row.cell("artist_id"), "display_name": row.cell("artist")}),
        "credit_line": row.cell("credit_line"),
        "copyright_notice": row.cell("copyright"),
        "usage_restrictions": [
            *agency.sentences(allowed.get("usage_restrictions")),
            *([CALL] if row.flag("call_for_image") else []),
        ],
    }
    return row.record(fields, delivery, dropped=DROPPED)


def editorial(family: Any) -> bool | None:
    if family in (None, ""):
        return None
    if str(family).lower() not in FAMILIES:
        raise agency.wrong("asset_family", family, f"it is {' or '.join(FAMILIES)}")
    return FAMILIES[str(family).lower()]
