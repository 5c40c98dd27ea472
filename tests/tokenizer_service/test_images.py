"""Bytes to pixels: every accepted form of a picture shows the same picture, and broken bytes are named."""

import io
import struct
import sys
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tokenizer_service import images, orientation
from tokenizer_service.images import Header, Undecodable

# A slope in each channel: no two corners agree, so any turn or flip shows.
SLOPES_HWC = np.stack(
    np.broadcast_arrays(np.arange(0, 240, 5)[:, None], np.arange(0, 160, 5)[None, :], 80), axis=-1
).astype(np.uint8)
FORMATS = ["JPEG", "PNG", "WEBP"]


def written(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def slopes(kind: str, **options: object) -> bytes:
    exact = {"JPEG": {"quality": 95, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}[kind]
    return written(Image.fromarray(SLOPES_HWC), kind, **exact, **options)


def far(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_read_with_its_size_and_pixels(kind: str) -> None:
    data = slopes(kind)
    assert images.probe(data) == Header(format=kind, width=32, height=48)
    assert far(images.decode(data), SLOPES_HWC) <= (4 if kind == "JPEG" else 0)
    assert (images.decode_alpha(data) == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_loaded_picture_shows_the_same_and_holds_none_of_its_bytes(kind: str) -> None:
    data = slopes(kind)
    before = sys.getrefcount(data)
    picture = images.load(data)
    assert sys.getrefcount(data) == before
    assert np.array_equal(images.pixels(picture), images.decode(data))


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_lies_where_its_turn_is_a_quarter(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = images.load(slopes("JPEG", exif=exif))
    on_its_side = orientation.lies(images.turn(picture))
    assert on_its_side == (turn > 4)
    assert images.pixels(picture).shape[:2] == ((32, 48) if on_its_side else (48, 32))


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"lossless": True, "exif": b"Exif\0\0"}])
def test_the_three_kinds_of_webp_header_give_the_size(options: dict[str, object]) -> None:
    data = written(Image.new("RGB", (300, 17), "red"), "WEBP", **options)
    assert images.probe(data) == Header(format="WEBP", width=300, height=17)


@pytest.mark.parametrize("kind", FORMATS)
@given(share=st.floats(0, 1))
def test_a_part_of_a_file_is_refused_unless_only_its_end_marks_are_missing(kind: str, share: float) -> None:
    data = slopes(kind)
    part = data[: int(len(data) * share)]
    try:
        pixels = images.decode(part)
    except Undecodable:
        return
    assert share > 0.5
    assert np.array_equal(pixels, images.decode(data))


@pytest.mark.parametrize("kind", FORMATS)
@given(place=st.floats(0, 1), value=st.integers(0, 255))
def test_a_damaged_byte_gives_an_image_or_a_named_error(kind: str, place: float, value: int) -> None:
    data = bytearray(
        slopes(kind, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    )
    data[min(int(place * len(data)), len(data) - 1)] = value
    try:
        pixels = images.decode(bytes(data))
    except Undecodable:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a" + bytes(20), b"II*\0" + bytes(40), b"RIFF\0\0\0\0WEBP", b"\xff\xd8\xff"]
)
def test_other_formats_and_scraps_are_refused(data: bytes) -> None:
    with pytest.raises(Undecodable):
        images.probe(data)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def webp_header(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + bytes(4) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes


@pytest.mark.parametrize(("header", "widest"), [(png_header, 12_000), (webp_header, 5_000)])
def test_giants_are_refused_from_their_header_and_the_limits_are_inclusive(
    header: Callable[[int, int], bytes], widest: int
) -> None:
    tail = b"\0\0\0\0IDAT" + bytes(4) if header is png_header else b""
    assert images.probe(header(widest, 10_000) + tail).width == widest
    assert images.probe(header(1, 65_500) + tail).height == 65_500
    for width, height in [(widest + 1, 10_000), (65_501, 1), (1, 65_501), (60_000, 60_000)]:
        with pytest.raises(Undecodable, match=f"{width}x{height} pixels"):
            images.probe(header(width, height) + tail)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_comes_out_upright(kind: str, turn: int) -> None:
    as_stored = {
        1: SLOPES_HWC,
        2: SLOPES_HWC[:, ::-1],
        3: SLOPES_HWC[::-1, ::-1],
        4: SLOPES_HWC[::-1],
        5: SLOPES_HWC.transpose(1, 0, 2),
        6: np.rot90(SLOPES_HWC),  # the camera lay on its side: shown a quarter turn clockwise
        7: SLOPES_HWC[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(SLOPES_HWC, -1),
    }
    stored = Image.fromarray(as_stored[turn])
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}[kind]
    data = written(stored, kind, exif=exif, **options)
    assert far(images.decode(data), SLOPES_HWC) <= 4
    assert images.decode_alpha(data).shape == SLOPES_HWC.shape[:2]


def swapped_profile() -> bytes:
    """SRGB with the primaries of red and blue exchanged, by exchanging two entries of its tag table."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_profile_is_converted_to_srgb(kind: str) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert far(images.decode(slopes(kind, icc_profile=srgb)), SLOPES_HWC) <= 5
    assert far(images.decode(slopes(kind, icc_profile=swapped_profile())), SLOPES_HWC[..., ::-1]) <= 5


def test_a_profile_that_cannot_be_used_is_ignored() -> None:
    assert far(images.decode(slopes("PNG", icc_profile=b"no profile")), SLOPES_HWC) == 0


def test_cmyk_is_shown_as_the_colours_it_stands_for() -> None:
    data = written(Image.fromarray(SLOPES_HWC).convert("CMYK"), "JPEG", quality=95, subsampling=0)
    assert far(images.decode(data), SLOPES_HWC) <= 6


def test_grey_of_16_bits_keeps_its_shades() -> None:
    deep_HW = np.linspace(0, 65_535, 16 * 16).reshape(16, 16).astype(np.uint16)
    pixels = images.decode(written(Image.fromarray(deep_HW), "PNG"))
    assert far(pixels[..., 0], np.round(deep_HW / 257).astype(np.uint8)) == 0


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_shades_and_palettes_become_colours(mode: str) -> None:
    picture = Image.fromarray(SLOPES_HWC).convert(mode)
    assert far(images.decode(written(picture, "PNG")), np.asarray(picture.convert("RGB"))) == 0


@given(st.integers(0, 255), st.sampled_from(["PNG", "WEBP"]))
def test_transparency_is_blended_on_white(alpha: int, kind: str) -> None:
    picture = Image.new("RGBA", (8, 8), (200, 40, 0, alpha))
    data = written(picture, kind, lossless=True, exact=True) if kind == "WEBP" else written(picture, kind)
    expected = [channel * alpha / 255 + 255 - alpha for channel in (200, 40, 0)]
    assert np.abs(images.decode(data) - np.array(expected)).max() <= 1
    assert (images.decode_alpha(data) == alpha).all()


@pytest.mark.parametrize(("mode", "clear"), [("P", 0), ("L", 0), ("RGB", (0, 0, 0)), ("I;16", 0)])
def test_a_colour_declared_transparent_is_white(mode: str, clear: object) -> None:
    picture = Image.fromarray(np.repeat(np.array([[0, 200]], np.uint8), 4, axis=0))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    elif mode != "L":
        picture = picture.convert(mode)
    data = written(picture, "PNG", transparency=clear)
    assert images.decode(data)[0].tolist() == [[255] * 3, [200] * 3]
    assert images.decode_alpha(data)[0].tolist() == [0, 255]


def test_a_large_jpeg_may_be_decoded_smaller_but_never_under_twice_the_need() -> None:
    data = written(Image.fromarray(SLOPES_HWC).resize((800, 640)), "JPEG")
    assert images.decode(data).shape == (640, 800, 3)
    assert images.decode(data, at_least=40).shape == (80, 100, 3)
    assert images.decode(data, at_least=41).shape == (160, 200, 3)
    assert images.decode(data, at_least=400).shape == (640, 800, 3)
