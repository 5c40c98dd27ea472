"""The EXIF orientation: which of eight ways a stored picture is turned before it is shown."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_TAG = 0x0112
_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),
}


def turn_of(exif: bytes) -> int:
    """Tag 0x0112 of the first directory, 1 where it cannot be read: damaged EXIF spoils no picture."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4], "")
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            tag, _kind, _count, value = struct.unpack_from(order + "HHIH", tiff, place)
            if tag == _TAG:
                return int(value)
    except struct.error:
        return 1
    return 1


def lies(turn: int) -> bool:
    """Whether the picture is stored on its side, so that its width is the height of its pixels."""
    return turn in (5, 6, 7, 8)


def upright(stored_HWC: Pixels, turn: int) -> Pixels:
    return np.ascontiguousarray(_TURNS[turn](stored_HWC)) if turn in _TURNS else stored_HWC
