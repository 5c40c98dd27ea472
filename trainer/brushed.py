"""Which image tokens a mask brushes, and the run of them that is drawn anew.

The surprising rule: all tokens from the first brushed one to the last are hidden from the model until it
comes to them. Those between that are not brushed only come back as they were given: a token that is drawn
sees none of them that lies behind it.

Shapes: H, W height and width of the mask; T tokens, grid x grid, left to right and downwards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.prompts import Ids
from trainer.sampler import DRAWN


def on_grid(brushed_HW: NDArray[np.bool_], grid: int) -> NDArray[np.bool_]:
    """Which tokens [T] of grid x grid have a brushed pixel; the mask may have any size.

    >>> on_grid(np.eye(4, dtype=bool) & (np.arange(4) > 1), 2).tolist()
    [False, False, False, True]
    """
    height, width = brushed_HW.shape
    y_P, x_P = brushed_HW.nonzero()
    found_hw = np.zeros((grid, grid), np.bool_)
    found_hw[y_P * grid // height, x_P * grid // width] = True
    return found_hw.ravel()


def to_draw(image: Ids, brushed_T: NDArray[np.bool_]) -> tuple[int, int, Ids]:
    """The smallest run [start, stop) that holds all brushed tokens, and of it what is not drawn but given.

    >>> to_draw((60, 61, 62, 63), np.array([False, True, False, True]))
    (1, 4, (-1, 62, -1))
    """
    (places,) = brushed_T.nonzero()
    if not len(places):
        raise ValueError("the mask brushes nothing; make white what is to be drawn anew")
    start, stop = int(places[0]), int(places[-1]) + 1
    pairs = zip(image[start:stop], brushed_T[start:stop].tolist(), strict=True)
    return start, stop, tuple(DRAWN if brush else token for token, brush in pairs)
