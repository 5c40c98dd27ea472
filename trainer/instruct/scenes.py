"""Things on a plain ground: found, cut out, and put together again at places that are known.

The surprising rule: boxes are in pixels of a square of 256, whatever the picture's side is, since the text
of a prompt says them so (arXiv 2309.02591, figure 15) and the same prompt may be drawn at any side. A box is
half open: it ends before ``x1`` and ``y1``.

H, W height and width of a picture, h, w of a part of it; C red, green, blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.colors import Pixels

RGB = tuple[int, int, int]
Mask = NDArray[np.bool_]
Alpha = NDArray[np.float32]

GRID = 256
WHITE: RGB = (255, 255, 255)
PLAIN = 12
"""Levels by which the border of a plain ground may differ from its colour: a JPEG's noise at quality 75."""
MIN_PLAIN = 0.98
"""Share of the border that must be plain. Of 377 emoji on white ground 28 touch more of it: 27 are flags."""
ROUGH, MIN_ROUGH = 24, 0.7
"""The same where things are only to be found: of 400 emoji placed in JPEGs of 64 px 33 to 53 % were found by
the strict rule, 91 to 94 % by this; at 40 levels pale parts are lost."""
MARGIN = 4
"""Pixels of the grid between a frame and the border, so that the border stays plain."""
MIN_AREA = 0.01
"""Share of the picture that a thing covers at least; less than that is a speck."""
MAX_AREA = 0.9
GAP = 6
"""Pixels of the grid between two frames at least: things that touch are detected as one."""
MAX_THINGS = 4
LEAST, MOST = 77, 128
"""Pixels a side of a frame: 30 to 50 % of the grid."""


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels of the grid of 256: from ``x0, y0`` to before ``x1, y1``; y grows downwards."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        return max(0, self.width) * max(0, self.height)

    @property
    def centre(self) -> tuple[int, int]:
        return (self.x0 + self.x1) // 2, (self.y0 + self.y1) // 2

    @property
    def text(self) -> str:
        """
        >>> Box(199, 130, 204, 150).text
        '(199, 130) -> (204, 150)'
        """
        return f"({self.x0}, {self.y0}) -> ({self.x1}, {self.y1})"

    @property
    def place(self) -> str:
        """In words: by the axis on which the centre is further from the middle.

        >>> Box(0, 100, 80, 180).place
        'on the left'
        """
        x, y = self.centre[0] - GRID // 2, self.centre[1] - GRID // 2
        if max(abs(x), abs(y)) < GRID // 8:
            return "in the middle"
        if abs(x) >= abs(y):
            return "on the left" if x < 0 else "on the right"
        return "at the top" if y < 0 else "at the bottom"

    def scaled(self, side: int) -> Self:
        """In pixels of a square of ``side``, at least one wide and high."""
        x0, y0, x1, y1 = (round(end * side / GRID) for end in (self.x0, self.y0, self.x1, self.y1))
        return type(self)(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))

    def iou(self, other: Box) -> float:
        """Area of both over that of either, in [0, 1].

        >>> Box(0, 0, 10, 10).iou(Box(5, 0, 15, 10)) == 1 / 3
        True
        """
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        both = Box(x0, y0, max(x0, min(self.x1, other.x1)), max(y0, min(self.y1, other.y1))).area
        either = self.area + other.area - both
        return both / either if either else 0.0


@dataclass(frozen=True, slots=True)
class Foreground:
    """What stands on a plain ground."""

    mask: Mask
    """[H, W]: true where the thing is."""
    box: Box
    ground: RGB


@dataclass(frozen=True, slots=True)
class Sprite:
    """A thing cut out, at the size it had."""

    pixels: Pixels
    """[h, w, C]."""
    alpha: Alpha
    """[h, w] in [0, 1]: how much of a pixel is the thing's."""


@dataclass(frozen=True, slots=True)
class Thing:
    name: str
    sprite: Sprite


@dataclass(frozen=True, slots=True)
class Drawn:
    picture: Pixels
    boxes: tuple[Box, ...]
    """As placed: a thing keeps its proportions, so its box may be narrower than its frame."""
    masks: tuple[Mask, ...]
    """[H, W] of each thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Things, each in a frame of its own, before they are drawn."""

    things: tuple[Thing, ...]
    frames: tuple[Box, ...]
    ground: RGB = WHITE

    def drawn(self, side: int) -> Drawn:
        return compose([thing.sprite for thing in self.things], self.frames, ground=self.ground, side=side)

    def without(self, which: int) -> Self:
        things, frames = list(self.things), list(self.frames)
        del things[which], frames[which]
        return replace(self, things=tuple(things), frames=tuple(frames))

    def joined_by(self, thing: Thing, frame: Box) -> Self:
        return replace(self, things=(*self.things, thing), frames=(*self.frames, frame))

    def exchanged(self, which: int, *, thing: Thing | None = None, frame: Box | None = None) -> Self:
        """With another thing, or another frame, in place of that one."""
        things, frames = list(self.things), list(self.frames)
        things[which], frames[which] = thing or things[which], frame or frames[which]
        return replace(self, things=tuple(things), frames=tuple(frames))


def foreground(picture: Pixels) -> Foreground | None:
    """What is not reached from the border by the ground's colour; none where the ground is not plain.

    Holes that the ground shows through are part of the thing: the white of an eye is not the paper.
    """
    return _front(picture, PLAIN, MIN_PLAIN)


def detect(picture: Pixels) -> list[Box]:
    """Boxes of connected things on a ground of one colour, largest first; none where there is no such ground.

    More lenient than :func:`foreground`: it is also asked about what a model drew, and small JPEGs.
    """
    if (found := _front(picture, ROUGH, MIN_ROUGH)) is None:
        return []
    parts = sorted(_parts(found.mask), key=np.count_nonzero, reverse=True)
    return [_box(part) for part in parts if part.mean() >= MIN_AREA]


def plain_ground(picture: Pixels, away: int = PLAIN, share: float = MIN_PLAIN) -> RGB | None:
    """The colour of the border where it is one colour, but for so many levels and such a share of it."""
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).astype(np.int16)
    color = np.median(border, axis=0)
    if (np.abs(border - color).max(axis=1) <= away).mean() < share:
        return None
    return round(float(color[0])), round(float(color[1])), round(float(color[2]))


def cut(picture: Pixels) -> Sprite | None:
    """The thing on a plain ground, with a soft edge; none where the ground is not plain."""
    if (found := foreground(picture)) is None:
        return None
    ys, xs = _spans(found.mask)
    return Sprite(pixels=picture[ys, xs].copy(), alpha=soft(found.mask)[ys, xs].copy())


def soft(mask: Mask) -> Alpha:
    """[H, W] in [0, 1]: one pixel in, then blurred over one. The outermost pixel is half paper, and would
    show as a rim on another ground.
    """
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.asarray(cv2.GaussianBlur(inner.astype(np.float32), (3, 3), 0), np.float32)


def compose(sprites: Sequence[Sprite], frames: Sequence[Box], *, ground: RGB, side: int) -> Drawn:
    """Each sprite as large as its frame lets it, in the middle of it, on one colour; a later one on top."""
    canvas = np.full((side, side, 3), ground, np.float32)
    boxes, masks = [], []
    for sprite, frame in zip(sprites, frames, strict=True):
        rows, columns = _fitted(sprite, frame.scaled(side))
        size = columns.stop - columns.start, rows.stop - rows.start
        pixels = cv2.resize(sprite.pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        alpha = cv2.resize(sprite.alpha, size, interpolation=cv2.INTER_AREA)[..., None]
        canvas[rows, columns] = alpha * pixels + (1 - alpha) * canvas[rows, columns]
        mask = np.zeros((side, side), np.bool_)
        # Half of its most: of a stroke that is thinner than a pixel none is whole.
        mask[rows, columns] = alpha[..., 0] >= alpha.max() / 2
        masks.append(mask)
        boxes.append(_box(mask))
    picture = np.rint(canvas).clip(0, 255).astype(np.uint8)
    return Drawn(picture=picture, boxes=tuple(boxes), masks=tuple(masks))


def draw_layout(rng: np.random.Generator, num: int) -> tuple[Box, ...]:
    """So many squares of 30 to 50 % of the side that do not touch, anywhere in the grid.

    Drawn until they fit: four take 20 ms.
    """
    if not 1 <= num <= MAX_THINGS:
        raise ValueError(f"a layout has 1 to {MAX_THINGS} things, got {num}: more do not fit at 30 % a side")
    most = MOST if num < MAX_THINGS else (LEAST + MOST) // 2
    while True:
        sides = rng.integers(LEAST, most, size=num, endpoint=True)
        corners = rng.integers(MARGIN, GRID - MARGIN - sides[:, None], size=(num, 2), endpoint=True)
        boxes = [
            Box(x, y, x + side, y + side)
            for (x, y), side in zip(corners.tolist(), sides.tolist(), strict=True)
        ]
        if not any(crowded(box, boxes[:i]) for i, box in enumerate(boxes)):
            return tuple(boxes)


def crowded(frame: Box, others: Sequence[Box]) -> bool:
    """Whether any of the others is less than :data:`GAP` away."""
    wide = Box(frame.x0 - GAP, frame.y0 - GAP, frame.x1 + GAP, frame.y1 + GAP)
    return any(wide.iou(other) > 0 for other in others)


def _front(picture: Pixels, away: int, share: float) -> Foreground | None:
    """Flooded from a rim of the ground's colour that is put around the picture."""
    if (ground := plain_ground(picture, away, share)) is None:
        return None
    smooth = cv2.medianBlur(picture, 3).astype(np.int16)
    near = (np.abs(smooth - np.array(ground, np.int16)).max(axis=2) <= away).astype(np.uint8)
    labels = cv2.connectedComponents(np.pad(near, 1, constant_values=1), connectivity=4)[1]
    thing = (labels[1:-1, 1:-1] != labels[0, 0]).astype(np.uint8)
    # A JPEG rings around an edge: specks of a few pixels are no part of the thing.
    mask = np.asarray(cv2.morphologyEx(thing, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0)
    if not MIN_AREA <= mask.mean() <= MAX_AREA:
        return None
    return Foreground(mask=mask, box=_box(mask), ground=ground)


def _parts(mask: Mask) -> list[Mask]:
    num, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [np.asarray(labels == part) for part in range(1, num)]


def _spans(mask: Mask) -> tuple[slice, slice]:
    """Rows and columns that hold any of it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _box(mask: Mask) -> Box:
    """In the grid, of what is in a picture of any size."""
    rows, columns = _spans(mask)
    by, bx = GRID / mask.shape[0], GRID / mask.shape[1]
    return Box(
        round(columns.start * bx), round(rows.start * by), round(columns.stop * bx), round(rows.stop * by)
    )


def _fitted(sprite: Sprite, frame: Box) -> tuple[slice, slice]:
    """Rows and columns of the sprite inside its frame."""
    height, width = sprite.alpha.shape
    scale = min(frame.width / width, frame.height / height)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    y, x = frame.y0 + (frame.height - h) // 2, frame.x0 + (frame.width - w) // 2
    return slice(y, y + h), slice(x, x + w)
