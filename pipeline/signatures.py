"""What is compared of a picture to tell whether another one is the same: two 16x16 grids of bytes.

``structure``: strength and direction of the edges in a cell, from the structure tensor over three channels
(Di Zenzo, "A note on the gradient of a multi-image", 1986), which forgets whether an edge goes up or down.
``tint``: the mean colour of a cell. The surprising rule: all sums are of integers, so machines, threads and
batches cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from pipeline import schema

# N images, G = 16 cells a side, F (strength, horizontal - vertical, diagonal), C (red, green, blue)
Pixels = NDArray[np.uint8]
Rows = NDArray[np.int64]

SIDE = 64
"""Pixels a side of the picture that is measured."""
GRID = 16
"""Cells a side of a signature."""
FULL = 127
"""The byte for an edge strength of 1."""
SUBSTEPS = 64
"""Parts of a byte that are kept until the mean over a cell is taken."""
HALF_CONTRAST = 24
"""A step of 24 (of 255, over two pixels) has half of the full strength, so that contrast hardly matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    structure_NGGF: NDArray[np.int8]
    """Strength in [0, 127], directions in [-127, 127]."""
    tint_NGGC: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.tint_NGGC)

    def __getitem__(self, rows: slice | Rows) -> Self:
        return replace(self, structure_NGGF=self.structure_NGGF[rows], tint_NGGC=self.tint_NGGC[rows])


def measured(images: Sequence[Pixels]) -> Signatures:
    """Of pictures [H, W, 3] of any sizes: each is first squeezed to 64x64 pixels, with antialiasing."""
    # Pillow resizes one picture a call; everything after is one pass over the batch.
    size, antialiased = (SIDE, SIDE), Image.Resampling.BILINEAR
    small = [np.asarray(Image.fromarray(image).resize(size, antialiased)) for image in images]
    pixels_NHWC = np.array(small, np.int32).reshape(-1, SIDE, SIDE, 3)
    return Signatures(
        structure_NGGF=(_means(_edges(pixels_NHWC)) // SUBSTEPS).astype(np.int8),
        tint_NGGC=_means(pixels_NHWC).astype(np.uint8),
    )


def from_columns(table: pa.Table) -> Signatures:
    """The columns ``structure`` and ``tint`` of rows that have both."""
    structure, tint = (b"".join(table[column.name].to_pylist()) for column in (schema.STRUCTURE, schema.TINT))
    return Signatures(
        structure_NGGF=np.frombuffer(structure, np.int8).reshape(-1, GRID, GRID, 3),
        tint_NGGC=np.frombuffer(tint, np.uint8).reshape(-1, GRID, GRID, 3),
    )


def _means(pixels_NHWD: NDArray[np.int32]) -> NDArray[np.int32]:
    """Means over the cells, rounded down: [N, 64, 64, D] to [N, 16, 16, D]."""
    num, *_, depth = pixels_NHWD.shape
    step = SIDE // GRID
    cells = pixels_NHWD.reshape(num, GRID, step, GRID, step, depth)
    means_NGGD: NDArray[np.int32] = cells.sum((2, 4), dtype=np.int32) // step**2
    return means_NGGD


def _edges(pixels_NHWC: NDArray[np.int32]) -> NDArray[np.int32]:
    """Strength and twice the angle as (cosine, sine) times the strength, of each pixel, in units of FULL."""
    across, down = np.zeros_like(pixels_NHWC), np.zeros_like(pixels_NHWC)
    across[:, :, 1:-1] = pixels_NHWC[:, :, 2:] - pixels_NHWC[:, :, :-2]
    down[:, 1:-1] = pixels_NHWC[:, 2:] - pixels_NHWC[:, :-2]
    xx, yy, xy = (across**2).sum(-1), (down**2).sum(-1), (across * down).sum(-1)
    energy = np.maximum(xx + yy, 1)
    height = np.sqrt(energy)
    strength = np.where(xx + yy > 0, FULL * SUBSTEPS * height / (height + HALF_CONTRAST), 0)
    # Integers from here on: sums of floats would depend on the order in which they are added.
    edges_NHWF = np.stack([strength, strength * (xx - yy) / energy, strength * 2 * xy / energy], -1)
    whole: NDArray[np.int32] = np.rint(edges_NHWF).astype(np.int32)
    return whole
