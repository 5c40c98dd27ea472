"""Pictures to other sizes: what is kept of them, and where enlarging ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tokenizer_service import sizes

SLOPES_HWC = np.stack(
    np.broadcast_arrays(np.arange(0, 240, 5)[:, None], np.arange(0, 160, 5)[None, :], 80), axis=-1
).astype(np.uint8)


def far(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


def test_a_square_is_the_middle_of_the_picture() -> None:
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 32:96] = 200
    assert (sizes.fit_square(wide, 32) == 200).all()
    assert (sizes.fit_square(wide.transpose(1, 0, 2), 32) == 200).all()
    assert far(sizes.fit_square(wide, 64), wide[:, 32:96]) == 0


def test_reducing_averages_instead_of_picking_pixels() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert far(sizes.fit_square(stripes, 16), np.full((16, 16, 3), 127, np.uint8)) <= 24


def test_enlarging_stops_at_twice_the_side() -> None:
    assert sizes.fit_square(SLOPES_HWC, 64).shape == (64, 64, 3)
    with pytest.raises(ValueError, match="too small"):
        sizes.fit_square(SLOPES_HWC, 65)


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 200))
def test_shrinking_bounds_the_long_side_and_never_enlarges(height: int, width: int, max_side: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    seen_h, seen_w, _ = sizes.shrink(image, sizes.shrunk(width, height, max_side)).shape
    assert max(seen_h, seen_w) == min(max_side, max(height, width))
    assert abs(seen_h * width - seen_w * height) <= max(height, width)


@pytest.mark.parametrize("size", [(64, 48), (199, 150), (100, 31)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_giant_is_resampled_in_bands_as_it_would_be_whole(
    size: tuple[int, int], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (150, 200, channels), np.uint8)
    whole = Image.fromarray(picture[..., 0] if channels == 1 else picture).resize(
        size, Image.Resampling.LANCZOS
    )
    monkeypatch.setattr(sizes, "BAND_BYTES", 4000)
    found = sizes.in_bands(picture, size)
    assert far(found, np.asarray(whole).reshape(found.shape)) <= 1


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_every_way_gives_the_size_that_was_asked_for(height: int, width: int, max_side: int) -> None:
    picture, size = np.zeros((height, width, 3), np.uint8), sizes.shrunk(width, height, max_side)
    assert sizes.in_bands(picture, size).shape == sizes.shrink(picture, size).shape
