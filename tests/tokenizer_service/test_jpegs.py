"""The quick way through a JPEG shows what the long way shows, or leaves the JPEG to it."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tokenizer_service import images, jpegs, metrics, orientation

SLOPES_HWC = np.stack(
    np.broadcast_arrays(np.arange(0, 240, 5)[:, None], np.arange(0, 160, 5)[None, :], 80), axis=-1
).astype(np.uint8)


def noise(width: int, height: int) -> Image.Image:
    """Blurred noise at three scales: edges everywhere, as in a photograph."""
    rng = np.random.default_rng(0)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).resize((width, height)))
        for side in (5, 40, 160)
    ]
    return Image.fromarray(np.mean(layers, 0).astype(np.uint8))


PHOTO = noise(1200, 900)


def written(picture: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", **{"quality": 95, "subsampling": 0, **options})
    return out.getvalue()


def swapped_profile() -> bytes:
    """SRGB with the primaries of red and blue exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def far(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_that_fits_is_bit_equal_to_that_of_the_long_way(mode: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = written(Image.fromarray(SLOPES_HWC).convert(mode), exif=exif, progressive=turn % 2 == 0)
    found = jpegs.small(data, 48)
    assert found is not None
    assert np.array_equal(orientation.upright(found.pixels_HWC, found.turn), images.decode(data))


@pytest.mark.parametrize("profile", [None, swapped_profile()])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_a_reduced_picture_is_as_near_to_the_whole_one_as_a_jpeg_is(
    subsampling: str, profile: bytes | None
) -> None:
    data = written(PHOTO, subsampling=subsampling, icc_profile=profile)
    found = jpegs.small(data, 256)
    assert found is not None
    reference = Image.fromarray(images.decode(data)).resize((256, 192), Image.Resampling.LANCZOS)
    assert metrics.psnr_each(np.asarray(reference)[None], found.pixels_HWC[None])[0] > 38


def test_a_profile_may_come_in_several_markers() -> None:
    profile = swapped_profile().ljust(150_000, b"\0")
    data = written(PHOTO, icc_profile=profile)
    assert jpegs.told(data).profile == profile


@pytest.mark.parametrize("side", [74, 75, 149, 150, 299, 300, 599, 600, 1200, 2000])
def test_a_picture_is_decoded_at_no_less_than_twice_its_size(side: int) -> None:
    data = written(PHOTO)
    decoded = jpegs.decoded(data, 1200, 900, space="YCbCr", max_side=side)
    assert max(decoded.shape) in (150, 300, 600, 1200)
    assert max(decoded.shape) >= min(1200, 2 * side)
    found = jpegs.small(data, side)
    assert found is not None
    assert max(found.pixels_HWC.shape) == min(1200, side)


def test_cmyk_and_whatever_libjpeg_warns_about_go_the_long_way() -> None:
    whole = written(Image.fromarray(SLOPES_HWC))
    assert jpegs.small(written(Image.fromarray(SLOPES_HWC).convert("CMYK")), 32) is None
    assert jpegs.small(whole[:-200], 32) is None
    assert jpegs.small(b"\xff\xd8\xff", 32) is None


def test_a_jpeg_that_fits_is_kept_to_the_pixel_and_without_what_stands_beside_them() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    data = written(PHOTO, exif=exif, comment=b"secret", subsampling="4:2:0") + b"more"
    packet = b"<x:xmpmeta/>"
    found, kept = jpegs.small(data, 1200), jpegs.kept(data, xmp=packet)
    assert found is not None
    assert found.is_plain
    assert kept is not None
    assert np.array_equal(images.decode(kept), found.pixels_HWC)
    assert not [word for word in (b"camera", b"secret", b"more") if word in kept]
    with Image.open(io.BytesIO(kept)) as picture:
        assert picture.info["xmp"] == packet
    assert jpegs.kept(kept, xmp=packet) == kept


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 4}])
def test_only_a_sequential_jpeg_of_one_scan_is_kept(options: dict[str, object]) -> None:
    kept = jpegs.kept(written(PHOTO, **options))
    assert (kept is None) == ("progressive" in options)


def test_what_is_changed_to_be_shown_is_not_plain() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for data in (
        written(PHOTO, exif=turned),
        written(PHOTO, icc_profile=swapped_profile()),
        written(PHOTO.convert("L")),
    ):
        found = jpegs.small(data, 1200)
        assert found is not None
        assert not found.is_plain
    reduced = jpegs.small(written(PHOTO), 600)
    assert reduced is not None
    assert not reduced.is_plain


@given(place=st.floats(0, 1), value=st.integers(0, 255), side=st.sampled_from([4, 32, 64]))
def test_a_damaged_byte_gives_an_image_or_the_long_way(place: float, value: int, side: int) -> None:
    data = bytearray(written(Image.fromarray(SLOPES_HWC), icc_profile=swapped_profile()))
    data[min(int(place * len(data)), len(data) - 1)] = value
    found = jpegs.small(bytes(data), side)
    if found is not None:
        assert found.pixels_HWC.dtype == np.uint8
        assert found.pixels_HWC.ndim == 3
        assert max(found.pixels_HWC.shape[:2]) <= side


def test_a_written_jpeg_repeats_and_keeps_colour_at_full_resolution() -> None:
    red_and_blue = np.zeros((16, 16, 3), np.uint8)
    red_and_blue[:, ::2, 0], red_and_blue[:, 1::2, 2] = 255, 255
    data = jpegs.encode(red_and_blue, 95)
    assert data == jpegs.encode(red_and_blue, 95)
    assert far(images.decode(data), red_and_blue) < 40


def test_xmp_is_carried_unchanged_up_to_the_size_of_a_marker() -> None:
    packet = b"<x:xmpmeta/>".ljust(65_504)
    with Image.open(io.BytesIO(jpegs.encode(SLOPES_HWC, 90, xmp=packet))) as picture:
        assert picture.info["xmp"] == packet
    with pytest.raises(ValueError, match="65504"):
        jpegs.encode(SLOPES_HWC, 90, xmp=packet + b" ")
