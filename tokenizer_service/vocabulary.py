"""The id layout: specials, text, image. Everything else asks this module; ids are never written as numbers.

One flat vocabulary of 65,536 ids, so that a token is two bytes: 1,024 specials, 56,320 text entries (the
paper's BPE), 8,192 image codes (arXiv 2309.02591, section 2.1). Adding an offset is all there is to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD = 0
EOS = 1
"""Opens and closes a document."""
BREAK = 2
"""Stands between a text and an image."""
EOSS = 3
"""Closes an infilled span."""
FIRST_SENTINEL = 4
NUM_SENTINELS = 512

TEXT_START = 1024
IMAGE_START = 57_344
SIZE = 65_536
MAX_TEXT = IMAGE_START - TEXT_START
MAX_CODES = SIZE - IMAGE_START

Ids = NDArray[np.uint16]


def sentinel(i: int) -> int:
    """Id of ``<sentinel:i>``: stands where span i was cut, and again where its infill begins."""
    if not 0 <= i < NUM_SENTINELS:
        raise ValueError(f"sentinel {i} is not in [0, {NUM_SENTINELS}); draw fewer spans a document")
    return FIRST_SENTINEL + i


def from_text(entries: NDArray[np.integer]) -> Ids:
    """BPE entries in [0, 56320) to ids."""
    return _shifted(entries, TEXT_START, MAX_TEXT, "BPE entry")


def from_codes(codes: NDArray[np.integer]) -> Ids:
    """Codebook indices in [0, 8192) to ids."""
    return _shifted(codes, IMAGE_START, MAX_CODES, "image code")


def _shifted(raw: NDArray[np.integer], start: int, limit: int, what: str) -> Ids:
    if raw.size and not (int(raw.min()) >= 0 and int(raw.max()) < limit):
        raise ValueError(f"{what}s must be in [0, {limit}), got [{raw.min()}, {raw.max()}]")
    return (raw.astype(np.int64) + start).astype(np.uint16)


def to_text(ids: NDArray[np.integer]) -> NDArray[np.int64]:
    """Ids back to BPE entries; every id must be a text id."""
    return _unshifted(ids, TEXT_START, IMAGE_START, "text")


def to_codes(ids: NDArray[np.integer]) -> NDArray[np.int64]:
    """Ids back to codebook indices; every id must be an image id."""
    return _unshifted(ids, IMAGE_START, SIZE, "image")


def _unshifted(ids: NDArray[np.integer], start: int, stop: int, what: str) -> NDArray[np.int64]:
    if ids.size and not (start <= int(ids.min()) and int(ids.max()) < stop):
        raise ValueError(f"{what} ids must be in [{start}, {stop}), got [{ids.min()}, {ids.max()}]")
    return ids.astype(np.int64) - start


def is_text(ids: NDArray[np.integer]) -> NDArray[np.bool_]:
    return (ids >= TEXT_START) & (ids < IMAGE_START)


def is_image(ids: NDArray[np.integer]) -> NDArray[np.bool_]:
    return ids >= IMAGE_START


def is_sentinel(ids: NDArray[np.integer]) -> NDArray[np.bool_]:
    return (ids >= FIRST_SENTINEL) & (ids < FIRST_SENTINEL + NUM_SENTINELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The part of the vocabulary that a fitted pair of tokenizers uses.

    A small model keeps rows only for these ids: :meth:`row` closes the gap between text and image. A model
    with ``num_text=56320, num_codes=8192`` has a row for every id.
    """

    num_text: int
    num_codes: int

    def __post_init__(self) -> None:
        if not 0 < self.num_text <= MAX_TEXT:
            raise ValueError(f"num_text must be in [1, {MAX_TEXT}], got {self.num_text}")
        if not 0 < self.num_codes <= MAX_CODES:
            raise ValueError(f"num_codes must be in [1, {MAX_CODES}], got {self.num_codes}")

    @property
    def text_stop(self) -> int:
        """First row of the image part; rows below are specials and text."""
        return TEXT_START + self.num_text

    @property
    def rows(self) -> int:
        return self.text_stop + self.num_codes
