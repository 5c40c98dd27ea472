"""Read what an image file itself says of its rights: XMP, IPTC-IIM, EXIF and C2PA, from the delivered bytes.

The surprising rule: damage asks for a person. A packet that cannot be read may hold a prohibition, so it is
named in ``Extracted.unread`` and never taken for absent; nothing that a file holds makes this fail. Sources
have no precedence: whatever any of them forbids, a delivered ``.xmp`` among them, is forbidden. Re-encoding
drops all of it, which is why it is read here and why :mod:`pipeline.notices` writes the notices anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from infra.guarded import blocks, iim, xmp
from infra.guarded.blocks import MAX_PACKETS, Blocks
from infra.guarded.iim import Tag
from infra.guarded.refused import Refused
from pipeline import c2pa
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

_PLUS = "{http://ns.useplus.org/ldf/xmp/1.0/}"
MODEL_RELEASE, PROPERTY_RELEASE = f"{_PLUS}ModelReleaseStatus", f"{_PLUS}PropertyReleaseStatus"
MINOR_AGE = f"{_PLUS}MinorModelAgeDisclosure"
DIGITAL_SOURCE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
PROVENANCE = "{http://purl.org/dc/terms/}provenance"
EXTENDED = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
NOTICES = frozenset({CREATOR, CREDIT, NOTICE, USAGE_TERMS, WEB_STATEMENT, DATA_MINING})
WANTED = NOTICES | {
    INSTRUCTIONS,
    OTHER_CONSTRAINTS,
    MODEL_RELEASE,
    PROPERTY_RELEASE,
    MINOR_AGE,
    DIGITAL_SOURCE,
    PROVENANCE,
    EXTENDED,
}
BYLINE, CREDIT_LINE, COPYRIGHT, SPECIAL_INSTRUCTIONS = (2, 80), (2, 110), (2, 116), (2, 40)

PROHIBITION = b"DMI-PROHIBITED"
ASSERTION = c2pa.LABEL.encode()
"""JUMBF holds the labels of assertions as they are, but for those of a manifest that is compressed whole."""
JUMBF, COMPRESSED = b"jumb", b"brob"
MAX_CHARS = 1000
"""Kept of an instruction: enough to read why."""
MAX_WORDS, MAX_WORD = 32, 2000
"""Kept of a property that has a vocabulary, and characters of each. An address of PLUS has 70; what our own
packets hold of another value has up to 1500."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    extracted: Extracted
    """What decides."""
    notices: Notices
    """What stays with the picture."""


def extract(image: bytes, packets: Sequence[bytes] = (), *, manifests: c2pa.Read = c2pa.unread) -> Found:
    """Of a JPEG, PNG or WebP file, whole or damaged, and of the ``.xmp`` files beside it. Never raises; bytes
    of any other kind say nothing. ``manifests`` reads C2PA, where the file has any.
    """
    found = blocks.find(image)
    unread = list(found.unread)
    iptc, inside = data_sets(found, unread)
    embedded = (*found.xmp, *inside)
    told = properties((*packets, *embedded), WANTED, unread)
    if EXTENDED in told:
        unread.append("extended_xmp")
    if image.count(PROHIBITION) > sum(packet.count(PROHIBITION) for packet in embedded):
        unread.append("stray_data_mining")
    if any(map(_elsewhere, told.get(PROVENANCE, ()))) and JUMBF not in image:
        unread.append("remote_manifest")
    said = Extracted(
        data_mining=_words(told, DATA_MINING, unread),
        training_mining=_assertions(image, manifests),
        model_release=_words(told, MODEL_RELEASE, unread),
        property_release=_words(told, PROPERTY_RELEASE, unread),
        minor_age=_words(told, MINOR_AGE, unread),
        digital_source=_words(told, DIGITAL_SOURCE, unread),
        other_constraints=_joined(told.get(OTHER_CONSTRAINTS, ())),
        special_instructions=_joined((*told.get(INSTRUCTIONS, ()), *iptc.get(SPECIAL_INSTRUCTIONS, ()))),
        unread=tuple(dict.fromkeys(unread)),
    )
    return Found(extracted=said, notices=_notices(told, iptc, found))


def notices_of(image: bytes, packets: Sequence[bytes] = ()) -> Notices:
    """The same notices, without the searches of all bytes for what stands elsewhere: they take 12 ms for
    11 MB, and were done when rights were decided.
    """
    found = blocks.find(image)
    iptc, inside = data_sets(found, [])
    return _notices(properties((*packets, *found.xmp, *inside), NOTICES, []), iptc, found)


def properties(packets: Sequence[bytes], wanted: Collection[str], unread: list[str]) -> xmp.Properties:
    """Of all packets, one after the other. What cannot be read is named in ``unread``."""
    told: xmp.Properties = {}
    if len(packets) > MAX_PACKETS:
        unread.append("too_many_blocks")
    for packet in packets[:MAX_PACKETS]:
        try:
            found = xmp.read(packet, wanted)
        except Refused:
            unread.append("unreadable_xmp")
            continue
        for name, values in found.items():
            told[name] = tuple(dict.fromkeys(told.get(name, ()) + values))
    return told


def data_sets(found: Blocks, unread: list[str]) -> tuple[dict[Tag, list[str]], list[bytes]]:
    """The data sets of all IIM blocks, and the packets that stand among Photoshop's resources."""
    told: dict[Tag, list[str]] = {}
    try:
        resources = list(iim.resources(bytes(found.photoshop)))
    except Refused:
        unread.append("unreadable_iptc")
        resources = []
    for block in (*found.iptc, *(body for number, body in resources if number == iim.IPTC)):
        try:
            for tag, values in iim.texts(block).items():
                told.setdefault(tag, []).extend(values)
        except Refused:
            unread.append("unreadable_iptc")
    return told, [body for number, body in resources if number == iim.XMP]


def _words(told: xmp.Properties, name: str, unread: list[str]) -> tuple[str, ...]:
    """The values of a property, few and short; where there are others, they are unread."""
    values = told.get(name, ())
    kept = tuple(value for value in values if len(value) <= MAX_WORD)[:MAX_WORDS]
    if len(kept) < len(values):
        unread.append("large_xmp")
    return kept


def _elsewhere(provenance: str) -> bool:
    """A manifest at an address, which nobody asks; ``self#jumbf=…`` is the one inside."""
    return provenance.lower().startswith(("http:", "https:"))


def _assertions(image: bytes, manifests: c2pa.Read) -> c2pa.Entries:
    """What the manifests say of training. Where they cannot be read it counts whether they name it."""
    labelled = ASSERTION in image
    if not labelled and JUMBF not in image:
        return ()
    told = manifests(image)
    hidden = told is None and COMPRESSED in image
    return told or ((c2pa.UNREAD,) if labelled or hidden else ())


def _notices(told: xmp.Properties, iptc: dict[Tag, list[str]], found: Blocks) -> Notices:
    """Each from the first source that has it: XMP, then IIM, then EXIF."""

    def first(name: str, *others: Iterable[str]) -> str:
        texts = (text for source in (told.get(name, ()), *others) for text in map(_clean, source) if text)
        return next(texts, "")

    creators: Iterable[str] = told.get(CREATOR) or iptc.get(BYLINE, [])
    return Notices(
        creators=tuple(filter(None, map(_clean, creators))),
        credit=first(CREDIT, iptc.get(CREDIT_LINE, ())),
        notice=first(NOTICE, iptc.get(COPYRIGHT, ()), found.exif.get(blocks.COPYRIGHT, ())),
        usage_terms=first(USAGE_TERMS),
        web_statement=first(WEB_STATEMENT),
        data_mining=max(
            told.get(DATA_MINING, ()), key=lambda value: len(PLUS.get(value_of(value), ())), default=""
        ),
    )


def _clean(text: str) -> str:
    return text.replace("\0", " ").strip()


def _joined(texts: Iterable[str]) -> str:
    return "\n".join(dict.fromkeys(filter(None, (_clean(text)[:MAX_CHARS] for text in texts))))[:MAX_CHARS]
