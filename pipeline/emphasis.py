"""Faces and words of training images as boxes, for the tokenizer to look at again (Make-A-Scene).

Surprising rule: boxes are found once an image, on the whole of it, and remembered while the run lasts; the
squares that later epochs cut see the same ones. That costs 0.15 s an image for faces and 0.7 s for words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from infra.settings import Section
from pipeline.scorers import faces, watermark
from tokenizer_service.coding import Pixels

Boxes = NDArray[np.float32]
"""[N, 4]: left, top, right, bottom in pixels."""
Find = Callable[[str, Pixels], Boxes]
"""Of an image, by its uid."""
Detect = Callable[[Pixels], Boxes]
SMALLEST = 4.0
"""Pixels a side of a box, in the square, that is worth a look."""


class EmphasisConfig(Section):
    """What is looked for; nothing by default. Its weight is ``tokenizer.image.fit.crops``."""

    faces: bool = False
    """By MTCNN."""
    text: bool = False
    """By PP-OCRv4."""


def none() -> Boxes:
    return np.zeros((0, 4), np.float32)


def missing(config: EmphasisConfig) -> list[str]:
    """What is asked for and has no weights here, and how to get them."""
    asked = {"faces": (config.faces, faces.WEIGHTS), "text": (config.text, watermark.WEIGHTS)}
    found = {name: weights.missing() for name, (on, weights) in asked.items() if on}
    return [f"tokenizer.run.stream.emphasis.{name}: {why}" for name, why in found.items() if why]


def finder(config: EmphasisConfig) -> Find | None:
    detectors: list[Detect] = []
    if config.faces:
        found = faces.Faces.load()
        detectors.append(lambda picture: found.boxes(picture)[:, :4])
    if config.text:
        read = watermark.Watermarks.load()
        detectors.append(lambda picture: words(read, picture))
    return remembering(detectors) if detectors else None


def words(read: watermark.Watermarks, picture_HWC: Pixels) -> Boxes:
    """The upright boxes around what is read."""
    found, _ = read.engine(np.ascontiguousarray(picture_HWC[..., ::-1]))
    corners = [np.asarray(place, np.float32) for place, _text, _sure in found or ()]
    return np.array([[*c.min(axis=0), *c.max(axis=0)] for c in corners], np.float32).reshape(-1, 4)


def remembering(detectors: list[Detect]) -> Find:
    """One picture at a time: the detectors are not made for threads."""
    known: dict[str, Boxes] = {}
    lock = threading.Lock()

    def find(uid: str, picture_HWC: Pixels) -> Boxes:
        with lock:
            if uid not in known:
                known[uid] = np.concatenate([detect(picture_HWC) for detect in detectors])
            return known[uid]

    return find


def seen_in(boxes_N4: Boxes, crop: tuple[int, int, int], *, side: int, flipped: bool) -> Boxes:
    """Boxes of an image as pixels of the square [side, side] that was cut at (left, top) with a size.

    >>> seen_in(np.array([[10, 0, 20, 10]], np.float32), (10, 0, 20), side=40, flipped=True).tolist()
    [[20.0, 0.0, 40.0, 20.0]]
    """
    left, top, size = crop
    placed_N4 = (boxes_N4 - np.array([left, top, left, top], np.float32)) * np.float32(side / size)
    placed_N4 = placed_N4.clip(0, side)
    if flipped:
        placed_N4[:, [0, 2]] = side - placed_N4[:, [2, 0]]
    sides_N2 = placed_N4[:, 2:] - placed_N4[:, :2]
    return placed_N4[(sides_N2 >= SMALLEST).all(axis=1)]
