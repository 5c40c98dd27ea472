"""What is compared of a picture to tell whether another one is the same: two 16x16 grids of bytes.

``structure``: strength and direction of the edges in a cell, from the structure tensor over three channels
(Di Zenzo, "A note on the gradient of a multi-image", 1986), which forgets whether an edge goes up or down.
``tint``: the mean colour of a cell. The surprising rule: all sums are of integers, so machines, threads and
batches cannot disagree.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import schema
from tokenizer_service import sizes

# N images, Y and X pixels, G = 16 cells a side, F (strength, horizontal - vertical, diagonal), C (red, green,
# blue)
Pixels = NDArray[np.uint8]
Rows = NDArray[np.int64]
Plane = NDArray[np.int32]

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


@dataclass(slots=True)
class Growing:
    """Signatures of rows that come table by table, held once: a large ``bytearray`` grows where it lies, or
    by moving its pages; joining arrays would hold them twice.
    """

    _structure: bytearray = field(default_factory=bytearray)
    _tint: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self._tint) // (GRID * GRID * 3)

    def add(self, table: pa.Table) -> None:
        """The columns ``structure`` and ``tint`` of rows that have both."""
        self._structure += b"".join(table[schema.STRUCTURE.name].to_pylist())
        self._tint += b"".join(table[schema.TINT.name].to_pylist())

    def signatures(self) -> Signatures:
        """Of all rows; nothing can be added from then on."""
        return Signatures(
            structure_NGGF=np.frombuffer(self._structure, np.int8).reshape(-1, GRID, GRID, 3),
            tint_NGGC=np.frombuffer(self._tint, np.uint8).reshape(-1, GRID, GRID, 3),
        )


def squeezed(image_HWC: Pixels) -> Pixels:
    """Any picture [H, W, 3] as 64x64 pixels, antialiased, out of proportion."""
    return sizes.squeeze(image_HWC, SIDE)


def measured(images: Sequence[Pixels]) -> Signatures:
    """Of pictures [H, W, 3] of any sizes."""
    # Channels apart and pixels together: sums over a last axis of 3 take five times as long.
    small_NYXC = np.array([squeezed(image) for image in images], np.uint8).reshape(-1, SIDE, SIDE, 3)
    planes_CNYX = np.ascontiguousarray(np.moveaxis(small_NYXC, -1, 0)).astype(np.int32)
    edges = [_means(edge_NYX) // SUBSTEPS for edge_NYX in _edges(planes_CNYX)]
    return Signatures(
        structure_NGGF=np.stack(edges, -1).astype(np.int8),
        tint_NGGC=np.stack([_means(plane_NYX) for plane_NYX in planes_CNYX], -1).astype(np.uint8),
    )


def from_columns(table: pa.Table) -> Signatures:
    growing = Growing()
    growing.add(table)
    return growing.signatures()


def _means(plane_NYX: Plane) -> Plane:
    """Means over the cells, rounded down: [N, 64, 64] to [N, 16, 16]."""
    step = SIDE // GRID
    columns_NYG = functools.reduce(np.add, (plane_NYX[:, :, place::step] for place in range(step)))
    cells_NGG = functools.reduce(np.add, (columns_NYG[:, place::step] for place in range(step)))
    means_NGG: Plane = cells_NGG // step**2
    return means_NGG


def _edges(planes_CNYX: Plane) -> tuple[Plane, Plane, Plane]:
    """Strength and twice the angle as (cosine, sine) times the strength, of each pixel, in units of FULL."""
    across, down = np.zeros_like(planes_CNYX), np.zeros_like(planes_CNYX)
    across[..., 1:-1] = planes_CNYX[..., 2:] - planes_CNYX[..., :-2]
    down[..., 1:-1, :] = planes_CNYX[..., 2:, :] - planes_CNYX[..., :-2, :]
    xx, yy, xy = (across**2).sum(0), (down**2).sum(0), (across * down).sum(0)
    total = xx + yy
    energy = np.maximum(total, 1)
    height = np.sqrt(energy)
    strength = np.where(total > 0, FULL * SUBSTEPS * height / (height + HALF_CONTRAST), 0)
    share = strength / energy
    # Integers from here on: sums of floats would depend on the order in which they are added.
    return _whole(strength), _whole(share * (xx - yy)), _whole(share * (2 * xy))


def _whole(values_NYX: NDArray[np.float64]) -> Plane:
    return np.rint(values_NYX).astype(np.int32)
