"""Faces and words of training images as boxes, for the tokenizer to look at again (Make-A-Scene).

Surprising rule: boxes are found once an image, on the whole of it, and kept in the run's folder; the
squares that later epochs cut, and the run that goes on, see the same ones. Finding costs 0.15 s an image for
faces and 0.7 s for words.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

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
BOXES = "boxes-{}.jsonl"
"""A rank's file in the run's folder: uid and boxes of an image a line."""
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


def finder(config: EmphasisConfig, *, folder: Path | None = None, rank: int = 0) -> Find | None:
    """None where nothing is looked for. ``folder`` keeps what this rank found and what the others did."""
    if not (config.faces or config.text):
        return None
    return Finder(lambda: detectors_of(config), found_in(folder), folder and folder / BOXES.format(rank))


def detectors_of(config: EmphasisConfig) -> list[Detect]:
    detectors: list[Detect] = []
    if config.faces:
        found = faces.Faces.load()
        detectors.append(lambda picture: found.boxes(picture)[:, :4])
    if config.text:
        read = watermark.Watermarks.load()
        detectors.append(lambda picture: words(read, picture))
    return detectors


def words(read: watermark.Watermarks, picture_HWC: Pixels) -> Boxes:
    """The upright boxes around what is read."""
    found, _ = read.engine(np.ascontiguousarray(picture_HWC[..., ::-1]))
    corners = [np.asarray(place, np.float32) for place, _text, _sure in found or ()]
    return np.array([[*c.min(axis=0), *c.max(axis=0)] for c in corners], np.float32).reshape(-1, 4)


class Finder:
    """Each thread has detectors of its own: they are not made for several."""

    def __init__(
        self, detectors: Callable[[], list[Detect]], known: dict[str, Boxes], kept: Path | None
    ) -> None:
        self.detectors, self.known, self.kept = detectors, known, kept
        if kept is not None and kept.exists():
            cut(kept)
        self.own = threading.local()
        self.lock = threading.Lock()

    def __call__(self, uid: str, picture_HWC: Pixels) -> Boxes:
        if uid not in self.known:
            if not hasattr(self.own, "detectors"):
                self.own.detectors = self.detectors()
            self._keep(uid, np.concatenate([detect(picture_HWC) for detect in self.own.detectors]))
        return self.known[uid]

    def _keep(self, uid: str, boxes_N4: Boxes) -> None:
        with self.lock:
            self.known[uid] = boxes_N4
            if self.kept is not None:
                with self.kept.open("a") as file:
                    file.write(json.dumps([uid, boxes_N4.tolist()]) + "\n")


def found_in(folder: Path | None) -> dict[str, Boxes]:
    """What all ranks have found so far."""
    files = sorted(folder.glob(BOXES.format("*"))) if folder is not None else []
    return {uid: boxes_N4 for file in files for uid, boxes_N4 in lines_of(file.read_text())}


def cut(file: Path) -> None:
    """Off a line that a process died over: what is written next would stand behind it."""
    os.truncate(file, file.read_bytes().rfind(b"\n") + 1)


def lines_of(text: str) -> Iterator[tuple[str, Boxes]]:
    *whole, _torn = text.split("\n")  # behind the last end of a line, a process died over one
    for line in whole:
        uid, boxes = json.loads(line)
        yield uid, np.array(boxes, np.float32).reshape(-1, 4)


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
