"""The quick way from a photograph's JPEG to a small picture, and back to a JPEG, by libjpeg-turbo.

The surprising rule: this way is for JPEGs without fault, in grey or in three colours. CMYK, and whatever
libjpeg so much as warns about, goes the long way, through ``images``: what is a picture is decided there
alone. Measured in ``infra/decisions/0010-how-photographs-are-decoded.md``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from infra.guarded import jpeg
from tokenizer_service import orientation, sizes
from tokenizer_service.profiles import in_srgb

# H height, W width
Pixels = NDArray[np.uint8]

DIVISORS = (8, 4, 2, 1)
"""A picture is decoded at 1/8, 1/4 or 1/2 of its size (blocks of 8x8 as 1x1, 2x2 or 4x4) as long as this
leaves twice the wanted size: then 41.1 dB from a full decode, with 1.5 times 38.8 dB."""
QUICK = {"YCbCr": "RGB", "RGB": "RGB", "Gray": "GRAY"}
"""Color spaces of JPEG that are decoded here, and as what."""
_APP1, _APP2, _APP14 = 0xE1, 0xE2, 0xEE
NEEDED = frozenset({0xDB, 0xC4, 0xC0, 0xC1, 0xDD})
"""Quantisation, Huffman tables, frame header of a sequential JPEG, restarts (ITU-T T.81, table B.1)."""
BESIDE = frozenset({*range(0xE0, 0xF0), 0xFE})
"""APP0 to APP15, and comments."""
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
"""The first segment, of a JPEG without density and thumbnail."""
_EXIF, _ICC, _XMP = b"Exif\0\0", b"ICC_PROFILE\0", b"http://ns.adobe.com/xap/1.0/\0"
MAX_PACKET = 65_533 - len(_XMP)
"""Bytes of XMP in one marker: 65,504."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a file says of its pixels."""

    exif: bytes = b""
    profile: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    pixels_HWC: Pixels
    """[H, W, 3] in sRGB, as stored."""
    turn: int
    """The EXIF orientation."""
    is_plain: bool
    """In colour, of this very size, upright, without a profile: the file shows what the pixels do."""


def small(data: bytes, max_side: int) -> Small | None:
    """The picture with at most ``max_side`` pixels a side; None for all that goes the long way.

    Colour is converted last, where there are fewest pixels.
    """
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        if space not in QUICK:
            return None
        decoded_HWC = decoded(data, width, height, space=space, max_side=max_side)
    except ValueError:  # libjpeg's warnings too: strict is its default
        return None
    beside, size = told(data), sizes.shrunk(width, height, max_side)
    turn, fits = orientation.turn_of(beside.exif), size == (width, height)
    is_plain = fits and turn == 1 and not beside.profile and space == "YCbCr"
    small_HWC = sizes.shrink(decoded_HWC, size)
    if beside.profile or space == "Gray":
        stored = Image.fromarray(small_HWC[..., 0] if space == "Gray" else small_HWC)
        small_HWC = np.asarray(in_srgb(stored, beside.profile))
    return Small(pixels_HWC=small_HWC, turn=turn, is_plain=is_plain)


def decoded(data: bytes, width: int, height: int, *, space: str, max_side: int) -> Pixels:
    longer = max(width, height)
    by = next(by for by in DIVISORS if by == 1 or longer >= by * sizes.OVERSAMPLING * max_side)
    found: Pixels = simplejpeg.decode_jpeg(
        data, QUICK[space], min_height=-(-height // by), min_width=-(-width // by), min_factor=1
    )
    return found


def told(data: bytes) -> Beside:
    """EXIF and ICC profile (ICC.1:2022, B.4: in as many markers as it takes, numbered)."""
    exif, parts = b"", []
    for marker, start, end in jpeg.segments(data):
        body = data[start:end] if marker in (_APP1, _APP2) else b""
        if marker == _APP1 and body.startswith(_EXIF) and not exif:
            exif = body
        elif marker == _APP2 and body.startswith(_ICC):
            parts.append(body[len(_ICC) :])
    return Beside(exif=exif, profile=b"".join(part[2:] for part in sorted(parts)))


def encode(image_HWC: Pixels, quality: int, *, xmp: bytes | None = None) -> bytes:
    """Baseline JPEG with full colour resolution (4:4:4); same pixels, same bytes for one libjpeg.

    ``xmp`` is a packet of at most 65,504 bytes, the size of one marker.
    """
    if xmp is not None and len(xmp) > MAX_PACKET:
        raise ValueError(f"an XMP packet in a JPEG is at most {MAX_PACKET} bytes, got {len(xmp)}; shorten it")
    whole_HWC = np.ascontiguousarray(image_HWC)
    plain: bytes = simplejpeg.encode_jpeg(
        whole_HWC, quality=quality, colorspace="RGB", colorsubsampling="444"
    )
    return plain if xmp is None else _with_xmp(plain, xmp)


def kept(data: bytes, *, xmp: bytes | None = None) -> bytes | None:
    """A plain JPEG as it was delivered, without a byte of what stands beside its pixels (EXIF, XMP, comments,
    thumbnails, whatever follows its end) and with ``xmp``. None for one of several scans, or with markers in
    the midst of its pixels.
    """
    parts, scan = [], 2
    for marker, start, end in jpeg.segments(data):
        body = data[start:end]
        if marker in NEEDED or (marker == _APP14 and body.startswith(b"Adobe")):
            parts.append(data[start - 4 : end])
        elif marker not in BESIDE:
            return None
        scan = end
    ended = _MARKER.search(data, scan + 2)  # behind the scan's own marker
    if data[scan : scan + 2] != _SCAN or ended is None or ended[0] != _END:
        return None
    plain = b"".join((b"\xff\xd8", _JFIF, *parts, data[scan : ended.end()]))
    return plain if xmp is None else _with_xmp(plain, xmp)


def _with_xmp(plain: bytes, xmp: bytes) -> bytes:
    """Behind the JFIF header, which has to be the first segment."""
    place = 4 + int.from_bytes(plain[4:6], "big")
    body = _XMP + xmp
    return b"".join(
        (plain[:place], bytes([0xFF, _APP1]), (2 + len(body)).to_bytes(2, "big"), body, plain[place:])
    )
