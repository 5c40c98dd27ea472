"""Image objects of the Shutterstock API, editorial ones too, with the pictures and the feed of changes.

Tables are pages (``{"data": [...]}``), lists, or JSON Lines; the fields are those of openapi.json 1.0.30. The
image of object 123 is ``123.jpg`` or ``shutterstock_123.jpg``, in any folder. Files of role ``feed`` are
answers of ``/v2/images/updated`` (:mod:`pipeline.deliveries.shutterstock_feed`).

The surprising rule: a "yes" to releases says only that there are some. Whether they are unlimited stands
under ``every_asset``; and as ``models`` may be people or property, it says no more than that people may be
seen. ``assets`` describes sizes that were not delivered, and nothing of it is taken for the delivered file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from infra.guarded.refused import Refused
from pipeline.contract import Delivery
from pipeline.deliveries import agency, shutterstock_feed
from pipeline.deliveries.agency import Reading
from pipeline.deliveries.columns import Cells
from pipeline.deliveries.rows import Entry, Table

DROPPED = frozenset({"affiliate_url", "aspect", "assets", "updates"})
EDITORIAL = frozenset(
    {"byline", "commercial_status", "date_taken", "rights", "special_instructions", "supplier_code"}
)
"""Fields that only the editorial endpoints answer."""
AVAILABLE = "available"


def entries(tables: Sequence[Table]) -> Iterator[Entry]:
    for entry in agency.objects(tables, prefixes=("shutterstock_",)):
        changes = agency.words(entry.cells.get("updates"))
        if shutterstock_feed.is_deletion(changes):
            # Nobody would look for it here, and what is gone would stay.
            told = f"got {str(changes)[:60]!a}; list the file that tells of deletions under the role feed"
            raise Refused(entry.place, "updates", "feed", told)
        yield entry


def record(cells: Cells, delivery: Delivery) -> dict[str, Any]:
    row = Reading(cells)
    check(row)
    fields = {
        **agency.identity(row.cell("id")),
        "image_type": drawn(row),
        "title": row.cell("title"),
        "description": row.cell("description") or row.cell("caption") or row.cell("title"),
        "keywords": agency.words(row.cell("keywords")),
        "categories": agency.named(row.cell("categories")),
        "is_editorial": editorial(row),
        "is_adult": row.flag("is_adult"),
        "has_people": "unknown" if agency.words(cells.get("models")) else None,
        "releases": releases(row),
        "date_created": row.moment("date_taken"),
        "date_submitted": row.moment("added_date"),
        "date_updated": row.moment("updated_time"),
        "contributor": agency.said({"id": agency.number(agency.inside(row.cell("contributor"), "id"))}),
        "credit_line": row.cell("byline"),
        "usage_restrictions": restrictions(row),
    }
    return row.record(fields, delivery, dropped=DROPPED)


def check(row: Reading) -> None:
    """An object that is none of an image is no record of one."""
    if row.cell("media_type") not in (None, "", "image"):
        raise agency.wrong("media_type", row.cell("media_type"), "send images only")


def drawn(row: Reading) -> str | None:
    told, illustration = row.image_type("image_type"), row.flag("is_illustration")
    return told or ("illustration" if illustration else None)


def editorial(row: Reading) -> bool | None:
    told = row.flag("is_editorial")
    return True if told is None and EDITORIAL & row.cells.keys() else told


def releases(row: Reading) -> dict[str, Any]:
    """A release that is missing is "none". Ids are those of any release, so that a revocation finds it."""
    ids = [
        agency.number(agency.inside(entry, "id") or entry)
        for entry in agency.words(row.cell("model_releases"))
    ]
    ids += agency.sentences(row.cell("releases"))
    return agency.said(
        {
            "model": "none" if row.flag("has_model_release") is False else None,
            "property": "none" if row.flag("has_property_release") is False else None,
            "model_release_ids": list(dict.fromkeys(map(agency.plain, ids))),
        }
    )


def restrictions(row: Reading) -> list[str]:
    """In words for a person: countries are written as ``+DEU,-*``, and a status has a reason."""
    rights, status = row.cell("rights"), row.cell("commercial_status")
    countries = agency.inside(rights, "countries") if isinstance(rights, dict) else rights
    free = isinstance(status, dict) and status.get("status") == AVAILABLE
    told = {"rights": countries, "commercial_status": None if free else status}
    named = [f"{name}: {agency.plain(value)}" for name, value in agency.said(told).items()]
    return [*named, *agency.sentences(row.cell("special_instructions"))]
