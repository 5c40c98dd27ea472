"""Describe an image by its own metadata, for a folder that comes without records: part of an asset record.

The surprising rule: what the file leaves out is left out here, and nothing is guessed. A date without a time
zone is no instant and stays away; so do the names of people pictured and the place a camera noted, which
nobody asked to be trained on. Of each field the first source that has it counts: the ``.xmp`` beside the
image, XMP inside, IPTC-IIM, EXIF. A release and an age are the most restrictive that any of them states.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infra.guarded import blocks, nfc, xmp
from infra.guarded.iim import Tag
from pipeline.embedded import AGES, GENERATED, RELEASES, Released, source_of, value_of
from pipeline.extract import (
    BYLINE,
    COPYRIGHT,
    CREDIT_LINE,
    DIGITAL_SOURCE,
    MINOR_AGE,
    MODEL_RELEASE,
    PROPERTY_RELEASE,
    data_sets,
    properties,
)
from pipeline.fields import Release, Tri, clean
from pipeline.notices import CREATOR, CREDIT, NOTICE

_DC, _PHOTOSHOP = "{http://purl.org/dc/elements/1.1/}", "{http://ns.adobe.com/photoshop/1.0/}"
_DIGITAL_SOURCE = re.compile(r"https?://cv\.iptc\.org/newscodes/digitalsourcetype/[A-Za-z]+")
MAX_KEYWORDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a field stands, in each kind of source."""

    xmp: tuple[str, ...]
    iim: tuple[Tag, ...] = ()
    exif: tuple[int, ...] = ()


TEXTS = {
    "title": (Place(xmp=(f"{_DC}title", f"{_PHOTOSHOP}Headline"), iim=((2, 5), (2, 105))), 400),
    "description": (Place(xmp=(f"{_DC}description",), iim=((2, 120),), exif=(blocks.DESCRIPTION,)), 4000),
    "credit_line": (Place(xmp=(CREDIT,), iim=(CREDIT_LINE,)), 512),
    "copyright_notice": (Place(xmp=(NOTICE,), iim=(COPYRIGHT,), exif=(blocks.COPYRIGHT,)), 1024),
}
"""Fields of one text, and how many characters of it the contract takes."""
KEYWORDS = Place(xmp=(f"{_DC}subject",), iim=((2, 25),))
CREATORS = Place(xmp=(CREATOR,), iim=(BYLINE,), exif=(blocks.ARTIST,))
CREATED = Place(xmp=(f"{_PHOTOSHOP}DateCreated", "{http://ns.adobe.com/xap/1.0/}CreateDate"))
DAY, TIME = (2, 55), (2, 60)
COUNTRY = Place(xmp=("{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}CountryCode",))
SUPPLIER_ID = Place(xmp=("{http://ns.useplus.org/ldf/xmp/1.0/}ImageSupplierImageID",))
PLACES = (*(place for place, _ in TEXTS.values()), KEYWORDS, CREATORS, CREATED, COUNTRY, SUPPLIER_ID)
WANTED = frozenset({MODEL_RELEASE, PROPERTY_RELEASE, MINOR_AGE, DIGITAL_SOURCE}).union(
    *(place.xmp for place in PLACES)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """All that a file and its sidecars say, most trusted first."""

    packets: tuple[xmp.Properties, xmp.Properties]
    """Of the sidecars, and of the packets inside."""
    iim: dict[Tag, list[str]]
    exif: dict[int, list[str]]

    def values(self, place: Place) -> Iterator[list[str]]:
        """The values of a field, source by source; those without any are left out."""
        told = [told.get(name, ()) for told in self.packets for name in place.xmp]
        told += [tuple(self.iim.get(tag, ())) for tag in place.iim]
        told += [tuple(self.exif.get(tag, ())) for tag in place.exif]
        cleaned = ([text for text in map(_clean, values) if text] for values in told)
        yield from filter(None, cleaned)

    def text(self, place: Place, most: int) -> str | None:
        """The first value, which of several languages is the default one."""
        found = next(self.values(place), None)
        return _cut(found[0], most) if found else None

    def every(self, name: str) -> list[str]:
        return [value for told in self.packets for value in told.get(name, ())]


def record(image: bytes, packets: Sequence[bytes] = ()) -> dict[str, Any]:
    """The fields of an asset record that a JPEG, PNG or WebP file and its ``.xmp`` files have, as JSON has
    them and as long as the contract takes. Never raises; what is damaged is left out here, and
    :mod:`pipeline.extract` says so.
    """
    found = blocks.find(image)
    iim, inside = data_sets(found, [])
    told = (properties(packets, WANTED, []), properties((*found.xmp, *inside), WANTED, []))
    sources = Sources(packets=told, iim=iim, exif=found.exif)
    fields = {**_words(sources), **_facts(sources), **_stated(sources)}
    return {name: value for name, value in fields.items() if value}


def _words(sources: Sources) -> dict[str, Any]:
    creators = next(sources.values(CREATORS), [])
    keywords = dict.fromkeys(_cut(word, 100) for word in next(sources.values(KEYWORDS), []))
    return {
        **{name: sources.text(place, most) for name, (place, most) in TEXTS.items()},
        "keywords": list(keywords)[:MAX_KEYWORDS],
        "contributor": _only(display_name=_cut(", ".join(creators), 256)),
    }


def _facts(sources: Sources) -> dict[str, Any]:
    country = sources.text(COUNTRY, 64) or ""
    taken = itertools.chain(itertools.chain.from_iterable(sources.values(CREATED)), _taken(sources.iim))
    return {
        "location": _only(country=country.upper() if re.fullmatch("[A-Za-z]{2}", country) else None),
        "date_created": next(filter(None, map(_instant, taken)), None),
        "extra": _only(supplier_image_id=sources.text(SUPPLIER_ID, 4096)),
    }


def _stated(sources: Sources) -> dict[str, Any]:
    """What a record may repeat of the file's own statements. Rights read the file besides."""
    rank = ("yes", "partial", None)
    kinds = sorted(sources.every(DIGITAL_SOURCE), key=lambda kind: rank.index(GENERATED.get(source_of(kind))))
    kind = kinds[0] if kinds else ""
    return {
        "releases": _only(
            model=_release("model", sources.every(MODEL_RELEASE)),
            property=_release("property", sources.every(PROPERTY_RELEASE)),
        ),
        "has_minors": _minors(sources.every(MINOR_AGE)),
        "digital_source_type": kind if _DIGITAL_SOURCE.fullmatch(kind) else None,
        "ai_generated": GENERATED.get(source_of(kind)),
    }


def _release(kind: Released, values: list[str]) -> Release | None:
    """The least of them; a word that is not PLUS's makes it unknown."""
    order: tuple[Release, ...] = ("unknown", "none", "limited", "not_applicable", "unlimited")
    found = (RELEASES[kind].get(value_of(value), "unknown") for value in values)
    return min(found, key=order.index, default=None)


def _minors(values: list[str]) -> Tri | None:
    order: tuple[Tri, ...] = ("yes", "unknown", "no")
    found = (AGES.get(value_of(value), "unknown") for value in values)
    return min(found, key=order.index, default=None)


def _taken(iim: dict[Tag, list[str]]) -> Iterator[str]:
    """``20240501`` and ``120000+0200`` are one instant."""
    for day, time in zip(iim.get(DAY, ()), iim.get(TIME, ()), strict=False):
        yield f"{_clean(day)}T{_clean(time)}"


def _instant(text: str) -> str | None:
    """As the contract writes it; None for what is no instant, or has no zone.

    >>> _instant("2024-05-01T12:00:00+02:00")
    '2024-05-01T10:00:00Z'
    >>> _instant("2024-05-01T12:00:00")
    """
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None
    known = moment.tzinfo is not None and moment.year >= 1000  # the contract's first year
    return moment.replace(tzinfo=None).isoformat() + "Z" if known else None


def _only(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value}


def _clean(text: str) -> str:
    return nfc.normal(clean(text.replace("\0", " "))).strip()


def _cut(text: str, most: int) -> str:
    """At the end of a word, where there is one.

    >>> _cut("a red bicycle", 8)
    'a red'
    >>> _cut("bicycles", 3)
    'bic'
    """
    if len(text) <= most:
        return text
    ends = [place for place, char in enumerate(text[: most + 1]) if char.isspace()]
    return text[: ends[-1] if ends else most].rstrip()
