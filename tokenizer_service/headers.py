"""The size of a picture, from the header of its file alone.

The surprising rule: Pillow is not asked. Opening a file, its class for WebP allocates the whole canvas, that
for PNG copies every chunk before the pixels, twice, and that for JPEG every segment: as much as the file has.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal

from infra.guarded import jpeg

Format = Literal["JPEG", "PNG", "WEBP"]

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def png_size(data: bytes) -> tuple[int, int]:
    """From the chunk that is the first (ISO/IEC 15948, section 5.6)."""
    if data[12:16] != b"IHDR" or len(data) < 24:
        raise ValueError(f"a PNG file that begins with the chunk {data[12:16]!r}, not with a whole IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def jpeg_size(data: bytes) -> tuple[int, int]:
    """From the first frame header (ITU-T T.81, section B.2.2)."""
    for marker, start, _ in jpeg.segments(data):
        if marker in _FRAMES and start + 5 <= len(data):
            height, width = struct.unpack_from(">HH", data, start + 1)
            return width, height
    raise ValueError("a JPEG file without a frame header before its pixels")


def webp_size(data: bytes) -> tuple[int, int]:
    """Canvas size from the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise ValueError(f"a WebP file of only {len(data)} bytes")
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError(f"a WebP file that begins with the chunk {chunk!r}")


SIZES: dict[Format, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": jpeg_size,
    "PNG": png_size,
    "WEBP": webp_size,
}
