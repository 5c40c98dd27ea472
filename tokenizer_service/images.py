"""Bytes to uint8 pixels [H, W, 3] in sRGB, and back. JPEG, PNG and WebP; nothing else is opened.

Surprising rule: Pillow's own format classes are called instead of ``Image.open``, whose decompression warning
fires at 89 MP and belongs to the whole process; our limits are read from the header, before any pixel is.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from tokenizer_service import headers, orientation
from tokenizer_service.headers import Format
from tokenizer_service.profiles import in_srgb

# H height, W width
Pixels = NDArray[np.uint8]

MAX_PIXELS = 120_000_000
"""The largest stock photographs have about 100 MP; 120 MP of RGB are 360 MB."""
MAX_WEBP_PIXELS = 50_000_000
"""The decoder of WebP keeps the canvas three times over, at four bytes a pixel."""
BAND_PIXELS = 1_000_000
"""Converted at a time: whole, a picture of 120 MP with transparency took 1.7 GB on its way to an array, and
in bands of 4 MP 64 MB more than in these."""
MAX_SIDE = 65_500
"""Pixels a side; JPEG itself ends at 65,535."""

# Everything that Pillow's three decoders were seen to raise on damaged bytes (tests/tokenizer_service).
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_ONE_AT_A_TIME = threading.Lock()


class Undecodable(ValueError):
    """The bytes are no image that we accept; the message says why."""


class OtherFormat(Undecodable):
    """They do not begin as a JPEG, PNG or WebP file does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    format: Format
    width: int
    """Pixels as stored, before the EXIF orientation is applied."""
    height: int


def probe(data: bytes) -> Header:
    """Format and size from the header alone; raises ``Undecodable`` for other formats and for giants."""
    kind = _format(data)
    try:
        width, height = headers.SIZES[kind](data)
    except ValueError as error:
        raise Undecodable(str(error)) from None
    most = MAX_WEBP_PIXELS if kind == "WEBP" else MAX_PIXELS
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= most):
        raise Undecodable(f"{width}x{height} pixels; the limits are {most} in all, {MAX_SIDE} a side")
    return Header(format=kind, width=width, height=height)


def decode(data: bytes, *, at_least: int | None = None) -> Pixels:
    """Pixels [H, W, 3] of the first frame: upright, in sRGB, transparency blended on white, all bytes read.

    ``at_least``: a JPEG whose short side is over four times this may be decoded at 1/2, 1/4 or 1/8 of its
    size, never under twice ``at_least`` (decoding a 24 MP photograph at 1/8 takes a quarter of the time).
    The largest admitted take under 1 GB on the way.
    """
    return pixels(load(data, at_least=at_least))


def decode_alpha(data: bytes) -> Pixels:
    """Opacity [H, W], upright; 255 everywhere when the image has none."""
    return _taken(load(data), _opacity, depth=())


def load(data: bytes, *, at_least: int | None = None) -> ImageFile.ImageFile:
    """The picture as it is stored, all of it read. It holds none of ``data``, which may be 96 MiB."""
    header = probe(data)
    stream = io.BytesIO(data)
    picture = _open(stream, header.format)
    if picture.size != (header.width, header.height):
        raise Undecodable(f"the header says {header.width}x{header.height}, the image is {picture.size}")
    try:
        if at_least is not None:
            picture.draft(None, (2 * at_least, 2 * at_least))
        picture.load()
    except _BROKEN as error:
        raise Undecodable(f"broken {header.format}: {error}") from error
    stream.close()
    return picture


def turn(picture: ImageFile.ImageFile) -> int:
    """The EXIF orientation of a loaded picture."""
    return orientation.turn_of(picture.info.get("exif") or b"")


def pixels(picture: ImageFile.ImageFile) -> Pixels:
    """What :func:`decode` promises, of a loaded picture, which is closed."""
    return _taken(picture, _on_white, depth=(3,))


def _format(data: bytes) -> Format:
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise OtherFormat(f"not a JPEG, PNG or WebP file: it begins with {data[:12]!r}")


def _open(stream: io.BytesIO, kind: Format) -> ImageFile.ImageFile:
    """Read the header. Pillow warns about damaged EXIF there; a filter of warnings is the whole process's."""
    opens: dict[Format, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
    }
    try:
        with _ONE_AT_A_TIME, warnings.catch_warnings(action="ignore"):
            return opens[kind](stream)
    except _BROKEN as error:
        raise Undecodable(f"broken {kind} header: {error}") from error


def _taken(
    picture: ImageFile.ImageFile,
    take: Callable[[Image.Image, Image.Image | None], Pixels],
    *,
    depth: tuple[int, ...],
) -> Pixels:
    """What ``take`` makes of (RGB in sRGB, alpha or None), upright. Only a band at a time is converted."""
    width, height = picture.size
    found, rows = np.empty((height, width, *depth), np.uint8), max(1, BAND_PIXELS // width)
    profile, turned = picture.info.get("icc_profile"), turn(picture)
    try:
        for top in range(0, height, rows):
            band = picture.crop((0, top, width, min(top + rows, height)))
            color, alpha = _split(band)
            found[top : top + rows] = take(in_srgb(color, profile), alpha)
    except _BROKEN as error:
        raise Undecodable(f"broken picture: {error}") from error
    picture.close()  # before it is turned, which takes the array once more
    return orientation.upright(found, turned)


def _on_white(color: Image.Image, alpha: Image.Image | None) -> Pixels:
    if alpha is None:
        return np.asarray(color)
    white = Image.new("RGB", color.size, (255, 255, 255))
    white.paste(color, mask=alpha)
    return np.asarray(white)


def _opacity(color: Image.Image, alpha: Image.Image | None) -> Pixels:
    return np.full((color.height, color.width), 255, np.uint8) if alpha is None else np.asarray(alpha)


def _split(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour (L, RGB or CMYK, 8 bits a channel) and alpha of a loaded picture."""
    if picture.mode.startswith("I"):
        return _from_16_bits(picture)
    if picture.has_transparency_data:
        whole = picture.convert("RGBA")
        return whole.convert("RGB"), whole.getchannel("A")
    if picture.mode in ("L", "RGB", "CMYK"):
        return picture, None
    return picture.convert("L" if picture.mode == "1" else "RGB"), None


def _from_16_bits(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Grey of 16 bits to 8; Pillow's own conversion clips all above 255 to white."""
    deep_HW = np.asarray(picture).astype(np.uint32)
    grey = Image.fromarray(((deep_HW + 128) // 257).astype(np.uint8))
    clear = picture.info.get("transparency")
    if not isinstance(clear, int):
        return grey, None
    return grey, Image.fromarray(np.where(deep_HW == clear, 0, 255).astype(np.uint8))
