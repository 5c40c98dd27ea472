"""Image objects of the Getty Images API, version 3, as ``/v3/images`` answers them, with the pictures.

Tables are pages (``{"images": [...]}``), lists, or JSON Lines. The image of object 123 is ``123.jpg``,
``gettyimages-123.jpg`` or ``GettyImages-123.jpg``, in any folder.

The surprising rule: words that restrict are read, and words that permit are not. ``usage_restrictions``,
``call_for_image``, and whatever ``how_can_i_use_it`` and ``release_info`` say in words that are not known
keep a picture for a person; "Not released" is no release. "Available for all permitted uses", "Model
released" and ``license_model`` are kept under ``extra``, and admit nothing. Names of people are not kept.
"""

from __future__ import annotations

import re
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
PERMITTED = re.compile(
    r"available for all permi(tted|ssible) uses( under our \|?(License|Licence) (Terms|Agreements?)\|?)?\.?",
    re.IGNORECASE,
)
RELEASED = re.compile(
    r"(model|property|model and property|property and model) released?\.?|no release (required|needed)\.?",
    re.IGNORECASE,
)
NOT_RELEASED = re.compile(r"(not released|no release)\b", re.IGNORECASE)
SILENT = re.compile(r"(not released|no release)\.?( \|?more information\.?\|?)?", re.IGNORECASE)
"""No release, and nothing besides."""
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
        "releases": releases(allowed.get("release_info")),
        "contributor": agency.said({"id": row.cell("artist_id"), "display_name": row.cell("artist")}),
        "credit_line": row.cell("credit_line"),
        "copyright_notice": row.cell("copyright"),
        "usage_restrictions": [
            *agency.sentences(allowed.get("usage_restrictions")),
            *unknown("how_can_i_use_it", allowed.get("how_can_i_use_it"), PERMITTED),
            *unknown("release_info", allowed.get("release_info"), RELEASED, SILENT),
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


def releases(told: Any) -> dict[str, str]:
    """Neither people nor property, where the agency says that there is no release; nothing otherwise."""
    missing = not RELEASED.fullmatch(str(told)) and NOT_RELEASED.match(str(told))
    return {"model": "none", "property": "none"} if missing else {}


def unknown(name: str, told: Any, *known: re.Pattern[str]) -> list[str]:
    """What is said in words that have no meaning here, for a person."""
    return [
        f"{name}: {sentence}"
        for sentence in agency.sentences(told)
        if not any(words.fullmatch(sentence) for words in known)
    ]
