import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.colors import WORDS, dominant, named, oklab

Pixels = NDArray[np.uint8]
Color = tuple[int, int, int]
RED, GREEN, BLUE, WHITE = (222, 51, 97), (74, 197, 138), (65, 121, 209), (255, 255, 255)
BYTE = st.integers(0, 255)


def filled(color: Color, background: Color = WHITE, *, columns: int = 60) -> Pixels:
    """100 columns, so many of them in the colour."""
    picture = np.full((100, 100, 3), background, np.uint8)
    picture[:, :columns] = color
    return picture


@pytest.mark.parametrize(
    ("color", "word"),
    [
        (RED, "red"),
        ((220, 20, 20), "red"),
        ((255, 121, 77), "orange"),
        ((254, 162, 69), "orange"),
        ((254, 194, 54), "yellow"),
        ((255, 230, 0), "yellow"),
        (GREEN, "green"),
        ((182, 228, 73), "green"),
        ((0, 128, 0), "green"),
        (BLUE, "blue"),
        ((0, 0, 255), "blue"),
        ((89, 178, 250), "blue"),
        ((154, 51, 252), "purple"),
        ((128, 0, 128), "purple"),
        ((254, 76, 161), "pink"),
        ((254, 152, 187), "pink"),
        ((255, 160, 160), "pink"),
        ((129, 82, 89), "brown"),
        ((139, 90, 50), "brown"),
        ((57, 53, 66), "black"),
        ((0, 0, 0), "black"),
        ((160, 160, 165), "grey"),
        ((228, 218, 240), "white"),
        ((225, 207, 244), "white"),
        ((240, 205, 190), None),
    ],
)
def test_named_colours_have_their_names(color: Color, word: str | None) -> None:
    assert dominant(filled(color)) == word


@pytest.mark.parametrize(("columns", "word"), [(2, None), (10, "red"), (100, "red")])
def test_the_white_around_a_picture_is_no_colour_of_it(columns: int, word: str | None) -> None:
    assert dominant(filled(RED, columns=columns)) == word


def test_a_blank_page_has_no_colour() -> None:
    assert dominant(filled(WHITE)) is None


@pytest.mark.parametrize(("columns", "word"), [(60, None), (70, "red"), (40, None), (30, "blue")])
def test_of_two_colours_one_must_cover_two_thirds(columns: int, word: str | None) -> None:
    assert dominant(filled(RED, BLUE, columns=columns)) == word


@pytest.mark.parametrize(("columns", "word"), [(45, "red"), (35, None), (25, "black")])
def test_black_parts_do_not_outvote_a_colour_that_covers_two_fifths(columns: int, word: str | None) -> None:
    assert dominant(filled(RED, (30, 30, 32), columns=columns)) == word


def test_shades_count_for_the_colour_that_they_run_into() -> None:
    """From yellow to orange: neither name has two thirds of the pixels, but all look alike."""
    ramp = np.linspace((254, 194, 54), (254, 150, 66), 100).astype(np.uint8)
    names = [WORDS[name] for name in named(oklab(ramp))]
    assert max(names.count("yellow"), names.count("orange")) < 60
    assert dominant(np.broadcast_to(ramp, (100, 100, 3))) in {"yellow", "orange"}


@given(BYTE)
def test_equal_channels_are_black_grey_or_white(level: int) -> None:
    found = WORDS[named(oklab(np.array([[level] * 3], np.uint8)))[0]]
    assert found == ("black" if level < 86 else "grey" if level < 189 else "white")


@given(st.lists(st.tuples(BYTE, BYTE, BYTE), min_size=1, max_size=40))
def test_a_pixel_is_named_alone_as_among_others(colors: list[Color]) -> None:
    pixels = np.array(colors, np.uint8)
    together = named(oklab(pixels))
    assert together.tolist() == [int(named(oklab(pixels[i : i + 1]))[0]) for i in range(len(pixels))]


def test_the_order_of_the_pixels_does_not_matter() -> None:
    picture = filled(RED, BLUE, columns=75)
    assert dominant(picture[:, ::-1]) == dominant(picture.transpose(1, 0, 2)) == dominant(picture) == "red"
