"""Bytes to uint8 pixels [H, W, 3] in sRGB, and back. JPEG, PNG and WebP; nothing else is opened.

Surprising rule: Pillow's own format classes are called instead of ``Image.open``, whose decompression warning
fires at 89 MP and belongs to the whole process; our limits are read from the header, before any pixel is.
"""

from __future__ import annotations

import functools
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from tokenizer_service import headers
from tokenizer_service.headers import Format

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
MAX_ENLARGEMENT = 2.0
"""``fit_square`` refuses to invent more than three of four pixels."""

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
_UNUSABLE = (ImageCms.PyCMSError, OSError, ValueError)
"""Raised for profiles that are damaged, or made for other pictures."""
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),
}
_ORIENTATION = 0x0112
_ONE_AT_A_TIME = threading.Lock()


class Undecodable(ValueError):
    """The bytes are no image that we accept; the message says why."""


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


def lies(picture: ImageFile.ImageFile) -> bool:
    """Whether a loaded picture is stored on its side, so that its width is the height of its pixels."""
    return _turn(picture) in (5, 6, 7, 8)


def pixels(picture: ImageFile.ImageFile) -> Pixels:
    """What :func:`decode` promises, of a loaded picture, which is closed."""
    return _taken(picture, _on_white, depth=(3,))


def fit_square(image_HWC: Pixels, side: int) -> Pixels:
    """The centre square, resampled to [side, side, 3].

    Reduced with an antialiasing filter (Hamming: as sharp as bicubic, without its ringing at hard edges).
    Enlarged bicubically, at most ``MAX_ENLARGEMENT`` times: filter smaller images out before.
    """
    height, width = image_HWC.shape[:2]
    short = min(height, width)
    if short * MAX_ENLARGEMENT < side:
        raise ValueError(f"{width}x{height} is too small for {side} px; filter images under {side} px a side")
    left, top = (width - short) // 2, (height - short) // 2
    return _resize(image_HWC[top : top + short, left : left + short], (side, side))


def shrink(image_HWC: Pixels, max_side: int) -> Pixels:
    """The same picture with its long side at most ``max_side`` pixels; never enlarged."""
    height, width = image_HWC.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image_HWC
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return _resize(image_HWC, size)


def encode_jpeg(image_HWC: Pixels, quality: int, *, xmp: bytes | None = None) -> bytes:
    """Baseline JPEG with full colour resolution (4:4:4); same pixels, same bytes for one libjpeg.

    ``xmp`` is a packet of at most 65,504 bytes, the size of one marker.
    """
    if xmp is not None and len(xmp) > 65_504:
        raise ValueError(f"an XMP packet in a JPEG is at most 65504 bytes, got {len(xmp)}; shorten it")
    out = io.BytesIO()
    picture = Image.fromarray(image_HWC)
    if xmp is None:
        picture.save(out, "JPEG", quality=quality, subsampling="4:4:4")
    else:
        picture.save(out, "JPEG", quality=quality, subsampling="4:4:4", xmp=xmp)
    return out.getvalue()


def _format(data: bytes) -> Format:
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise Undecodable(f"not a JPEG, PNG or WebP file: it begins with {data[:12]!r}")


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
    profile, turn = picture.info.get("icc_profile"), _turn(picture)
    try:
        for top in range(0, height, rows):
            band = picture.crop((0, top, width, min(top + rows, height)))
            color, alpha = _split(band)
            found[top : top + rows] = take(_in_srgb(color, profile), alpha)
    except _BROKEN as error:
        raise Undecodable(f"broken picture: {error}") from error
    picture.close()  # before it is turned, which takes the array once more
    return np.ascontiguousarray(_UPRIGHT[turn](found)) if turn in _UPRIGHT else found


def _on_white(color: Image.Image, alpha: Image.Image | None) -> Pixels:
    if alpha is None:
        return np.asarray(color)
    white = Image.new("RGB", color.size, (255, 255, 255))
    white.paste(color, mask=alpha)
    return np.asarray(white)


def _opacity(color: Image.Image, alpha: Image.Image | None) -> Pixels:
    return np.full((color.height, color.width), 255, np.uint8) if alpha is None else np.asarray(alpha)


def _turn(picture: ImageFile.ImageFile) -> int:
    """EXIF tag 0x0112 of the first directory, 1 where it cannot be read: damaged EXIF spoils no picture."""
    tiff = (picture.info.get("exif") or b"").removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4], "")
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            tag, _kind, _count, value = struct.unpack_from(order + "HHIH", tiff, place)
            if tag == _ORIENTATION:
                return int(value)
    except struct.error:
        return 1
    return 1


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


def _in_srgb(color: Image.Image, profile: bytes | None) -> Image.Image:
    """Through the embedded profile to sRGB; a profile that cannot be used is ignored, as browsers do."""
    change = _change(profile, color.mode) if profile else None
    try:
        return color.convert("RGB") if change is None else change.apply(color)
    except _UNUSABLE:
        return color.convert("RGB")


@functools.lru_cache(maxsize=4)
def _change(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Kept: to make one takes 14 ms, to decode a photograph 20, and those of one camera share theirs."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except _UNUSABLE:
        return None


def _resize(image_HWC: Pixels, size: tuple[int, int]) -> Pixels:
    reduces = size[0] <= image_HWC.shape[1]
    how = Image.Resampling.HAMMING if reduces else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image_HWC).resize(size, how))
