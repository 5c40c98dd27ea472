"""Orientation, colour profiles, 16 bits: what we store is what a viewer shows.

Beside it what img2dataset 1.47 stores of the same bytes, which is often something else: it is measured here,
so that nobody need take our word. The reference is made by Pillow and littleCMS alone. Distances are means
over the picture, in levels of 255.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from pipeline import looking
from pipeline.ingest import IngestConfig
from tokenizer_service import jpegs

pytestmark = pytest.mark.long

Pixels = NDArray[np.uint8]
Peer = Callable[[bytes, str], Pixels]
SIDE = 96
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)).resize((SIDE, SIDE))
"""Smooth, colourful, and another one whichever way it is turned."""
SRGB = ImageCms.createProfile("sRGB")
DECODED = 0.05
"""From the reference to our pixels. Measured: 0."""
STORED = 2.0
"""From the reference to our training JPEG of quality 95, and to img2dataset's where it is right. Measured: at
most 1.0, the loss of JPEG."""


def written(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    exact = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
    sink = io.BytesIO()
    picture.save(sink, kind, **exact, **options)
    return sink.getvalue()


def shown(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def through(data: bytes, profile: bytes) -> Pixels:
    """The picture in sRGB, by way of its profile."""
    with Image.open(io.BytesIO(data)) as picture:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        found = ImageCms.profileToProfile(picture, source, SRGB, outputMode="RGB")
    assert found is not None
    return np.asarray(found)


def turned(orientation: int) -> tuple[bytes, Pixels]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = written(PICTURE, exif=exif)
    with Image.open(io.BytesIO(data)) as picture:
        return data, np.asarray(ImageOps.exif_transpose(picture))


def with_primaries(**primaries: tuple[float, float, float]) -> bytes:
    """SRGB's profile with other primaries, in XYZ adapted to D50."""
    profile = bytearray(ImageCms.ImageCmsProfile(SRGB).tobytes())
    for name, xyz in primaries.items():
        entry = profile.index(f"{name}XYZ".encode())
        (start,) = struct.unpack_from(">I", profile, entry + 4)
        struct.pack_into(">3i", profile, start + 8, *(round(value * 65536) for value in xyz))
    return bytes(profile)


def display_p3() -> bytes:
    return with_primaries(
        r=(0.51512, 0.24120, -0.00105), g=(0.29198, 0.69225, 0.04189), b=(0.15710, 0.06657, 0.78407)
    )


def red_for_blue() -> bytes:
    """As a scanner might whose channels are in another order."""
    return with_primaries(
        r=(0.14307, 0.06061, 0.71410), g=(0.38515, 0.71687, 0.09708), b=(0.43607, 0.22249, 0.01392)
    )


def inks() -> bytes:
    """A CMYK profile of the smallest kind (ICC.1:2001-04, 6.5.8): the look of each of the 16 mixtures of full
    inks, and straight lines between them. Its cyan is a green.
    """
    table = bytearray()
    for c, m, y, k in itertools.product((0, 1), repeat=4):
        lightness = (1 - 0.3 * c - 0.35 * m - 0.1 * y) * (1 - k)
        a, b = 70 * (m - c) * (1 - k), (60 * y + 20 * c - 20 * m) * (1 - k)
        table += bytes([round(255 * lightness), round(128 + a), round(128 + b)])
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = (
        b"mft1\0\0\0\0"
        + bytes([4, 3, 2, 0])
        + identity
        + bytes(range(256)) * 4
        + table
        + bytes(range(256)) * 3
    )
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(lut))
    d50 = struct.pack(">3i", 63190, 65536, 54061)
    head = struct.pack(">I4sI4s4s4s", 144 + len(lut), b"\0" * 4, 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + d50
    return head.ljust(128, b"\0") + tags + lut


def profiled(profile: bytes, mode: str = "RGB") -> tuple[bytes, Pixels]:
    data = written(PICTURE.convert(mode), icc_profile=profile)
    return data, through(data, profile)


def cmyk() -> tuple[bytes, Pixels]:
    data = written(PICTURE.convert("CMYK"))
    return data, shown(data)


def cmyk_without_marker() -> tuple[bytes, Pixels]:
    """Inverted as Adobe's are, as Pillow reads any of four channels, and without the marker that says so."""
    data, _ = cmyk()
    start = data.index(b"\xff\xee")
    (length,) = struct.unpack_from(">H", data, start + 2)
    assert data[start + 4 : start + 9] == b"Adobe"
    data = data[:start] + data[start + 2 + length :]
    return data, shown(data)


def deep() -> tuple[bytes, Pixels]:
    grey_HW = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
    levels_HW = np.round(grey_HW / 257).astype(np.uint8)
    return written(Image.fromarray(grey_HW), "PNG"), np.stack([levels_HW] * 3, axis=-1)


def transparent() -> tuple[bytes, Pixels]:
    picture = PICTURE.copy()
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    white = Image.new("RGBA", picture.size, "white")
    return written(picture, "PNG"), np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


CASES: dict[str, Callable[[], tuple[bytes, Pixels]]] = {
    **{f"orientation {number}": lambda number=number: turned(number) for number in range(1, 9)},
    "sRGB": lambda: profiled(ImageCms.ImageCmsProfile(SRGB).tobytes()),
    "Display P3": lambda: profiled(display_p3()),
    "red for blue": lambda: profiled(red_for_blue()),
    "16 bits": deep,
    "CMYK": cmyk,
    "CMYK without marker": cmyk_without_marker,
    "CMYK with profile": lambda: profiled(inks(), "CMYK"),
    "transparent": transparent,
}
WRONG = {
    **dict.fromkeys((f"orientation {number}" for number in range(2, 9)), 40.0),
    "Display P3": 8.0,
    "red for blue": 30.0,
    "16 bits": 100.0,
    "CMYK with profile": 20.0,
}
"""How far img2dataset's picture is from the reference, at least. Measured: 53 to 77 by orientation, 11.5, 46,
127 (of 16 bits all above 255 is white) and 33."""


def distance(found: Pixels, reference: Pixels) -> float:
    assert found.shape == reference.shape
    return float(np.abs(found.astype(np.int16) - reference).mean())


@pytest.fixture(scope="module")
def peer() -> Peer:
    """The picture that img2dataset stores; its resizer is called as its Downloader does.

    The module is loaded by itself: the package imports wandb, pandas and ray, and takes five seconds for it.
    """
    package = importlib.util.find_spec("img2dataset")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0], "resizer.py")
    spec = importlib.util.spec_from_file_location("img2dataset_resizer", path)
    assert spec is not None
    assert spec.loader is not None
    resizer = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings(action="ignore"), pytest.MonkeyPatch.context() as environment:
        environment.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the package index for a newer version
        spec.loader.exec_module(resizer)

    def stored(data: bytes, mode: str) -> Pixels:
        resize = resizer.Resizer(image_size=SIDE, resize_mode=mode, resize_only_if_bigger=True)
        found, *_, error = resize(io.BytesIO(data))
        assert error is None
        return shown(found)

    return stored


@pytest.mark.parametrize("case", CASES)
def test_what_is_decoded_and_stored_is_what_a_viewer_shows(case: str) -> None:
    data, reference = CASES[case]()
    decoded = looking.picture(looking.look(data, {"max_side": SIDE}), SIDE).pixels_HWC
    assert distance(decoded, reference) <= DECODED
    assert distance(shown(jpegs.encode(decoded, IngestConfig().quality)), reference) <= STORED


@pytest.mark.parametrize("mode", ["no", "keep_ratio"])
@pytest.mark.parametrize("case", CASES)
def test_img2dataset_stores_another_picture_of_some(case: str, mode: str, peer: Peer) -> None:
    data, reference = CASES[case]()
    found = distance(peer(data, mode), reference)
    if case in WRONG:
        assert found >= WRONG[case]
    else:
        assert found <= STORED
