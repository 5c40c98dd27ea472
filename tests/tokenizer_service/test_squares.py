"""Pictures to the squares that a tokenizer was trained on: the size, the centre, and each author's filter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tokenizer_service import sizes, squares
from tokenizer_service.squares import Pixels
from tokenizer_service.vq import Preprocessing

WAYS = tuple(Preprocessing(resize=name) for name in ("hamming", "linear", "bicubic", "lanczos"))
RNG = np.random.default_rng(0)


def picture(height: int, width: int) -> Pixels:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(way=st.sampled_from(WAYS), height=st.integers(16, 90), width=st.integers(16, 90))
def test_any_picture_becomes_a_square_of_that_side(way: Preprocessing, height: int, width: int) -> None:
    assert squares.square(picture(height, width), 24, way).shape == (24, 24, 3)


@pytest.mark.parametrize("way", WAYS)
def test_a_square_of_that_side_stays_as_it_is(way: Preprocessing) -> None:
    image_HWC = picture(32, 32)
    assert np.array_equal(squares.square(image_HWC, 32, way), image_HWC)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_cut_off_is_the_same_on_both_sides(way: Preprocessing) -> None:
    image_HWC = np.zeros((32, 64, 3), np.uint8)
    image_HWC[:, 20:44] = 255
    square_HWC = squares.square(image_HWC, 32, way)
    assert np.array_equal(square_HWC, square_HWC[:, ::-1])
    assert square_HWC[:, 4:28].min() == 255


def test_ours_is_that_of_the_corpus() -> None:
    image_HWC = picture(70, 50)
    assert np.array_equal(squares.square(image_HWC, 24, Preprocessing()), sizes.fit_square(image_HWC, 24))


def test_chameleons_is_lanczos_of_the_whole_picture_before_the_cut() -> None:
    image_HWC = picture(97, 61)
    whole = Image.fromarray(image_HWC).resize((32, 51), Image.Resampling.LANCZOS)
    top = (51 - 32) // 2
    found = squares.square(image_HWC, 32, Preprocessing(resize="lanczos"))
    assert np.array_equal(found, np.asarray(whole)[top : top + 32])


@pytest.mark.parametrize(("side", "halvings"), [(33, 0), (32, 1), (17, 1), (16, 2)])
def test_llamagens_halves_for_as_long_as_twice_the_side_is_left(side: int, halvings: int) -> None:
    image_HWC = picture(64, 64)
    expected = Image.fromarray(image_HWC)
    for _ in range(halvings):
        expected = expected.resize((expected.width // 2, expected.height // 2), Image.Resampling.BOX)
    expected = expected.resize((side, side), Image.Resampling.BICUBIC)
    found = squares.square(image_HWC, side, Preprocessing(resize="bicubic"))
    assert np.array_equal(found, np.asarray(expected))


def test_tamings_looks_at_four_pixels_however_much_smaller_the_square_is() -> None:
    image_HWC = np.zeros((64, 64, 3), np.uint8)
    image_HWC[::8, ::8] = 255  # between the pixels that a reduction by eight looks at
    assert squares.square(image_HWC, 8, Preprocessing(resize="linear")).max() == 0
    image_HWC[3::8, 3::8] = 200
    assert squares.square(image_HWC, 8, Preprocessing(resize="linear")).tolist() == [[[50] * 3] * 8] * 8
