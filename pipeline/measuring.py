"""What is measured of a training picture while its pixels are at hand, to filter and compare it by.

The surprising rule: nearly all of it is of one small picture, 64 pixels a side, so it does not depend on how
large training pictures are. Ingestion asks for what the filters judge (0.3 ms a picture); the rest, 0.6 ms,
is measured of what they kept, when the encoder has its pixels anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import colors, schema
from pipeline.likeness import perceptual, signatures
from tokenizer_service import sizes

# N pictures, Y and X pixels
Pixels = NDArray[np.uint8]

SHARP_SIDE = 256
"""Longer side of what is measured for sharpness, at most: so that it means the same for any size."""


def seen(pictures: Sequence[Pixels]) -> list[dict[str, Any]]:
    """Of pictures [H, W, 3]: their columns ``schema.SEEN``."""
    if not pictures:
        return []
    std_N = pixel_std(np.stack([signatures.squeezed(picture) for picture in pictures]))
    return [
        {schema.PIXEL_STD.name: float(std), schema.SHARPNESS.name: sharpness(picture)}
        for std, picture in zip(std_N, pictures, strict=True)
    ]


def looks(pictures: Sequence[Pixels]) -> list[dict[str, Any]]:
    """Of pictures [H, W, 3]: their columns ``schema.LOOKS``."""
    if not pictures:
        return []
    small = [signatures.squeezed(picture) for picture in pictures]
    signature = signatures.measured(small)
    hashes_N, mirrored_N = perceptual.hashes(small)
    return [
        {
            schema.PHASH.name: int(hashes_N[i]),
            schema.PHASH_MIRRORED.name: int(mirrored_N[i]),
            schema.STRUCTURE.name: signature.structure_NGGF[i].tobytes(),
            schema.TINT.name: signature.tint_NGGC[i].tobytes(),
            schema.COLOR.name: colors.dominant(small[i]),
        }
        for i in range(len(small))
    ]


def pixel_std(small_NYXC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Standard deviation of the channel that varies most [N]: 0 for one colour all over, whatever colour."""
    # Channel by channel, and in whole numbers: 4,096 squares of bytes stay under 2^31.
    planes_CNP = np.ascontiguousarray(np.moveaxis(small_NYXC, -1, 0), np.int32).reshape(
        3, len(small_NYXC), -1
    )
    num, sums_CN = planes_CNP.shape[-1], planes_CNP.sum(-1)
    variance_CN = (num * (planes_CNP**2).sum(-1) - sums_CN**2) / num**2
    std_N: NDArray[np.float64] = np.sqrt(variance_CN.max(0))
    return std_N


def sharpness(picture_HWC: Pixels) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing", ICPR 2000) of the green channel,
    which is most of the luma.
    """
    height, width, _ = picture_HWC.shape
    size = sizes.shrunk(width, height, SHARP_SIDE)
    plane_YX = sizes.shrink(picture_HWC, size)[..., 1].astype(np.int16)
    if min(plane_YX.shape) < 3:
        return 0.0
    edges_YX = plane_YX[:-2, 1:-1] + plane_YX[2:, 1:-1] + plane_YX[1:-1, :-2] + plane_YX[1:-1, 2:]
    edges_YX -= 4 * plane_YX[1:-1, 1:-1]
    values = edges_YX.ravel().astype(np.float32)
    return max(0.0, float(values @ values) / values.size - float(values.mean()) ** 2)
