"""Find the blocks of metadata in a JPEG, PNG or WebP file; what they say is for other readers.

The surprising rule: this walks as tolerantly as decoders do and never fails. A file that is cut off has no
more blocks; a block that is cut off is handed on as it is, for its reader to refuse, and so is one byte more
than its reader takes of a block that is too large. What is seen and not read, such as extended XMP, is named,
so that nobody takes it for absent.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from infra.guarded import jpeg, xmp

XMP_APP1 = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_APP1 = b"http://ns.adobe.com/xmp/extension/\0"
EXIF_APP1 = b"Exif\0\0"
PHOTOSHOP_APP13 = b"Photoshop 3.0\0"
XMP_KEYWORD = b"XML:com.adobe.xmp"
RAW_PROFILE = re.compile(rb"Raw profile type (xmp|iptc|8bim|app1)", re.IGNORECASE)
"""ImageMagick's way to keep them in PNG, as hexadecimal digits."""
MAX_BLOCK = xmp.PACKET.max_bytes
"""Bytes of one, inflated: no reader takes more. A PNG had 15 of 12 MiB, whose texts took 3 GiB."""
MAX_TEXT = 64 * 1024
"""Bytes of a text of EXIF: all that fits a segment of a JPEG."""
MAX_PHOTOSHOP = 4 * 1024 * 1024
MAX_PACKETS = 16
"""Of one kind in one file; an honest one has one, or one more for what another program wrote."""
MAX_WALKED = 100_000
"""Segments or chunks; a PNG of 96 MiB has 12,288 where each holds 8 KiB."""

_XMP, _EXIF, _TEXTS = (b"XMP ", b"XMP\0"), (b"EXIF", b"eXIf"), (b"tEXt", b"zTXt", b"iTXt")
_APP1, _APP13 = 0xE1, 0xED
DESCRIPTION, ARTIST, COPYRIGHT = 0x010E, 0x013B, 0x8298
"""EXIF's texts that say what a picture shows and whose it is."""
_XMP_TAG, _IPTC_TAG = 0x02BC, 0x83BB
_READ = (DESCRIPTION, ARTIST, COPYRIGHT, _XMP_TAG, _IPTC_TAG)
_SIZES = {1: 1, 2: 1, 4: 4, 7: 1}
"""Bytes of a value of EXIF's types that the tags above have."""


@dataclass(slots=True)
class Blocks:
    """What a file carries, in its order."""

    xmp: list[bytes] = field(default_factory=list)
    photoshop: bytearray = field(default_factory=bytearray)
    """Image resources; those of several segments are one."""
    iptc: list[bytes] = field(default_factory=list)
    """IIM that stands outside Photoshop's resources."""
    exif: dict[int, list[str]] = field(default_factory=dict)
    """Texts by tag: ``DESCRIPTION``, ``ARTIST`` and ``COPYRIGHT``, where a file has them."""
    unread: list[str] = field(default_factory=list)
    """Names of what is there and was not read: extended_xmp, raw_profile, large_exif, too_many_blocks."""


def find(image: bytes) -> Blocks:
    """The blocks of a file; none for bytes of any other kind. Never raises."""
    blocks = Blocks()
    for number, (kind, body) in enumerate(_walk(image)):
        if number >= MAX_WALKED or (body and _full(blocks)):
            blocks.unread.append("too_many_blocks")
            break
        if isinstance(kind, int):
            _from_segment(blocks, kind, body)
        elif kind in _XMP:
            blocks.xmp.append(body)
        elif kind in _EXIF:
            _from_exif(blocks, body)
        elif kind in _TEXTS:
            _from_text(blocks, kind, body)
    return blocks


def _full(blocks: Blocks) -> bool:
    packets = max(len(blocks.xmp), len(blocks.iptc), *map(len, blocks.exif.values()))
    return packets >= MAX_PACKETS or len(blocks.photoshop) > MAX_PHOTOSHOP


def _walk(image: bytes) -> Iterator[tuple[int | bytes, bytes]]:
    """(marker or kind, body) of all; the body is empty where it cannot be metadata."""
    if image.startswith(b"\xff\xd8\xff"):
        return _segments(image)
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return _chunks(image, 8, ">I4s", trailer=4)
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return _chunks(image, 12, "<4sI", trailer=0)
    return iter(())


def _segments(image: bytes) -> Iterator[tuple[int | bytes, bytes]]:
    """Marker and body of those before the pixels, where XMP has to stand (its specification, part 3)."""
    for marker, start, end in jpeg.segments(image):
        yield marker, image[start:end] if marker in (_APP1, _APP13) else b""


def _from_segment(blocks: Blocks, marker: int, body: bytes) -> None:
    if marker == _APP13 and body.startswith(PHOTOSHOP_APP13):
        blocks.photoshop += body.removeprefix(PHOTOSHOP_APP13)
    elif body.startswith(XMP_APP1):
        blocks.xmp.append(body.removeprefix(XMP_APP1))
    elif body.startswith(EXTENDED_APP1):
        blocks.unread.append("extended_xmp")
    elif body.startswith(EXIF_APP1):
        _from_exif(blocks, body)


def _chunks(image: bytes, place: int, header: str, *, trailer: int) -> Iterator[tuple[int | bytes, bytes]]:
    """Kind and body of the chunks of PNG and RIFF, which differ in the order of size and kind."""
    while place + 8 <= len(image):
        fields = struct.unpack_from(header, image, place)
        size, kind = fields if header.endswith("s") else reversed(fields)
        taken = min(size, MAX_BLOCK + 1) if kind in (*_XMP, *_EXIF, *_TEXTS) else 0
        yield kind, image[place + 8 : place + 8 + taken]
        if kind == b"IEND":
            return
        place += 8 + size + (trailer or size % 2)


def _from_text(blocks: Blocks, kind: bytes, body: bytes) -> None:
    keyword, _, rest = body.partition(b"\0")
    if RAW_PROFILE.fullmatch(keyword):
        blocks.unread.append("raw_profile")
    elif keyword == XMP_KEYWORD and len(body) > MAX_BLOCK:
        blocks.xmp.append(body)
    elif kind == b"iTXt" and keyword == XMP_KEYWORD:
        packed, text = rest[:1], rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        blocks.xmp.append(text if packed == b"\0" else _inflated(text))
    elif keyword == XMP_KEYWORD:
        blocks.xmp.append(rest if kind == b"tEXt" else _inflated(rest[1:]))


def _inflated(data: bytes) -> bytes:
    """At most ``MAX_BLOCK`` bytes and one. What is no deflate stream is handed on."""
    try:
        return zlib.decompressobj().decompress(data, MAX_BLOCK + 1)
    except zlib.error:
        return data


def _from_exif(blocks: Blocks, body: bytes) -> None:
    """The first directory of a TIFF block. Its damage hides no packet: no reader finds one there either."""
    tiff = body.removeprefix(EXIF_APP1)
    if len(body) > MAX_BLOCK:
        blocks.unread.append("large_exif")
    try:
        for tag, value in _entries(tiff):
            if tag == _XMP_TAG:
                blocks.xmp.append(value)
            elif tag == _IPTC_TAG:
                blocks.iptc.append(value)
            elif len(value) > MAX_TEXT:
                blocks.unread.append("large_exif")
            else:
                blocks.exif.setdefault(tag, []).append(value.decode("utf-8", "replace"))
    except struct.error:
        return


def _entries(tiff: bytes) -> Iterator[tuple[int, bytes]]:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (number,) = struct.unpack_from(order + "H", tiff, start)
    seen: set[int] = set()
    for place in range(start + 2, start + 2 + 12 * number, 12):
        tag, kind, count, offset = struct.unpack_from(order + "HHII", tiff, place)
        if tag in _READ and tag not in seen:
            seen.add(tag)
            size = count * _SIZES.get(kind, 1)
            begin = place + 8 if size <= 4 else offset
            yield tag, tiff[begin : begin + size]
