"""Many byte strings, looked for in a buffer at once.

The surprising rule: each string is found by 8 of its bytes, the rarest; every place of the buffer is hashed
into a table of bits, and only where that says so are all bytes compared. 10,000 strings take as long as one:
about 150 MB/s a core, where `bytes.find` would read the buffer 10,000 times.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.verify.evidence import Item

Words = NDArray[np.uint64]
WIDE, NARROW = 8, 6
BARE = frozenset({"bare", "digits"})
"""Notes of names without their provider."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
MIN_BITS, MAX_BITS = 18, 22
"""Of a table: with 256 bits a string, 1 place in 256 is looked at twice; 4 MB stay in a core's cache."""
CHUNK = 1 << 18
"""Places that are hashed at a time: what is computed of them stays in a core's cache."""
COMMON = dict.fromkeys(b" etaoinsrhldcumfpgwybETAOIN\0\xff", 0) | dict.fromkeys(b"vkxjqz,._:-/\"'\\", 1)


@dataclass(frozen=True, slots=True)
class Needle:
    data: bytes
    item: int
    """Place among the evidence."""
    sub: int
    """Place among what is looked for of the item."""
    edges: str
    """What must stand around it: nothing special (empty), no letter or digit (``text``), or no more of a
    name (``id``, ``bare``, ``digits``)."""


def of(items: Sequence[Item]) -> list[Needle]:
    """Each form in which the items may be written down, 6 bytes or longer."""
    found = []
    for number, item in enumerate(items):
        forms = FORMS.get(item.kind)
        if forms is not None:
            unique = {data: edges for data, edges in forms(item) if len(data) >= NARROW}
            found += [Needle(data, number, sub, edges) for sub, (data, edges) in enumerate(unique.items())]
    return found


def distinct(found: Sequence[Needle]) -> list[Needle]:
    """The first of those that look for the same."""
    return list({(one.data, one.edges): one for one in reversed(found)}.values())[::-1]


def _utf16(text: str) -> bytes:
    """Found in either byte order: without its last byte, which is of the next letter."""
    return text.encode("utf-16-le", "surrogatepass")[:-1]


def _names(item: Item) -> Iterator[tuple[bytes, str]]:
    text = item.value.decode()
    edges = item.note if item.note in BARE else "id"
    yield item.value, edges
    yield _utf16(text), ""


def _digests(item: Item) -> Iterator[tuple[bytes, str]]:
    yield item.value, ""
    yield item.value.hex().encode(), "text"
    yield item.value.hex().upper().encode(), "text"
    for encoded in (base64.b64encode(item.value), base64.urlsafe_b64encode(item.value)):
        yield encoded.rstrip(b"="), ""


def _texts(item: Item) -> Iterator[tuple[bytes, str]]:
    text = item.value.decode()
    for form in dict.fromkeys((text, unicodedata.normalize("NFD", text), text.lower(), text.upper())):
        yield form.encode(), "text"
    yield _utf16(text), ""


def _blobs(item: Item) -> Iterator[tuple[bytes, str]]:
    yield item.value, ""


def _integers(item: Item) -> Iterator[tuple[bytes, str]]:
    value = int.from_bytes(item.value, "little")
    yield str(value).encode(), "text"
    yield str(value - (1 << 64) if value >> 63 else value).encode(), "text"
    for text in (f"{value:016x}", f"{value:016X}"):
        yield text.encode(), "text"
    if len(set(item.value)) >= NARROW:
        yield item.value, ""


LONG_ENOUGH = 24
"""Bytes of a vector: 12 half or 6 whole numbers in a row are nobody else's."""


def _vectors(item: Item) -> Iterator[tuple[bytes, str]]:
    whole = np.frombuffer(item.value, np.float32)
    half = whole.astype(np.float16)
    kinds: tuple[NDArray[Any], ...] = (whole,)
    if np.allclose(half.astype(np.float32), whole, rtol=1e-3, atol=1e-4):
        kinds = (whole, half)
    for kind in kinds:
        raw = kind.tobytes()
        step = max(LONG_ENOUGH, len(raw) // 3 // LONG_ENOUGH * LONG_ENOUGH)
        for at in range(0, len(raw) - LONG_ENOUGH + 1, step):
            piece = raw[at : at + LONG_ENOUGH]
            if len(set(piece)) >= LONG_ENOUGH // 2:
                yield piece, ""


FORMS: dict[str, Any] = {
    "id": _names,
    "digest": _digests,
    "text": _texts,
    "blob": _blobs,
    "integer": _integers,
    "vector": _vectors,
}


class Matcher:
    def __init__(self, needles: Sequence[Needle]) -> None:
        self.needles = needles
        self._tables = []
        for width in (WIDE, NARROW):
            mine = [n for n, one in enumerate(needles) if (len(one.data) >= WIDE) == (width == WIDE)]
            if mine:
                self._tables.append(_Table(width, [(n, needles[n].data) for n in mine]))

    def found(self, data: Any) -> Iterator[tuple[int, int]]:
        """(offset, number of the needle) of every occurrence; edges are not looked at."""
        raw = np.frombuffer(data, np.uint8)
        for table in self._tables:
            yield from table.found(raw)

    def forget(self, number: int) -> None:
        """A needle that is to be found no more."""
        for table in self._tables:
            table.forgotten.add(number)


class _Table:
    """Of needles that are found by so many of their bytes."""

    def __init__(self, width: int, needles: Sequence[tuple[int, bytes]]) -> None:
        self._width = width
        self._mask = np.uint64((1 << 8 * width) - 1)
        at: dict[int, list[tuple[int, int, NDArray[np.uint8]]]] = {}
        for number, data in needles:
            anchor = rarest(data, width)
            key = int.from_bytes(data[anchor : anchor + width], "little")
            at.setdefault(key, []).append((number, anchor, np.frombuffer(data, np.uint8)))
        self.forgotten: set[int] = set()
        self._fill(at)

    def _fill(self, at: dict[int, list[tuple[int, int, NDArray[np.uint8]]]]) -> None:
        self._keys = np.array(sorted(at), np.uint64)
        self._at = [at[key] for key in sorted(at)]
        bits = min(MAX_BITS, max(MIN_BITS, (len(at) << 8).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._bits = np.zeros(1 << bits, np.bool_)
        self._bits[self._hashed(self._keys)] = True

    def _forget(self) -> None:
        left = [[one for one in many if one[0] not in self.forgotten] for many in self._at]
        self._fill({key: many for key, many in zip(self._keys.tolist(), left, strict=True) if many})
        self.forgotten = set()

    def _hashed(self, words: Words) -> NDArray[np.intp]:
        return ((words * MULTIPLIER) >> self._shift).astype(np.intp)

    def found(self, raw: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
        if len(raw) < self._width:
            return
        last = len(raw) - WIDE + 1  # places at which 8 bytes begin
        for start in range(0, max(last, 0), CHUNK):
            if self.forgotten:
                self._forget()
            stop = min(start + CHUNK, last)
            for shift in range(WIDE):
                num = (stop - start - shift + WIDE - 1) // WIDE
                if num > 0:
                    words = np.frombuffer(raw, "<u8", num, start + shift)
                    yield from self._judged(raw, words, start + shift)
        if self._width < WIDE:  # the last places, of which fewer than 8 bytes are left
            first = max(last, 0)
            tail = np.concatenate([raw[first:], np.zeros(WIDE, np.uint8)])
            for shift in range(len(raw) - first - self._width + 1):
                yield from self._judged(raw, np.frombuffer(tail, "<u8", 1, shift), first + shift)

    def _judged(self, raw: NDArray[np.uint8], words: Words, start: int) -> Iterator[tuple[int, int]]:
        """``words`` begin at ``start`` and every 8 bytes."""
        if self._width < WIDE:
            words = words & self._mask
        (likely,) = np.nonzero(self._bits[self._hashed(words)])
        if not len(likely) or not len(self._keys):
            return
        keys = words[likely]
        slots = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        same = self._keys[slots] == keys
        places, slots = start + WIDE * likely[same].astype(np.int64), slots[same]
        for slot in np.unique(slots).tolist():
            mine = places[slots == slot]
            for number, anchor, needle in self._at[slot]:
                begins = mine - anchor
                begins = begins[(begins >= 0) & (begins + len(needle) <= len(raw))]
                for part in range(0, len(begins), 1 << 14):
                    some = begins[part : part + (1 << 14)]
                    equal = (raw[some[:, None] + np.arange(len(needle))] == needle).all(axis=1)
                    for place in some[equal].tolist():
                        yield place, number


def rarest(data: bytes, width: int) -> int:
    """Where the piece of a string begins that others are least likely to hold."""
    scores = [COMMON.get(byte, 3) for byte in data]
    sums = [
        sum(scores[at : at + width]) + len(set(data[at : at + width])) for at in range(len(data) - width + 1)
    ]
    return max(range(len(sums)), key=lambda at: (sums[at], at))
