"""Read what is written on a picture, by PP-OCRv4 in rapidocr: whether a drawn sign says what was asked for.

The surprising rule: capitals and small letters are one, and so are all spaces: "Stop" was asked for and
"STOP" drawn. The reader is the one that looks for watermarks, and is as optional: an evaluation asks
:func:`missing` first.

Of 200 signs of :func:`trainer.instruct.signs.words` at 128 px it read 99 % as they were written, and 98.5 %
after a blur of 2 px and a JPEG of quality 20; of 100 with noise of 25 levels 97 %. A reader of our own, which
compared with the font's letters by correlation, read 93 % and 84.5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np

from pipeline.colors import Pixels
from pipeline.scorers.watermark import WEIGHTS, Watermarks, folded

SIDE = 512
"""Pixels a side to which a picture is enlarged: its detector was trained on pages, and misses small ones."""


def missing() -> str | None:
    """What keeps the reader from being used here, and how to get it."""
    return WEIGHTS.missing()


def same(text: str, other: str) -> bool:
    """Letters and digits alone decide.

    >>> same("No entry!", "NOENTRY"), same("1991", "1997")
    (True, False)
    """
    return folded(text) == folded(other)


@dataclass(frozen=True, slots=True)
class Reader:
    engine: Any
    """Of rapidocr."""

    @classmethod
    def load(cls) -> Self:
        """Raises ValueError where it is not installed."""
        if (why := missing()) is not None:
            raise ValueError(f"signs cannot be read: {why}")
        return cls(Watermarks.load().engine)

    def read(self, picture: Pixels) -> str:
        """In capitals, without spaces, from the top; empty where nothing is written.

        ``picture``: [H, W, 3] of a square.
        """
        large = np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))
        # Without its classifier of what stands upside down: 1991 was read as L66L.
        found, _ = self.engine(np.ascontiguousarray(large[..., ::-1]), use_cls=False)
        return "".join(folded(text) for _corners, text, _sure in found or ()).upper()
