"""Read what an image file itself says of its rights: XMP, IPTC-IIM and EXIF, from the delivered bytes.

The surprising rule: damage asks for a person. A packet that cannot be read may hold a prohibition, so it is
named in ``Extracted.unread`` and never taken for absent; nothing that a file holds makes this fail. Sources
have no precedence: whatever any of them forbids is forbidden. Re-encoding drops all of it, which is why it is
read here and why :mod:`pipeline.notices` writes the notices anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from infra.guarded import blocks, iim, xmp
from infra.guarded.blocks import MAX_PACKETS, Blocks
from infra.guarded.iim import Tag
from infra.guarded.refused import Refused
from pipeline.embedded import PLUS, Extracted, value_of
from pipeline.notices import (
    CREATOR,
    CREDIT,
    DATA_MINING,
    INSTRUCTIONS,
    NOTICE,
    OTHER_CONSTRAINTS,
    USAGE_TERMS,
    WEB_STATEMENT,
    Notices,
)

EXTENDED = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
WANTED = frozenset(
    {
        CREATOR,
        CREDIT,
        NOTICE,
        USAGE_TERMS,
        WEB_STATEMENT,
        INSTRUCTIONS,
        DATA_MINING,
        OTHER_CONSTRAINTS,
        EXTENDED,
    }
)
BYLINE, CREDIT_LINE, COPYRIGHT, SPECIAL_INSTRUCTIONS = (2, 80), (2, 110), (2, 116), (2, 40)

PROHIBITION = b"DMI-PROHIBITED"
ASSERTION = b".training-mining"
"""Ends the labels of both C2PA assertions, ``c2pa.`` and ``cawg.``; JUMBF holds labels as they are."""
MAX_CHARS = 1000
"""Kept of an instruction: enough to read why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    extracted: Extracted
    """What decides."""
    notices: Notices
    """What stays with the picture."""


def extract(image: bytes) -> Found:
    """Of a JPEG, PNG or WebP file, whole or damaged; nothing for bytes of any other kind. Never raises."""
    found = blocks.find(image)
    unread = list(found.unread)
    iptc = _iptc(found, unread)
    told = _xmp(found, unread)
    if EXTENDED in told:
        unread.append("extended_xmp")
    if image.count(PROHIBITION) > sum(packet.count(PROHIBITION) for packet in found.xmp):
        unread.append("stray_data_mining")
    said = Extracted(
        data_mining=told.get(DATA_MINING, ()),
        training_mining=(("assertion", "unread"),) if ASSERTION in image else (),
        other_constraints=_joined(told.get(OTHER_CONSTRAINTS, ())),
        special_instructions=_joined((*told.get(INSTRUCTIONS, ()), *iptc.get(SPECIAL_INSTRUCTIONS, ()))),
        unread=tuple(dict.fromkeys(unread)),
    )
    return Found(extracted=said, notices=_notices(told, iptc, found.copyrights))


def notices_of(image: bytes) -> Notices:
    """The same notices, without the search of all bytes for what stands elsewhere: it takes 8 ms for 11 MB,
    and was done when rights were decided.
    """
    found = blocks.find(image)
    iptc = _iptc(found, [])
    return _notices(_xmp(found, []), iptc, found.copyrights)


def _xmp(found: Blocks, unread: list[str]) -> xmp.Properties:
    """The properties of all packets, one after the other."""
    told: xmp.Properties = {}
    if len(found.xmp) > MAX_PACKETS:
        unread.append("too_many_blocks")
    for packet in found.xmp[:MAX_PACKETS]:
        try:
            properties = xmp.read(packet, WANTED)
        except Refused:
            unread.append("unreadable_xmp")
            continue
        for name, values in properties.items():
            told[name] = tuple(dict.fromkeys(told.get(name, ()) + values))
    return told


def _iptc(found: Blocks, unread: list[str]) -> dict[Tag, list[str]]:
    """The data sets of all IIM blocks. A packet among Photoshop's resources joins the others."""
    told: dict[Tag, list[str]] = {}
    try:
        resources = list(iim.resources(bytes(found.photoshop)))
    except Refused:
        unread.append("unreadable_iptc")
        resources = []
    found.xmp.extend(body for number, body in resources if number == iim.XMP)
    for block in (*found.iptc, *(body for number, body in resources if number == iim.IPTC)):
        try:
            for tag, values in iim.texts(block).items():
                told.setdefault(tag, []).extend(values)
        except Refused:
            unread.append("unreadable_iptc")
    return told


def _notices(told: xmp.Properties, iptc: dict[Tag, list[str]], exif: Iterable[str]) -> Notices:
    """Each from the first source that has it: XMP, then IIM, then EXIF."""

    def first(name: str, *others: Iterable[str]) -> str:
        found = (text for texts in (told.get(name, ()), *others) for text in map(_clean, texts) if text)
        return next(found, "")

    creators: Iterable[str] = told.get(CREATOR) or iptc.get(BYLINE, [])
    return Notices(
        creators=tuple(filter(None, map(_clean, creators))),
        credit=first(CREDIT, iptc.get(CREDIT_LINE, ())),
        notice=first(NOTICE, iptc.get(COPYRIGHT, ()), exif),
        usage_terms=first(USAGE_TERMS),
        web_statement=first(WEB_STATEMENT),
        data_mining=max(
            told.get(DATA_MINING, ()), key=lambda value: len(PLUS.get(value_of(value), ())), default=""
        ),
    )


def _clean(text: str) -> str:
    return text.replace("\0", " ").strip()


def _joined(texts: Iterable[str]) -> str:
    return "\n".join(dict.fromkeys(filter(None, map(_clean, texts))))[:MAX_CHARS]
