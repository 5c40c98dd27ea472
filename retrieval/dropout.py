"""What a document asks with while it trains: itself, less a fifth of its words and of its patches.

CM3Leon drops 20 % of a query's tokens, so that training, too, retrieves by less than the whole (arXiv
2309.02591, section 2.1; RA-CM3 found it to help). How an image's tokens are dropped is not published: here a
patch, the size of one of CLIP ViT-B/32's, becomes the picture's mean colour, which leaves the statistics as
they were. Both are drawn by the generator that is handed in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GRID = 7
"""Patches a side: ViT-B/32 cuts 224 px into as many."""


def words(text: str, share: float, rng: np.random.Generator) -> str:
    """Without about ``share`` of its words, at least one of which stays.

    >>> words("a red apple on a wooden table", 0.2, np.random.default_rng(1))
    'a red apple on a table'
    """
    found = text.split()
    dropped = dropping(len(found), share, rng)
    if len(dropped) == len(found):
        return text
    return " ".join(word for place, word in enumerate(found) if place not in dropped)


def patches(image_HWC: NDArray[np.uint8], share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A copy in which about ``share`` of 49 patches have the mean colour of the picture."""
    height, width, _ = image_HWC.shape
    found = image_HWC.copy()
    mean_C = np.round(image_HWC.mean(axis=(0, 1))).astype(np.uint8)
    for place in dropping(GRID * GRID, share, rng):
        row, column = divmod(place, GRID)
        rows = slice(row * height // GRID, (row + 1) * height // GRID)
        found[rows, column * width // GRID : (column + 1) * width // GRID] = mean_C
    return found


def dropping(num: int, share: float, rng: np.random.Generator) -> set[int]:
    """Places of ``num``: as many as ``share`` of them is, rounded by chance, so that it is so on average."""
    wanted = num * share
    count = int(wanted) + int(rng.random() < wanted % 1)
    return set(rng.choice(num, min(count, num), replace=False).tolist())
