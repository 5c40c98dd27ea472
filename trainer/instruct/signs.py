"""Signs: a given text drawn large on a board.

The surprising rule: letters are as high as the board lets them, and are squeezed rather than made small: up
to five are at least a fifth of the picture's side high, since a model of 8 to 16 pixels a code writes nothing
smaller.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from pipeline.colors import Pixels
from trainer.instruct import lettering
from trainer.instruct.scenes import RGB, Alpha
from trainer.instruct.wording import pick

BOARDS: tuple[tuple[RGB, RGB], ...] = (
    ((255, 255, 255), (20, 20, 24)),
    ((250, 205, 40), (20, 20, 24)),
    ((190, 28, 36), (255, 255, 255)),
    ((24, 86, 190), (255, 255, 255)),
    ((16, 110, 56), (255, 255, 255)),
    ((30, 30, 34), (255, 255, 255)),
    ((112, 66, 34), (255, 246, 214)),
)
"""Of the board and of the text: at least 4.5 to 1 in contrast (WCAG 2.2, 1.4.3)."""
STOP = BOARDS[2]
"""Of an octagon, always: red and white."""
GROUNDS: tuple[RGB, ...] = ((150, 190, 225), (176, 200, 160), (226, 214, 190), (170, 170, 178))
"""None of them as light as a board, or as dark."""
POST: RGB = (96, 92, 90)
ROOM = {
    "rectangle": (0.58, 0.80),
    "rounded": (0.56, 0.78),
    "round": (0.46, 0.72),
    "octagon": (0.46, 0.76),
    "arrow": (0.46, 0.68),
}
"""Height and width of the side that the text may take, by the shape of the board."""
LEAST = 0.2
"""Height of letters, of the side, where there are up to five in a line."""
OVER = 4
"""A sign is drawn so many times as large, then averaged down: shapes of Pillow have hard edges."""
MAX_LINE = 6
"""Characters from which on a text without a space goes on in a second line."""
MAX_CHARACTERS = 2 * MAX_LINE

CONSONANTS, VOWELS, ENDS = "BDFGHJKLMNPRSTVWZ", "AEIOU", "KLMNPRST"
CODE_LETTERS, CODE_DIGITS = "ABCDEFGHJKLMNPRTUVWXY", "23456789"
"""Without those that a code could mean either way: I and 1, O, Q and 0, S and 5, Z and 2."""


def words(rng: np.random.Generator, num: int) -> list[str]:
    """Texts for signs, in capitals: half of them words that can be said, then numbers, years and codes."""
    return [_word(rng) for _ in range(num)]


def sign(text: str, side: int, rng: np.random.Generator) -> Pixels:
    """[side, side, 3]: the text on a board of a drawn shape and colour. One line, or two where it has a space
    or is long.

    Raises ValueError for a blank text and for one of more than 12 characters.
    """
    written = lines(text)
    shape = pick(rng, tuple(ROOM))
    board, ink = STOP if shape == "octagon" else BOARDS[int(rng.integers(len(BOARDS)))]
    picture = Image.new("RGB", (side * OVER, side * OVER), GROUNDS[int(rng.integers(len(GROUNDS)))])
    _draw_board(picture, shape, board)
    pixels = np.asarray(picture.resize((side, side), Image.Resampling.BOX), np.float32)
    room = round(ROOM[shape][0] * side), round(ROOM[shape][1] * side)
    alpha = _lettered(
        lettering.fitted([lettering.line(one) for one in written], room, round(LEAST * side)), side
    )
    # The head of an arrow is on its right: the middle of its shaft lies to the left.
    alpha = np.roll(alpha, -round(0.05 * side), axis=1) if shape == "arrow" else alpha
    mixed = alpha[..., None] * np.array(ink, np.float32) + (1 - alpha[..., None]) * pixels
    return np.rint(mixed).astype(np.uint8)


def lines(text: str) -> list[str]:
    """As it is written: at a space, or in halves where it is long.

    >>> lines("STOP"), lines("NO ENTRY"), lines("BANATOLU")
    (['STOP'], ['NO', 'ENTRY'], ['BANA', 'TOLU'])
    """
    shown = " ".join(text.split())
    if not 1 <= len(shown) <= MAX_CHARACTERS:
        raise ValueError(f"a sign has 1 to {MAX_CHARACTERS} characters, got {text!r}; shorten it")
    if " " in shown:
        spaces = [i for i, character in enumerate(shown) if character == " "]
        at = min(spaces, key=lambda i: abs(i - len(shown) / 2))
        return [shown[:at], shown[at + 1 :]]
    if len(shown) <= MAX_LINE:
        return [shown]
    half = (len(shown) + 1) // 2
    return [shown[:half], shown[half:]]


def _word(rng: np.random.Generator) -> str:
    kind = rng.random()
    if kind < 0.5:
        return _spoken(rng)
    if kind < 0.65:
        return str(rng.integers(1900, 2030))
    if kind < 0.8:
        return str(rng.integers(10, 1000))
    letters = pick(rng, CODE_LETTERS) + (pick(rng, CODE_LETTERS) if rng.random() < 0.3 else "")
    return letters + "".join(pick(rng, CODE_DIGITS) for _ in range(int(rng.integers(1, 3))))


def _spoken(rng: np.random.Generator) -> str:
    """One syllable that a consonant ends, or two that one may: 3 to 5 letters."""
    num = int(rng.integers(1, 3))
    syllables = [pick(rng, CONSONANTS) + pick(rng, VOWELS) for _ in range(num)]
    return "".join(syllables) + (pick(rng, ENDS) if num == 1 or rng.random() < 0.5 else "")


def _lettered(written: list[Alpha], side: int) -> Alpha:
    """[side, side]: the lines centred, one under the other."""
    alpha = np.zeros((side, side), np.float32)
    gap = max(2, written[0].shape[0] // 4)
    top = (side - sum(ink.shape[0] for ink in written) - gap * (len(written) - 1)) // 2
    for ink in written:
        left = (side - ink.shape[1]) // 2
        alpha[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
        top += ink.shape[0] + gap
    return alpha


def _draw_board(picture: Image.Image, shape: str, color: RGB) -> None:
    """Centred; a post shows under it."""
    draw, side = ImageDraw.Draw(picture), picture.width
    draw.rectangle(_at(side, 0.46, 0.5, 0.54, 1.0), fill=POST)
    if shape == "rectangle":
        draw.rectangle(_at(side, 0.04, 0.16, 0.96, 0.84), fill=color)
    elif shape == "rounded":
        draw.rounded_rectangle(_at(side, 0.04, 0.17, 0.96, 0.83), radius=side // 9, fill=color)
    elif shape == "round":
        draw.ellipse(_at(side, 0.04, 0.04, 0.96, 0.96), fill=color)
    elif shape == "octagon":
        near, far, corner = 0.04, 0.96, 0.96 - 0.92 / (2 + 2**0.5)
        ends = [(1 - corner, near), (corner, near), (far, 1 - corner), (far, corner)]
        points = ends + [(1 - x, 1 - y) for x, y in ends]
        draw.polygon([(x * side, y * side) for x, y in points], fill=color)
    else:
        points = [(0.03, 0.2), (0.82, 0.2), (0.98, 0.5), (0.82, 0.8), (0.03, 0.8)]
        draw.polygon([(x * side, y * side) for x, y in points], fill=color)


def _at(side: int, *shares: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (share * side for share in shares)
    return x0, y0, x1 - 1, y1 - 1
