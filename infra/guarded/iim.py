"""Read IPTC-IIM out of Photoshop's image resources, as JPEG files carry it. Nothing here is ever skipped.

The surprising rule: a block that ends early or does not add up is refused whole. What lies behind the damage
may be an instruction, and what is not read must not pass for absent (IIM 4.2, section 1.5; Adobe Photoshop
File Formats, Image Resources).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NoReturn

from infra.guarded.refused import Refused

IPTC = 0x0404
XMP = 0x0424
MAX_BYTES = 256 * 1024
"""Of a block; an honest one has some KiB."""
MAX_DATA_SETS = 10_000
"""Of a block; keywords have one each. A block of the largest size may have 50,000, at 120 bytes of memory."""
_KINDS = (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR")
_CHARACTERS = (1, 90)
_UTF8 = b"\x1b%G"
Tag = tuple[int, int]
"""(record, data set), such as (2, 40) for special instructions."""


def refuse(detail: str, rule: str = "syntax") -> NoReturn:
    raise Refused("", "IPTC", rule, detail)


def resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(id, body) of each image resource. Raises :class:`Refused`."""
    place, end = 0, len(data.rstrip(b"\0"))
    while place < end:
        if data[place : place + 4] not in _KINDS:
            refuse(f"at byte {place} no image resource begins")
        name = place + 6
        # The name has a length byte; together they are padded to an even number, as the body is.
        size_at = name + (data[name] // 2 + 1) * 2 if name < len(data) else len(data)
        body = size_at + 4
        if body > len(data):
            refuse(f"the resource at byte {place} ends in its header")
        size = int.from_bytes(data[size_at:body], "big")
        if body + size > len(data):
            refuse(f"the resource at byte {place} has {len(data) - body} of {size} bytes")
        yield int.from_bytes(data[place + 4 : name], "big"), data[body : body + size]
        place = body + size + size % 2


def texts(data: bytes) -> dict[Tag, list[str]]:
    """Every data set as text: UTF-8 where the block says so, else Latin-1. Raises :class:`Refused`."""
    if len(data) > MAX_BYTES:
        refuse(f"{len(data)} bytes, at most {MAX_BYTES} are read", "size")
    found: dict[Tag, list[bytes]] = {}
    for number, (tag, value) in enumerate(_data_sets(data)):
        if number == MAX_DATA_SETS:
            refuse(f"more than {MAX_DATA_SETS} data sets", "count")
        found.setdefault(tag, []).append(value)
    encoding = "utf-8" if _UTF8 in found.get(_CHARACTERS, []) else "latin-1"
    return {tag: [value.decode(encoding, "replace") for value in values] for tag, values in found.items()}


def _data_sets(data: bytes) -> Iterator[tuple[Tag, bytes]]:
    place, end = 0, len(data.rstrip(b"\0"))
    while place < end:
        try:
            mark, record, number, size = struct.unpack_from(">BBBH", data, place)
        except struct.error:
            refuse(f"the data set at byte {place} ends in its header")
        place += 5
        if size & 0x8000:  # extended: the number is the length of the length
            wide, size = size & 0x7FFF, int.from_bytes(data[place : place + min(size & 0x7FFF, 8)], "big")
            place += wide
        if mark != 0x1C or place + size > len(data):
            refuse(f"before byte {place} a data set is damaged: mark {mark:#x}, {size} bytes of content")
        yield (record, number), data[place : place + size]
        place += size
