"""Pictures to other sizes, each with the filter that its purpose asks for."""

from __future__ import annotations

import math

import numpy as np
from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
from numpy.typing import NDArray
from PIL import Image

# H height, W width
Pixels = NDArray[np.uint8]

MAX_ENLARGEMENT = 2.0
"""``fit_square`` refuses to invent more than three of four pixels."""
OVERSAMPLING = 2
"""What is decoded at a fraction of its size keeps at least twice the wanted one."""
MAX_COPIED = 64 << 20
"""Bytes of pixels: the resampler takes two copies of them, which a picture of 120 MP has no room for."""
BAND_BYTES = 16 << 20
"""Of pixels resampled at a time, of larger pictures."""
LOBES = 3
"""Of the Lanczos filter, on each side."""
LANCZOS = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.lanczos3), use_alpha=False)
BILINEAR = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.bilinear), use_alpha=False)
PIXELS = {1: PixelType.U8, 3: PixelType.U8x3}


def fit_square(image_HWC: Pixels, side: int) -> Pixels:
    """The centre square, resampled to [side, side, 3].

    Reduced with an antialiasing filter (Hamming: as sharp as bicubic, without its ringing at hard edges).
    Enlarged bicubically, at most ``MAX_ENLARGEMENT`` times: filter smaller images out before.
    """
    height, width = image_HWC.shape[:2]
    check_large_enough(width, height, side)
    return square(image_HWC, side)


def square(image_HWC: Pixels, side: int) -> Pixels:
    """The same of a picture however small, which a query may be."""
    height, width = image_HWC.shape[:2]
    short = min(height, width)
    left, top = (width - short) // 2, (height - short) // 2
    how = Image.Resampling.HAMMING if side <= short else Image.Resampling.BICUBIC
    cut = Image.fromarray(image_HWC[top : top + short, left : left + short])
    return np.asarray(cut.resize((side, side), how))


def check_large_enough(width: int, height: int, side: int) -> None:
    if min(width, height) * MAX_ENLARGEMENT < side:
        raise ValueError(f"{width}x{height} is too small for {side} px; filter images under {side} px a side")


def shrunk(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Width and height with the longer one at most ``max_side``, in proportion; never enlarged.

    >>> shrunk(4000, 3000, 256), shrunk(200, 100, 256), shrunk(9000, 3, 256)
    ((256, 192), (200, 100), (256, 1))
    """
    scale = min(1, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrink(image_HWC: Pixels, size: tuple[int, int]) -> Pixels:
    """The picture [H, W, 1 or 3] with ``size`` = (width, height), by Lanczos: as near to it as can be.

    By the crate fast_image_resize, on whole numbers: the same bits with and without vector instructions, five
    times as quick as Pillow.
    """
    height, width, _ = image_HWC.shape
    if (width, height) == size:
        return image_HWC
    return (
        in_bands(image_HWC, size) if image_HWC.nbytes > MAX_COPIED else _resampled(image_HWC, size, LANCZOS)
    )


def squeeze(image_HWC: Pixels, side: int) -> Pixels:
    """Any picture as [side, side, 1 or 3], out of proportion: to measure it, since nothing rings here."""
    if image_HWC.shape[:2] == (side, side):
        return image_HWC
    return _resampled(image_HWC, (side, side), BILINEAR)


def _resampled(image_HWC: Pixels, size: tuple[int, int], how: ResizeOptions) -> Pixels:
    height, width, channels = image_HWC.shape
    source = ImageData(width, height, PIXELS[channels], image_HWC.tobytes())
    target = ImageData(*size, PIXELS[channels])
    Resizer().resize(source, target, how)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size[1], size[0], channels)


def in_bands(image_HWC: Pixels, size: tuple[int, int]) -> Pixels:
    """The same by Pillow, some rows at a time, with as many beside them as the filter reaches: for giants."""
    height, width, channels = image_HWC.shape
    scale = height / size[1]
    reach, rows = math.ceil(LOBES * scale) + 1, max(1, int(BAND_BYTES / (scale * width * channels)))
    bands = []
    for top in range(0, size[1], rows):
        bottom = min(top + rows, size[1])
        first, last = max(0, int(top * scale) - reach), min(height, math.ceil(bottom * scale) + reach)
        band = Image.fromarray(
            image_HWC[first:last].squeeze(axis=2) if channels == 1 else image_HWC[first:last]
        )
        box = (0, top * scale - first, width, min(bottom * scale, height) - first)
        bands.append(np.asarray(band.resize((size[0], bottom - top), Image.Resampling.LANCZOS, box=box)))
    return np.concatenate(bands).reshape(size[1], size[0], channels)
