"""Runs of codes, vectors and single numbers of the revoked assets, looked for among any numbers.

The surprising rule: a run is known by the differences of its numbers, so that an offset of a vocabulary
changes nothing: codes are 0, 1, … in one artifact and 57344, 57345, … in another. Runs are looked for across
the ends of rows.

Shapes: N numbers, W = N - width + 1 runs, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.verify.evidence import Item

Hashes = NDArray[np.uint64]
CODES, WORDS = 16, 8
"""Numbers in a run of image codes, and of text ids."""
LEAST_DISTINCT = {CODES: 6, WORDS: 5}
"""Different numbers in a run, or it is a plain ground, of which there are many."""
CLOSE = 1e-3
"""Vectors whose cosine differs from 1 by less are the same one, rounded."""
ODD = np.uint64(0xD1B54A32D192ED03)
BLOCK = 1 << 15
MIN_BITS, MAX_BITS = 16, 26
SHORTEST_VECTOR = 16


def hashes(values_N: NDArray[Any], width: int) -> Hashes:
    """[W]: of each run of ``width`` numbers, by their differences."""
    if len(values_N) < width:
        return np.zeros(0, np.uint64)
    whole = values_N.astype(np.int64, copy=False).view(np.uint64)
    steps = whole[1:] - whole[:-1]
    steps = steps * (steps ^ ODD)  # so that runs that differ by small numbers hash apart
    length = width - 1
    total = np.zeros(len(steps) - length + 1, np.uint64)
    at, have, part = 0, 1, steps
    while True:
        if length & have:
            term = part[at : at + len(steps) - length + 1]
            total = total + term * _power(ODD, at)
            at += have
        if have << 1 > length:
            break
        part = part[: len(part) - have] + part[have:] * _power(ODD, have)
        have <<= 1
    return total


def _power(base: np.uint64, exponent: int) -> np.uint64:
    return np.uint64(pow(int(base), exponent, 1 << 64))


def telling(values_N: NDArray[Any], width: int) -> Hashes:
    """Distinct hashes of the runs that are varied enough to tell a picture or a text."""
    found = hashes(values_N, width)
    if not len(found):
        return found
    runs = np.sort(np.lib.stride_tricks.sliding_window_view(values_N, width), axis=1)
    distinct = (np.diff(runs, axis=1) != 0).sum(axis=1) + 1
    return np.unique(found[distinct >= LEAST_DISTINCT[width]])


@dataclass(frozen=True, slots=True)
class Found:
    """Something at a place among numbers."""

    place: int
    item: int
    sub: int


class Runs:
    """Of one width."""

    def __init__(self, items: Sequence[Item], width: int) -> None:
        self.width = width
        mine = [
            (number, np.frombuffer(item.value, np.uint64))
            for number, item in enumerate(items)
            if item.kind == "codes" and item.note == str(width)
        ]
        known = np.concatenate([found for _, found in mine] or [np.zeros(0, np.uint64)])
        owner = np.repeat(
            np.array([number for number, _ in mine], np.int64), [len(found) for _, found in mine]
        )
        sub = np.concatenate([np.arange(len(found)) for _, found in mine] or [np.zeros(0, np.int64)])
        order = np.argsort(known, kind="stable")
        self._known, self._owner, self._sub = known[order], owner[order], sub[order]
        bits = min(MAX_BITS, max(MIN_BITS, int(np.ceil(np.log2(max(1, len(known)) * 32)))))
        self._shift = np.uint64(64 - bits)
        self._bits = np.zeros(1 << bits, np.bool_)
        self._bits[(known >> self._shift).astype(np.intp)] = True

    def found(self, values_N: NDArray[Any]) -> list[Found]:
        if not len(self._known):
            return []
        hits: list[Found] = []
        for start in range(0, len(values_N) - self.width + 1, BLOCK):
            hashed = hashes(values_N[start : start + BLOCK + self.width - 1], self.width)
            (likely,) = np.nonzero(self._bits[(hashed >> self._shift).astype(np.intp)])
            if len(likely):
                first = np.searchsorted(self._known, hashed[likely], "left")
                last = np.searchsorted(self._known, hashed[likely], "right")
                for place, begin, end in zip(likely.tolist(), first.tolist(), last.tolist(), strict=True):
                    hits += [
                        Found(start + place, int(self._owner[at]), int(self._sub[at]))
                        for at in range(begin, end)
                    ]
        return hits


class Vectors:
    """All that are known, by their width."""

    def __init__(self, items: Sequence[Item]) -> None:
        known: dict[int, list[tuple[int, NDArray[np.float32]]]] = {}
        for number, item in enumerate(items):
            if item.kind == "vector":
                vector = np.frombuffer(item.value, np.float32)
                length = float(np.linalg.norm(vector))
                if length > 0:
                    known.setdefault(len(vector), []).append((number, vector / length))
        self._known = {
            width: (np.array([n for n, _ in found]), np.stack([vector for _, vector in found]))
            for width, found in known.items()
        }

    @property
    def widths(self) -> set[int]:
        return set(self._known)

    def found(self, vectors_ND: NDArray[Any]) -> list[Found]:
        """Those whose cosine to a known one is within :data:`CLOSE` of 1; ``sub`` is -1."""
        if vectors_ND.shape[1] not in self._known:
            return []
        numbers, known_KD = self._known[vectors_ND.shape[1]]
        hits: list[Found] = []
        for start in range(0, len(vectors_ND), 4096):
            some = np.nan_to_num(vectors_ND[start : start + 4096].astype(np.float32))
            with np.errstate(over="ignore", invalid="ignore"):
                lengths = np.linalg.norm(some, axis=1, keepdims=True)
                close = (some @ known_KD.T) > (1 - CLOSE) * np.maximum(lengths, 1e-12)
            rows, which = np.nonzero(close)
            hits += [
                Found(start + row, int(numbers[at]), APPROXIMATE)
                for row, at in zip(rows.tolist(), which.tolist(), strict=True)
            ]
        return hits


APPROXIMATE = -1
"""What is looked for of a vector beside its bytes, which are numbered from 0."""


class Singles:
    """Numbers of 64 bits that stand for one asset, and ids of the index."""

    def __init__(self, items: Sequence[Item], kind: str) -> None:
        mine = [
            (number, int.from_bytes(item.value, "little"))
            for number, item in enumerate(items)
            if item.kind == kind
        ]
        mine.sort(key=lambda one: one[1])
        self._known = np.array([value for _, value in mine], np.uint64)
        self._owner = [number for number, _ in mine]

    def found(self, values_N: NDArray[Any]) -> list[Found]:
        """``sub`` is 0."""
        if not len(self._known) or values_N.dtype.kind not in "iu":
            return []
        whole = values_N.astype(np.int64 if values_N.dtype.kind == "i" else np.uint64).view(np.uint64)
        hits = []
        (places,) = np.nonzero(np.isin(whole, self._known))
        for place in places.tolist():
            value = whole[place]
            first, last = (int(np.searchsorted(self._known, value, side)) for side in ("left", "right"))
            hits += [Found(place, owner, SINGLE) for owner in self._owner[first:last]]
        return hits


SINGLE = -2
