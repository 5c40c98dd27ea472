"""Hostile pictures: bombs, lies, halves, polyglots, and the odd but honest ones that must come through."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from .made import encoded, picture

Pictured = tuple[bytes, str, str, str]
"""Bytes, extension, outcome, and how the reason begins."""
MAGIC = b"\x89PNG\r\n\x1a\n"
FAILED = ("failed", "undecodable")
LONG = encoded(picture(7))
TAIL = b"smuggled-secret"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, bits: int = 8, color: int = 2, extra: bytes = b"", data: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    return MAGIC + header + extra + (chunk(b"IDAT", data) if data else b"") + chunk(b"IEND", b"")


def zeros(num: int) -> bytes:
    """A zlib stream of so many zeros, made a piece at a time."""
    squeeze, piece = zlib.compressobj(1), bytes(1 << 20)
    whole, rest = divmod(num, 1 << 20)
    return b"".join(
        [*(squeeze.compress(piece) for _ in range(whole)), squeeze.compress(piece[:rest]), squeeze.flush()]
    )


def small(extra: bytes) -> bytes:
    """A good picture of 32 x 32 with chunks put in before its pixels."""
    return png(32, 32, extra=extra, data=zeros(32 * 97))


def bomb_400_megapixels() -> bytes:
    return png(20_000, 20_000, bits=1, color=0, data=zeros(20_000 * 2_501))


def icc_bomb() -> bytes:
    return small(chunk(b"iCCP", b"x\0\0" + zeros(80 << 20)))


def text_bomb() -> bytes:
    return small(chunk(b"zTXt", b"Comment\0\0" + zeros(80 << 20)))


def many_texts() -> bytes:
    return small(chunk(b"iTXt", b"k\0\x01\0\0\0" + zeros(1 << 20)) * 80)


def jpeg(**options: object) -> bytes:
    return encoded(picture(3), "JPEG", quality=90, **options)


def giant_jpeg() -> bytes:
    """A header that says 65,500 x 65,500 before the pixels of a small one."""
    raw = jpeg()
    at = raw.index(b"\xff\xc0") + 5
    return raw[:at] + struct.pack(">HH", 65_500, 65_500) + raw[at + 4 :]


def adobe(transform: int) -> bytes:
    """A JPEG of three channels whose Adobe marker says another colour transform."""
    raw = jpeg()
    body = b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform)
    return raw[:2] + b"\xff\xee" + struct.pack(">H", len(body) + 2) + body + raw[2:]


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("run.sh", TAIL)
    return sink.getvalue()


def frames() -> list[Image.Image]:
    return [Image.new("RGB", (32, 32), color) for color in ("red", "lime", "blue")]


def moving(kind: str) -> bytes:
    first, *rest = frames()
    more = {"lossless": True} if kind == "WEBP" else {}
    return encoded(first, kind, save_all=True, append_images=rest, duration=50, **more)


def webp_of_16k() -> bytes:
    """A canvas of 16,384 x 16,384 around a picture of 32 x 32."""
    sizes = (16_383).to_bytes(3, "little") * 2
    inner = encoded(picture(4), "WEBP", lossless=True)[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas_lie() -> bytes:
    sizes = (63).to_bytes(3, "little") * 2
    inner = encoded(picture(4), "WEBP", lossless=True)[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def deep_grey() -> bytes:
    return encoded(Image.fromarray(np.linspace(0, 65_535, 1_024).reshape(32, 32).astype(np.uint16)))


def deep_color() -> bytes:
    rows = b"".join(b"\0" + bytes(range(192)) for _ in range(32))
    return png(32, 32, bits=16, data=zlib.compress(rows))


def palette(entries: int, transparent: int = 0) -> bytes:
    """A picture of indices up to 31 with a palette of so many colours."""
    rows = b"".join(b"\0" + bytes(range(32)) for _ in range(32))
    extra = chunk(b"PLTE", bytes(range(3 * entries)))
    extra += chunk(b"tRNS", bytes(transparent)) if transparent else b""
    return png(32, 32, color=3, extra=extra, data=zlib.compress(rows))


def turned_by(value: int, count: int = 1) -> bytes:
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHH", count, 0x0112, 3, 1, value, 0)
    return jpeg(exif=b"Exif\0\0" + tiff)


def disguised() -> dict[str, Pictured]:
    """Other things in place of a picture."""
    wrong = ("quarantined", "mime_mismatch")
    return {
        "htmlaspng": (b"<html><script>alert(1)</script></html>", "png", *wrong),
        "svgaspng": (b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', "png", *wrong),
        "gifasjpg": (encoded(picture(), "GIF"), "jpg", *wrong),
        "tiffasjpg": (encoded(picture(), "TIFF"), "jpg", *wrong),
        "epsasjpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "jpg", *wrong),
        "pngasjpg": (encoded(picture(5)), "jpg", *wrong),
        "elfaswebp": (b"\x7fELF" + bytes(60), "webp", *wrong),
        "riffaswebp": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(30), "webp", *wrong),
        "noimage": (b"\0", "png", *wrong),
    }


def broken() -> dict[str, Pictured]:
    whole_webp = encoded(picture(6), "WEBP", lossless=True)
    whole_png, whole_jpeg = encoded(picture(7)), jpeg()
    return {
        "bomb400mp": (bomb_400_megapixels(), "png", *FAILED),
        "iccbomb": (icc_bomb(), "png", *FAILED),
        "textbomb": (text_bomb(), "png", *FAILED),
        "manytexts": (many_texts(), "png", *FAILED),
        "giantjpeg": (giant_jpeg(), "jpg", *FAILED),
        "giantwebp": (webp_of_16k(), "webp", *FAILED),
        "canvaslie": (canvas_lie(), "webp", *FAILED),
        "halfjpeg": (whole_jpeg[: len(whole_jpeg) // 2], "jpg", *FAILED),
        "halfpng": (whole_png[: len(whole_png) // 2], "png", *FAILED),
        "halfwebp": (whole_webp[: len(whole_webp) // 2], "webp", *FAILED),
        "magicjpeg": (b"\xff\xd8\xff", "jpg", *FAILED),
        "magicpng": (MAGIC, "png", *FAILED),
        "magicwebp": (b"RIFF\0\0\0\0WEBP", "webp", *FAILED),
        "nopixels": (png(32, 32, data=b""), "png", *FAILED),
        "nozlib": (png(32, 32, data=b"not zlib at all"), "png", *FAILED),
        "nowidth": (png(0, 32, data=zeros(32)), "png", *FAILED),
        "widest": (png(2**31 - 1, 1, data=zeros(32)), "png", *FAILED),
        "wrongcrc": (whole_png[:30] + b"\0" + whole_png[31:], "png", *FAILED),
    }


def odd() -> dict[str, Pictured]:
    """Strange, and still pictures."""
    kept = ("kept", "")
    cmyk = picture(8).convert("CMYK")
    return {
        "cmyk": (encoded(cmyk, "JPEG"), "jpg", *kept),
        "adobe0": (adobe(0), "jpg", *kept),
        "adobe2": (adobe(2), "jpg", *kept),
        "adobe255": (adobe(255), "jpg", *kept),
        "grey": (encoded(picture(9).convert("L"), "JPEG"), "jpg", *kept),
        "jpegzip": (jpeg() + zipped(), "jpg", *kept),
        "jpegcomment": (jpeg(comment=b"<script>smuggled</script>" + TAIL), "jpg", *kept),
        "pnghtml": (encoded(picture(10)) + b"<script>smuggled</script>", "png", *kept),
        "pngtext": (small(chunk(b"tEXt", b"Comment\0" + TAIL)), "png", *kept),
        "apng": (moving("PNG"), "png", *kept),
        "awebp": (moving("WEBP"), "webp", *kept),
        "deepgrey": (deep_grey(), "png", *kept),
        "deepcolor": (deep_color(), "png", *kept),
        "palette": (palette(32), "png", *kept),
        "palettefew": (palette(4), "png", *kept),
        "paletteclear": (palette(32, transparent=200), "png", *kept),
        "onebit": (encoded(picture(11).convert("1")), "png", *kept),
        "greyalpha": (encoded(picture(12).convert("LA")), "png", *kept),
        "turned9": (turned_by(9), "jpg", *kept),
        "turnedlong": (turned_by(6, count=65_535), "jpg", *kept),
        "noicc": (jpeg(icc_profile=b"not a profile"), "jpg", *kept),
        # Pillow takes a stream that ends early, in good order, for a picture that is black below.
        "fewpixels": (png(32, 32, data=zlib.compress(bytes(97))), "png", *kept),
        "length": (LONG[:33] + b"\x7f\xff\xff\xff" + LONG[37:], "png", *kept),
        "progressive": (jpeg(progressive=True), "jpg", *kept),
        "ribbon": (encoded(Image.new("RGB", (40_000, 1), "red")), "png", *kept),
    }


def all_pictures() -> dict[str, Pictured]:
    return {**disguised(), **broken(), **odd()}
