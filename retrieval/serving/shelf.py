"""Pictures and neighbors, which are read when somebody asks for them: what the door is handed for that."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tokenizer_service import images, jpegs, sizes

SIDE, QUALITY = 320, 82
"""Longer side of a thumbnail in pixels; some 15 kB each."""
THUMBNAILS = 4096
"""That are kept: 60 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What was chosen for a target, to be trained on beside it."""

    uid: str
    score: float
    via: str
    """``image`` or ``text``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    split: str
    candidates: Sequence[Candidate]
    """In the order chosen."""


class Shelf(Protocol):
    """By the rows of a catalogue. Both may wait for a store."""

    def image(self, row: int) -> bytes:
        """The stored training image, a JPEG of our own."""

    def example(self, row: int) -> Example | None:
        """None where nothing was chosen for the member."""


def thumbnails(shelf: Shelf) -> Callable[[int], bytes]:
    """Remembers the latest."""

    @functools.lru_cache(maxsize=THUMBNAILS)
    def found(row: int) -> bytes:
        return thumbnail(shelf.image(row))

    return found


def thumbnail(jpeg: bytes) -> bytes:
    """A smaller JPEG; the same where it is small."""
    header = images.probe(jpeg)
    if max(header.width, header.height) <= SIDE:
        return jpeg
    pixels_HWC = images.decode(jpeg, at_least=SIDE)
    height, width = pixels_HWC.shape[:2]
    return jpegs.encode(sizes.shrink(pixels_HWC, sizes.shrunk(width, height, SIDE)), QUALITY)
