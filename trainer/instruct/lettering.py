"""Letters of the one font that signs are written in, as masks.

The surprising rule: letters stand a fixed gap apart, measured between their outermost pixels. What a pair of
letters looks like then never depends on the pair, and a reader can look for one letter at a time.

h, w height and width of a letter or of a line.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainer.instruct.scenes import Alpha

CAP = 63
"""Pixels of a capital's height."""
GAP = 0.16
"""Of a capital's height, between two letters."""
SPACE = 0.45
"""Of a capital's height, in place of a letter."""
_SIZE, _STROKE = 83, 3
"""At which Pillow's own font, Aileron, has capitals of 57 pixels, and what is added on all sides: bold."""
_NOWHERE = "\uffff"
"""No character, so that the font draws what it draws for those that it lacks."""
_ASCENT, _DESCENT = 80, 24
"""Rows over and under the baseline that hold every letter."""


@functools.cache
def glyph(character: str) -> Alpha:
    """[h, w] in [0, 1]: rows from the ascent to the descent, columns as far as there is ink."""
    if character.isspace():
        return np.zeros((_ASCENT + _DESCENT, round(SPACE * CAP)), np.float32)
    ink = _ink(character)
    if np.array_equal(ink, _ink(_NOWHERE)):
        raise ValueError(f"the font of signs has no {character!r}; write them in Latin letters and digits")
    columns = np.flatnonzero(ink.any(axis=0))
    return np.ascontiguousarray(ink[:, columns[0] : columns[-1] + 1])


def _ink(character: str) -> Alpha:
    canvas = Image.new("L", (3 * _SIZE, _ASCENT + _DESCENT))
    place = _SIZE, _ASCENT - _STROKE
    font = ImageFont.load_default(size=_SIZE)
    ImageDraw.Draw(canvas).text(place, character, fill=255, font=font, anchor="ls", stroke_width=_STROKE)
    return np.asarray(canvas, np.float32) / np.float32(255)


def line(text: str) -> Alpha:
    """[h, w]: the letters of one line, cut to where there is ink."""
    gap = np.zeros((_ASCENT + _DESCENT, round(GAP * CAP)), np.float32)
    parts = [part for character in text for part in (gap, glyph(character))][1:]
    ink = np.concatenate(parts, axis=1)
    rows = np.flatnonzero(ink.any(axis=1))
    return ink[rows[0] : rows[-1] + 1]


def fitted(lines: Sequence[Alpha], room: tuple[int, int], least: int) -> list[Alpha]:
    """Lines as large as they fit one under the other in (height, width), all at one scale.

    A line that would be lower than ``least`` is squeezed to be that high, as narrow letters are.
    """
    height = (room[0] - (len(lines) - 1) * room[0] // 6) // len(lines)
    scale = min(min(height / ink.shape[0], room[1] / ink.shape[1]) for ink in lines)
    down = max(scale, min(least, height) / max(ink.shape[0] for ink in lines))
    sizes = [(min(room[1], round(ink.shape[1] * scale)), round(ink.shape[0] * down)) for ink in lines]
    resized = [
        cv2.resize(ink, size, interpolation=cv2.INTER_AREA) for ink, size in zip(lines, sizes, strict=True)
    ]
    return [np.asarray(ink, np.float32) for ink in resized]
