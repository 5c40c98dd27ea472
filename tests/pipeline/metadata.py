"""Pictures with metadata put in by hand, byte by byte: what they say, and how they lie."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from infra.guarded import blocks

NO = "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED"
YES = "http://ns.useplus.org/ldf/vocab/DMI-ALLOWED"
SPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "dcterms": "http://purl.org/dc/terms/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
}
RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 255, (48, 40, 3), dtype=np.uint8))
Write = Callable[[bytes], bytes]


def xmp(inside: str = f"<plus:DataMining>{NO}</plus:DataMining>", **spaces: str) -> bytes:
    bound = "".join(f' xmlns:{prefix}="{address}"' for prefix, address in {**SPACES, **spaces}.items())
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about=""{bound}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


def saved(kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    PICTURE.save(sink, kind, **options)
    return sink.getvalue()


PLAIN = {kind: saved(kind) for kind in ("JPEG", "PNG", "WEBP")}


def segment(marker: int, body: bytes, *, size: int | None = None) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2 if size is None else size) + body


def jpeg(*segments: bytes) -> bytes:
    return PLAIN["JPEG"][:2] + b"".join(segments) + PLAIN["JPEG"][2:]


def jpeg_xmp(packet: bytes) -> bytes:
    return jpeg(segment(0xE1, blocks.XMP_APP1 + packet))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, at_end: bool = False) -> bytes:
    cut = len(PLAIN["PNG"]) - 12 if at_end else 33
    return PLAIN["PNG"][:cut] + b"".join(chunks) + PLAIN["PNG"][cut:]


def png_text(packet: bytes, *, packed: bool = False) -> bytes:
    text = zlib.compress(packet) if packed else packet
    return chunk(b"iTXt", blocks.XMP_KEYWORD + b"\0" + bytes([packed, 0]) + b"en\0XMP\0" + text)


def webp(packet: bytes) -> bytes:
    return saved("WEBP", xmp=packet)


def resource(number: int, body: bytes, *, size: int | None = None) -> bytes:
    told = len(body) if size is None else size
    return b"8BIM" + struct.pack(">HBBI", number, 0, 0, told) + body + b"\0" * (len(body) % 2)


def data_set(record: int, number: int, value: bytes) -> bytes:
    return struct.pack(">BBBH", 0x1C, record, number, len(value)) + value


def photoshop(*resources: bytes) -> bytes:
    return jpeg(segment(0xED, blocks.PHOTOSHOP_APP13 + b"".join(resources)))


def iptc(*data_sets: bytes) -> bytes:
    return photoshop(resource(0x0425, bytes(16)), resource(0x0404, b"".join(data_sets)))


def tiff(tag: int, value: bytes, *, order: str = "<", kind: int = 2) -> bytes:
    """An EXIF block of one tag, its value behind the directory."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = struct.pack(order + "IHHHIII", 8, 1, tag, kind, len(value), 26, 0)
    return b"Exif\0\0" + mark + head + value
