"""Which ids may answer: as a bitmap, 125 kB of a million, and as the name by which one is remembered."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.serving.admission import Admitted, Mask
from retrieval.serving.catalogue import Catalogue, Where

KEPT = 64
"""Subsets that the door remembers: 72 MB of a million members."""
NAME_BYTES = 16
"""Of a set of ids: no two of any that will ever be asked for share one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Among:
    """Ids, as a replica is told them."""

    name: bytes
    """A hash of them."""
    bits: bytes | None
    """Bit i, the first of a byte being its lowest, is id i. None where they were sent before."""

    @property
    def named(self) -> Among:
        """Without its bits, for whoever may remember them."""
        return replace(self, bits=None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subset:
    """Members that may answer."""

    mask_N: Mask
    among: Among
    count: int


def of(catalogue: Catalogue, mask_N: Mask) -> Subset:
    ids = catalogue.ids_N[mask_N]
    flags = np.zeros(int(ids[-1]) + 1 if len(ids) else 0, np.bool_)
    flags[ids] = True
    bits = np.packbits(flags, bitorder="little").tobytes()
    name = hashlib.blake2b(bits, digest_size=NAME_BYTES).digest()
    return Subset(mask_N=mask_N, among=Among(name=name, bits=bits), count=len(ids))


def ids_of(bits: bytes) -> NDArray[np.int64]:
    """Those of a bitmap, sorted.

    >>> ids_of(bytes([0b101, 0b1])).tolist()
    [0, 2, 8]
    """
    return np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little"))


def remembered(catalogue: Catalogue) -> Callable[[Admitted, Where], Subset]:
    """Those that may be found and that the filters let pass; the latest are remembered."""

    @functools.lru_cache(maxsize=KEPT)
    def found(admitted: Admitted, where: Where) -> Subset:
        return of(catalogue, catalogue.matching(where, admitted))

    return found
