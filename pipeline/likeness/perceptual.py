"""A picture as 64 bits that hardly change when it is saved again, resized or made lighter.

The DCT hash of Zauner ("Implementation and benchmarking of perceptual image hash functions", 2010): which of
the 64 lowest frequencies of the luma stand above their median, the mean left out. The surprising rule: all
products are of whole numbers, so machines, threads and batches agree on every bit; a mirrored picture only
negates the odd horizontal frequencies, so its hash costs no second look.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.likeness.signatures import squeezed

# N images, Y and X pixels, V vertical and U horizontal frequencies, B = 64 bits
Pixels = NDArray[np.uint8]
Hashes = NDArray[np.uint64]

SIDE = 32
"""Pixels a side of the luma that is transformed."""
FREQUENCIES = np.arange(9)
"""Half periods over a side; the 64 nearest to (0, 0) are among them."""
BITS = 64
LOWEST = sorted(
    ((v, u) for v in range(9) for u in range(9) if v or u), key=lambda vu: (vu[0] ** 2 + vu[1] ** 2, vu)
)[:BITS]
"""(v, u) of each bit, from the lowest bit on. Of 372 photographs cropped by 5 %, 87 % stay within 8 bits;
71 % with the 8 x 8 from (1, 1) on, as Zauner has it."""
SCALE = 1024
"""What a cosine of 1 is. Sums stay under 2^50, so float64 holds them exactly, however they are added."""


def hashes(images: Sequence[Pixels]) -> tuple[Hashes, Hashes]:
    """Of pictures [H, W, 3] of any sizes: their hashes [N], and the hashes of their mirror images [N].

    Each is first squeezed to 64x64 pixels, as its signature is, and then its luma to 32x32.
    """
    luma_NYX = _luma([squeezed(image) for image in images])
    found_NVU = _waves() @ luma_NYX @ _waves().T
    return _bits(found_NVU), _bits(found_NVU * np.where(FREQUENCIES % 2, -1, 1))


def _luma(small: Sequence[Pixels]) -> NDArray[np.float64]:
    """[N, 32, 32]: ITU-R BT.601's weights in thousandths, summed over 2x2 pixels. Only ratios matter."""
    pixels_NYXC = np.array(small, np.int32).reshape(-1, 2 * SIDE, 2 * SIDE, 3)
    luma_NYX = 299 * pixels_NYXC[..., 0] + 587 * pixels_NYXC[..., 1] + 114 * pixels_NYXC[..., 2]
    rows_NYX = luma_NYX[:, ::2] + luma_NYX[:, 1::2]
    return (rows_NYX[..., ::2] + rows_NYX[..., 1::2]).astype(np.float64)


@functools.cache
def _waves() -> NDArray[np.float64]:
    """The DCT-II's cosines [V, Y] in whole numbers; none is near a half, where a last digit would matter."""
    centers_Y = np.arange(SIDE) + 0.5
    waves_VY: NDArray[np.float64] = np.rint(SCALE * np.cos(np.pi / SIDE * FREQUENCIES[:, None] * centers_Y))
    return waves_VY


def _bits(found_NVU: NDArray[np.float64]) -> Hashes:
    """A bit is set where its frequency is over the 32 least of the 64."""
    vertical, horizontal = np.array(LOWEST).T
    found_NB = found_NVU[:, vertical, horizontal]
    above_NB = found_NB > np.sort(found_NB, axis=1)[:, BITS // 2 - 1 : BITS // 2]
    bytes_N8 = np.ascontiguousarray(np.packbits(above_NB, axis=1, bitorder="little"))
    hashes_N: Hashes = bytes_N8.view("<u8").reshape(-1)
    return hashes_N
