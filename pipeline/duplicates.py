"""Which images are one picture: equal bytes, or re-encoded, resized, slightly cropped, with another skin.

Surprising rule: edges must lie in the same places, whatever their contrast, and colours must agree, except
where both could be skin or hair. So a hand in five skin tones is one picture, a red and a blue heart are two,
and so are two clock faces.

Measured on 3,374 emoji (1,870 captions without the skin): 90 % of the skins are dropped; 80 captions keep no
picture, mostly as a man and a woman of one trade look the same in some tone. On 372 photographs: found again
are 100 % of those saved at JPEG quality 40, halved or cropped by 2 %, 98.7 % with 10 % more light, 88 %
cropped by 5 %; of 69,006 pairs of different ones none is taken for one. Not found: rotations, larger crops,
borders, and flips unless ``mirrored``. The whole table stands in infra/decisions/0011.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from infra.settings import Section
from pipeline.likeness.signatures import FULL, Pixels, Rows, Signatures

# N images, P pairs, G = 16 cells a side, F (strength, horizontal - vertical, diagonal), C (red, green, blue)
LUMA_CHANGE = 90
CHROMA_CHANGE = 50
"""A cell has another colour where luma / 90 + chroma / 50 of the change is over 1. With 60 for chroma an
orange and a yellow ball are one, and so are the flags of Indonesia and Monaco."""
TEXTURED_CELL = 19
"""Strength that makes a cell textured: 0.15."""
TEXTURED_FRAME = 0.8
"""Share of textured cells in a full frame; 93 % of the photographs are above it, 7 % of the emoji."""
MAX_PLAIN_TONED = 0.05
MIN_TONED_STRENGTH = 0.35
"""Where more than 5 % of the cells change their skin tone, there must be edges among them: else it is a ball
in another colour and not a hand. With 0.45, 5 % fewer skin variants are found."""
CHUNK = 512
"""Pairs compared at a time: they stay in the cache, 8192 take twice as long."""


Preference = Literal["licence_breadth", "resolution", "release", "first_seen"]


class DuplicateConfig(Section):
    """How much two pictures may differ and still be one, and which of them stays."""

    keeper: tuple[Preference, ...] = ("licence_breadth", "resolution", "release", "first_seen")
    """What is preferred in the member that stays, the weightiest first; at last the first seen."""
    max_hamming: int = Field(8, ge=0, le=12)
    """Bits of 64 in which perceptual hashes may differ; edges and colours must agree too."""
    variants: bool = True
    """Look also for equal edges under another luma: skins of emoji, of which hashes alone find 82 % and not
    90, and crops. It takes three times as long as the hashes."""
    mirrored: bool = False
    """Whether a picture and its mirror image are one. Left and right arrows are, too."""
    semantic_threshold: float | None = Field(None, ge=0.5, le=1)
    """Cosine of the encoder's image features from which two pictures are one; None: they are not compared. On
    372 photographs and the offline encoder:

    ========  ========  =========  ======  ======  =======  ====  =====
    cosine    crop 5 %  crop 10 %  border  banner  flipped  turn  false
    ========  ========  =========  ======  ======  =======  ====  =====
    0.90      99.7 %    91 %       81 %    93 %    100 %    96 %  0, 1
    0.92      97.8 %    80 %       60 %    85 %    100 %    92 %  0
    0.94      94.4 %    59 %       29 %    69 %    99.7 %   73 %  0
    0.96      75.3 %    23 %       6 %     37 %    91 %     28 %  0
    ========  ========  =========  ======  ======  =======  ====  =====

    For photographs take 0.92; drawings are nearer to each other."""
    max_difference: float = Field(0.065, ge=0, le=0.1)
    """Squared difference of the structures over the sum of their squares. Photographs cropped by 5 % have
    0.043 in the median, those saved as JPEG at quality 10 have 0.013, the closest two of 372 different ones
    0.107. Candidates are looked for up to 0.1."""
    max_local: float = Field(0.5, ge=0)
    """Squared difference of the structures, in strengths, summed over the worst 3x3 cells. 0.4 finds 91.5 %
    of the skin variants of emoji, 0.5 finds 93.8 %; with 0.55 an astonished face is a hushed one."""
    max_local_textured: float = Field(1.4, ge=0)
    """The same where edges cover the frame, as in photographs: there nothing matches by chance, and a crop by
    5 % moves every edge a little (0.7 in the median, 1.4 at most)."""
    max_recolored: float = Field(0.04, ge=0, le=1)
    """Share of the cells that may have another colour. With 0.05 more emoji merge that differ in a shirt."""


def alike(found: Signatures, pairs_P2: Rows, config: DuplicateConfig) -> NDArray[np.bool_]:
    """Which pairs of rows are the same picture. Symmetric; a picture is like itself."""
    alike_P = np.zeros(len(pairs_P2), np.bool_)
    for start in range(0, len(pairs_P2), CHUNK):
        places = np.arange(start, min(start + CHUNK, len(pairs_P2)))
        places = places[_same_colors(found, *pairs_P2[places].T, config=config)]
        alike_P[places] = _same_edges(found, *pairs_P2[places].T, config=config)
    return alike_P


def _same_edges(
    found: Signatures, left_P: Rows, right_P: Rows, *, config: DuplicateConfig
) -> NDArray[np.bool_]:
    one, two = (found.structure_NGGF[rows].astype(np.int32) for rows in (left_P, right_P))
    difference = ((one - two) ** 2).sum(-1)
    total = (one**2 + two**2).sum((1, 2, 3))
    textured = np.minimum(_textured(one), _textured(two)) >= TEXTURED_FRAME
    limit = FULL**2 * np.where(textured, config.max_local_textured, config.max_local)
    # Another skin tone changes which edges show: half weight there.
    changed = _recolored(found.tint_NGGC[left_P], found.tint_NGGC[right_P], sensitivity=2)
    weight = 2 - _widened(changed & _could_be_skin(found.tint_NGGC[left_P], found.tint_NGGC[right_P]))
    same: NDArray[np.bool_] = difference.sum((1, 2)) <= config.max_difference * total
    return same & (_worst(difference * weight) <= 2 * limit)


def _same_colors(
    found: Signatures, left_P: Rows, right_P: Rows, *, config: DuplicateConfig
) -> NDArray[np.bool_]:
    changed = _recolored(found.tint_NGGC[left_P], found.tint_NGGC[right_P], sensitivity=1)
    skin = _could_be_skin(found.tint_NGGC[left_P], found.tint_NGGC[right_P])
    strengths = (found.structure_NGGF[rows][..., 0].astype(np.int32) for rows in (left_P, right_P))
    toned = changed & skin
    edges = (sum(strengths) * toned).sum((1, 2))
    plain = edges < 2 * FULL * MIN_TONED_STRENGTH * toned.sum((1, 2))
    same: NDArray[np.bool_] = (changed & ~skin).mean((1, 2)) <= config.max_recolored
    same &= ~(plain & (toned.mean((1, 2)) > MAX_PLAIN_TONED))
    return same


def _textured(structure_PGGF: NDArray[np.int32]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = (structure_PGGF[..., 0] > TEXTURED_CELL).mean((1, 2))
    return share


def _worst(difference_PGG: NDArray[np.int32]) -> NDArray[np.int32]:
    """Largest sum over 3x3 neighboring cells."""
    rows = difference_PGG[:, :-2] + difference_PGG[:, 1:-1] + difference_PGG[:, 2:]
    worst: NDArray[np.int32] = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]).max((1, 2))
    return worst


def _recolored(one_PGGC: Pixels, two_PGGC: Pixels, *, sensitivity: int) -> NDArray[np.bool_]:
    """Cells whose mean colours differ by more than the limit, divided by ``sensitivity``."""
    change = one_PGGC.astype(np.int32) - two_PGGC
    # Threefold, so that the mean over the channels stays an integer.
    luma, chroma = np.abs(change.sum(-1)), np.abs(3 * change - change.sum(-1, keepdims=True)).max(-1)
    limit = 3 * LUMA_CHANGE * CHROMA_CHANGE
    recolored: NDArray[np.bool_] = sensitivity * (CHROMA_CHANGE * luma + LUMA_CHANGE * chroma) > limit
    return recolored


def _could_be_skin(*tints_PGGC: Pixels) -> NDArray[np.bool_]:
    """Cells that are warm in all of them, from pale to nearly black: skin, hair, and the yellow of emoji.

    An orange heart has red - green = 135, a red one 203, white 0; nine in ten cells of skin 14 to 100.
    """
    red, green, blue = np.moveaxis(np.stack(tints_PGGC).astype(np.int32), -1, 0)
    warm = (red - green >= 10) & (red - green <= 105) & (red + green - 2 * blue >= -10)
    skin: NDArray[np.bool_] = warm.all(0)
    return skin


def _widened(cells_PGG: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells with a neighbor, across a side or a corner."""
    wide = np.pad(cells_PGG, ((0, 0), (1, 1), (1, 1)))
    wide = wide[:, :-2] | wide[:, 1:-1] | wide[:, 2:]
    return wide[:, :, :-2] | wide[:, :, 1:-1] | wide[:, :, 2:]
