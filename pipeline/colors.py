"""A word for the dominant colour of a picture, for captions derived from its pixels ("yellow star").

The white around a picture is no colour of it. Where no word covers half of what is left, there is none: a
wrong colour in a caption is worse than no colour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
"""Pixels a side of the picture that is measured."""
WHITE = 232
"""All three channels above it: background."""
MIN_FOREGROUND = 0.04
"""Share of pixels that must not be background."""
MIN_SHARE = 0.5
"""Share of the foreground that the word must cover."""

HUES = (
    (14, "red"),
    (40, "orange"),
    (70, "yellow"),
    (165, "green"),
    (255, "blue"),
    (295, "purple"),
    (345, "pink"),
    (360, "red"),
)
"""Upper ends of hue, in degrees."""
WORDS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "grey")


def dominant(image_HWC: NDArray[np.uint8]) -> str | None:
    """The word, or none where no colour dominates.

    >>> red = np.zeros((8, 8, 3), np.uint8)
    >>> red[..., 0] = 200
    >>> dominant(red)
    'red'
    """
    small = Image.fromarray(image_HWC).resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels_N3 = np.asarray(small).reshape(-1, 3).astype(np.int32)
    foreground_N3 = pixels_N3[pixels_N3.min(axis=1) <= WHITE]
    if len(foreground_N3) < MIN_FOREGROUND * len(pixels_N3):
        return None
    counts = np.bincount(named(foreground_N3), minlength=len(WORDS))
    best = int(counts.argmax())
    return WORDS[best] if counts[best] >= MIN_SHARE * len(foreground_N3) else None


def named(pixels_N3: NDArray[np.int32]) -> NDArray[np.int64]:
    """Index into WORDS of each pixel [N]."""
    top_N, low_N = pixels_N3.max(axis=1), pixels_N3.min(axis=1)
    spread_N = top_N - low_N
    hue_N = hue(pixels_N3, top_N, spread_N)
    ends, words = zip(*HUES, strict=True)
    places = np.array([WORDS.index(word) for word in words])
    found_N = places[np.minimum(np.searchsorted(ends, hue_N, side="left"), len(HUES) - 1)]
    # Brown is a dark orange; there is no hue of its own.
    found_N = np.where((found_N == WORDS.index("orange")) & (top_N < 170), WORDS.index("brown"), found_N)
    dull_N = spread_N < 0.16 * np.maximum(top_N, 1)
    found_N = np.where(dull_N, WORDS.index("grey"), found_N)
    return np.where(top_N < 56, WORDS.index("black"), found_N).astype(np.int64)


def hue(
    pixels_N3: NDArray[np.int32], top_N: NDArray[np.int32], spread_N: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Degrees in [0, 360) of the hexagonal hue."""
    red, green, blue = pixels_N3.T.astype(np.float64)
    divisor = np.maximum(spread_N, 1)
    by_red, by_green, by_blue = (
        (green - blue) / divisor,
        2 + (blue - red) / divisor,
        4 + (red - green) / divisor,
    )
    sextant = np.select([top_N == red, top_N == green], [by_red, by_green], by_blue)
    return np.asarray(60 * sextant % 360)
