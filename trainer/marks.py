"""Which pictures are the same one again, as the pipeline's dedup judges it.

N pictures, M known ones, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.colors import Pixels
from pipeline.duplicates import DuplicateConfig, alike
from pipeline.likeness import perceptual, signatures


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What tells pictures apart, as the pipeline's dedup has it."""

    signatures: signatures.Signatures
    hashes_N: perceptual.Hashes

    @classmethod
    def of(cls, each: Sequence[Pixels]) -> Marks:
        hashes_N, _ = perceptual.hashes(each)
        return cls(signatures=signatures.measured(each), hashes_N=hashes_N)

    def __len__(self) -> int:
        return len(self.hashes_N)

    def __add__(self, other: Marks) -> Marks:
        mine, theirs = self.signatures, other.signatures
        both = signatures.Signatures(
            structure_NGGF=np.concatenate([mine.structure_NGGF, theirs.structure_NGGF]),
            tint_NGGC=np.concatenate([mine.tint_NGGC, theirs.tint_NGGC]),
        )
        return Marks(signatures=both, hashes_N=np.concatenate([self.hashes_N, other.hashes_N]))


def near_duplicates(drawn: Sequence[Pixels], known: Marks) -> NDArray[np.bool_]:
    """[N]: whether a picture is one of the known ones again, as the pipeline's dedup judges it: perceptual
    hashes within 8 bits, then edges and colors.
    """
    config, mine = DuplicateConfig(), Marks.of(drawn)
    apart_NM = np.bitwise_count(mine.hashes_N[:, None] ^ known.hashes_N[None])
    rows, columns = np.nonzero(apart_NM <= config.max_hamming)
    same_P = alike((mine + known).signatures, np.stack([rows, columns + len(drawn)], 1), config)
    return np.isin(np.arange(len(drawn)), rows[same_P])
