"""Any picture to the square that a tokenizer was trained on, resampled the way its authors did.

Surprising rule: a tokenizer sees the resampling. Reduced by another filter, a picture has other fine detail
and so other codes; published weights are used with the filter they were trained with.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from tokenizer_service import sizes
from tokenizer_service.vq import Preprocessing

# H height, W width
Pixels = NDArray[np.uint8]
Size = tuple[int, int]
"""Width and height, as Pillow has them."""


def square(image_HWC: Pixels, side: int, preprocessing: Preprocessing) -> Pixels:
    """[side, side, 3] of a picture in sRGB on white: its short side brought to ``side``, the centre cut."""
    if preprocessing.resize == "hamming":
        return sizes.fit_square(image_HWC, side)
    height, width, _ = image_HWC.shape
    sizes.check_large_enough(width, height, side)
    scale = side / min(height, width)
    size = (round(width * scale), round(height * scale))
    resized_HWC = RESIZED[preprocessing.resize](image_HWC, size)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    return resized_HWC[top : top + side, left : left + side]


def _linear(image_HWC: Pixels, size: Size) -> Pixels:
    """Between the nearest four pixels, however much smaller the result is: OpenCV's, to one level."""
    image_1CHW = torch.from_numpy(image_HWC.copy()).permute(2, 0, 1)[None].float()
    resized_1CHW = functional.interpolate(image_1CHW, size[::-1], mode="bilinear", align_corners=False)
    resized_HWC: Pixels = resized_1CHW[0].round().to(torch.uint8).permute(1, 2, 0).numpy()
    return resized_HWC


def _halved_bicubic(image_HWC: Pixels, size: Size) -> Pixels:
    """Halved by averaging for as long as twice the size is left, then bicubic."""
    picture = Image.fromarray(image_HWC)
    while min(picture.size) >= 2 * min(size):
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = min(size) / min(picture.size)
    last = (round(picture.width * scale), round(picture.height * scale))
    return np.asarray(picture.resize(last, Image.Resampling.BICUBIC))


def _lanczos(image_HWC: Pixels, size: Size) -> Pixels:
    return np.asarray(Image.fromarray(image_HWC).resize(size, Image.Resampling.LANCZOS))


RESIZED: dict[str, Callable[[Pixels, Size], Pixels]] = {
    "linear": _linear,
    "bicubic": _halved_bicubic,
    "lanczos": _lanczos,
}
"""By the name in :class:`Preprocessing`; sizes are rounded to the nearest pixel."""
