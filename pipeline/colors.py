"""A word for the dominant colour of a picture, for captions derived from its pixels ("yellow star").

The white around a picture is no colour of it. Black, grey and white parts (wheels, outlines, shine) do not
outvote a colour, but where two colours compete there is no word: a wrong colour in a caption is worse than
none. Of 112 emoji drawn at random 85 got a word; looked at, four of the words were wrong.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# P pixels of a picture, C channels (red, green, blue, or L, a, b)
Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]
Names = NDArray[np.int64]
"""Indices into WORDS; NAMELESS for those that have no word."""

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
WORDS = (*COLORS, "black", "grey", "white")
NAMELESS = len(WORDS)

SIDE = 64
"""Pixels a side of the picture that is measured. At 32, a thin black spider is grey."""
BACKGROUND = 244
"""All three channels at least that: paper. White things are shaded: the white heart has (228, 218, 240)."""
MIN_FOREGROUND = 0.03
"""Share of the picture that must not be background."""
MIN_SHARE = 0.4
"""Share of the foreground that a colour must cover, with its shades."""
MIN_SHARE_OF_COLORS = 0.65
"""Share of the coloured foreground that it must cover: a car's red is 0.54 beside the blue of its windows."""
MIN_SHARE_NEUTRAL = 0.7
"""Share of the foreground that black, grey or white must cover, with its shades."""
SHADE = 0.15
"""Distance in OKLab from the mean of a word's pixels within which others are its shades, whatever their name:
the yellow of a face runs to orange at its edge."""

BITS = 6
"""Of a channel that tell colours apart: steps of 4, less than the noise of a JPEG."""

HUES = {"pink": 4, "red": 33, "orange": 70, "yellow": 112, "green": 192, "blue": 277, "purple": 335}
"""Where each ends, in degrees; then pink again. Red heart 14, orange 39, yellow 81, green 158, blue 263,
purple 302, pink 354; tangerine 64."""

_ENCODED = np.arange(256) / 255
LINEAR = np.where(_ENCODED <= 0.04045, _ENCODED / 12.92, ((_ENCODED + 0.055) / 1.055) ** 2.4)
"""Light of each value of an sRGB byte."""

# Linear sRGB to cones, cube roots of cones to L, a, b (Ottosson, "A perceptual color space for image
# processing", 2020).
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def dominant(image_HWC: Pixels) -> str | None:
    """The word, or none where no colour dominates.

    >>> dominant(np.full((8, 8, 3), (200, 30, 50), np.uint8))
    'red'
    """
    if max(image_HWC.shape) > SIDE:
        image_HWC = np.asarray(Image.fromarray(image_HWC).resize((SIDE, SIDE), Image.Resampling.BOX))
    red_P, green_P, blue_P = image_HWC.reshape(-1, 3).T
    front = np.minimum(np.minimum(red_P, green_P), blue_P) < BACKGROUND
    if np.count_nonzero(front) < MIN_FOREGROUND * len(front):
        return None
    shift = 8 - BITS
    shades_P = (red_P >> shift).astype(np.int32) << BITS | green_P >> shift
    lab_CS, names_S = shades()
    shades_P = (shades_P << BITS | blue_P >> shift)[front]
    lab_CP, names_P = lab_CS.take(shades_P, axis=1), names_S.take(shades_P)
    counts = np.bincount(names_P, minlength=NAMELESS + 1)
    num_colored = int(counts[: len(COLORS)].sum())
    if num_colored >= MIN_SHARE * len(names_P):
        word = int(counts[: len(COLORS)].argmax())
        covered_P = with_shades(word, names_P, lab_CP)
        enough = (covered_P & (names_P < len(COLORS))).sum() >= MIN_SHARE_OF_COLORS * num_colored
        return WORDS[word] if enough and covered_P.mean() >= MIN_SHARE else None
    word = len(COLORS) + int(counts[len(COLORS) :].argmax())
    enough = word != NAMELESS and with_shades(word, names_P, lab_CP).mean() >= MIN_SHARE_NEUTRAL
    return WORDS[word] if enough else None


@functools.cache
def shades() -> tuple[Floats, Names]:
    """OKLab and the name of every colour, of 6 bits a channel: to look them up takes a tenth of the time."""
    middle = (np.arange(1 << BITS) * (1 << 8 - BITS) + (1 << 7 - BITS)).astype(np.uint8)
    lab_SC = oklab(np.stack(np.meshgrid(middle, middle, middle, indexing="ij"), -1).reshape(-1, 3))
    return np.ascontiguousarray(lab_SC.T, np.float32), named(lab_SC)


def with_shades(word: int, names_P: Names, lab_CP: Floats) -> NDArray[np.bool_]:
    """Pixels that have the name, or are close to the mean of those that have it."""
    named_P = names_P == word
    middle_C = lab_CP @ named_P.astype(lab_CP.dtype) / np.count_nonzero(named_P)
    light_P, red_P, yellow_P = (lab_CP - middle_C[:, None]) ** 2
    away_P = light_P + red_P + yellow_P
    covered_P: NDArray[np.bool_] = named_P | (away_P < SHADE**2)
    return covered_P


def oklab(pixels_PC: Pixels) -> Floats:
    """Lightness in [0, 1], green to red, blue to yellow: a space in which distances look alike."""
    lab_PC: Floats = np.cbrt(LINEAR[pixels_PC] @ TO_CONES.T) @ TO_LAB.T
    return lab_PC


def named(lab_PC: Floats) -> Names:
    """Name of each pixel [P]: regions of lightness, chroma and hue, set by what emoji are called."""
    lightness, chroma = lab_PC[:, 0], np.hypot(lab_PC[:, 1], lab_PC[:, 2])
    hue = np.degrees(np.arctan2(lab_PC[:, 2], lab_PC[:, 1])) % 360
    by_hue = np.array([WORDS.index(word) for word in (*HUES, "pink")])
    names = by_hue[np.searchsorted(list(HUES.values()), hue, side="right")]
    names = np.where((names == WORDS.index("red")) & (lightness >= 0.72), WORDS.index("pink"), names)
    warm = (hue < 80) | (hue >= 350)
    # Wood has chroma 0.06 and lightness 0.5, a package 0.08 and 0.7; paler than that is skin and paper.
    names = np.where(warm & (chroma < 0.115) & (lightness < 0.78), WORDS.index("brown"), names)
    names = np.where(warm & (chroma < 0.09) & (lightness >= 0.78), NAMELESS, names)
    # Artists shade black, grey and white with lavender: up to 0.06 of it. A purple ball has 0.14.
    neutral = chroma < np.where((hue > 270) & (hue < 345), 0.075, 0.04)
    tone = np.searchsorted((0.45, 0.8), lightness, side="right")
    return np.where(neutral, WORDS.index("black") + tone, names).astype(np.int64)
