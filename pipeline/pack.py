"""Lay documents out as tokens and fit them whole into rows (arXiv 2309.02591, section 2.2).

The surprising rule: a document is charged three tokens more for each span that masking may cut from it later,
so that a row overflows at no epoch. Everything here is pure: what joins tokens and neighbors is a step of the
plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import Field

from infra.settings import Section
from pipeline.packed import Laid, Modality, Role, Row, Span, Via
from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Ids

TOKENS_PER_SPAN = 3
"""A cut adds the sentinel in place, the sentinel of the infill, and ``<eoss>``."""
Cut = Callable[[NDArray[Any], int], NDArray[Any]]
EOS = np.array([vocabulary.EOS], np.uint16)
BREAK = np.array([vocabulary.BREAK], np.uint16)


class PackConfig(Section):
    """``[pipeline.examples.rows]``."""

    context: int = Field(default=4224, ge=8)
    """Tokens a model sees of a row; a row holds one more, for the shift between input and target.

    Four pairs of 1,024 image tokens take about 4,152 (cm3leon.md, section 3.4).
    """
    max_spans: int = Field(default=4, ge=0, le=vocabulary.NUM_SENTINELS)
    """Spans that masking may cut from a document; each is charged 3 tokens."""
    neighbor_text_tokens: int = Field(default=128, ge=1)
    """Longer texts of neighbors are cut at a word."""
    target_text_tokens: int = Field(default=256, ge=1)
    """Longer texts of targets are cut at a word."""
    mode: Literal["whole", "cut"] = "whole"
    """``whole``: documents whole, rows as full as they get. ``cut``: one after another, cut where a row is
    full, as the paper's were (cm3leon.md, section 3.4); a row then begins within a document that it does not
    see."""
    block_rows: int = Field(default=256, ge=1)
    """Rows of a block, the unit of shuffling and of checksums; fewer for a corpus of a few thousand rows."""
    shard_bytes: int = Field(default=4_000_000, ge=4096)
    """Most bytes of a shard, so that a revocation rewrites little."""

    @property
    def capacity(self) -> int:
        """Tokens of a row."""
        return self.context + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A text and an image of one asset."""

    uid: str
    revision: int
    text_ids: NDArray[np.integer]
    """BPE entries, without the vocabulary's offset."""
    code_ids: NDArray[np.integer]
    """Codebook indices, without the vocabulary's offset."""
    via: Via
    score: float = 0.0
    """How near the neighbor is; the lowest is dropped first if the document is too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    example_id: str
    pairs: tuple[Pair, ...]
    """Neighbors first, the target last."""

    @property
    def num_tokens(self) -> int:
        """Two ``<eos>``, and a ``<break>`` in each gap between texts and images."""
        return sum(len(pair.text_ids) + len(pair.code_ids) + 2 for pair in self.pairs) + 1


def hashed(uid: str) -> int:
    """Of a target: the group of its documents is the remainder, so it never moves."""
    return xxhash.xxh3_64_intdigest(uid.encode())


def lay_out(document: Document) -> Laid:
    """``<eos> T1 <break> I1 <break> … Tq <break> Iq <eos>``, with a span for each text and image."""
    parts: list[Ids] = []
    spans: list[Span] = []
    at = 1
    for number, pair in enumerate(document.pairs):
        role = Role.TARGET if number == len(document.pairs) - 1 else Role.NEIGHBOR
        of = partial(Span, role=role, uid=pair.uid, revision=pair.revision, via=pair.via)
        for modality, ids in (
            (Modality.TEXT, vocabulary.from_text(pair.text_ids)),
            (Modality.IMAGE, vocabulary.from_codes(pair.code_ids)),
        ):
            parts += (ids, BREAK)
            spans.append(of(start=at, length=len(ids), modality=modality))
            at += len(ids) + 1
    return Laid(
        example_id=document.example_id, ids=np.concatenate((EOS, *parts[:-1], EOS)), spans=tuple(spans)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A neighbor that did not fit."""

    example_id: str
    uid: str


def trim(document: Document, config: PackConfig, cut: Cut) -> tuple[Document, int, tuple[Dropped, ...]]:
    """The document as it is packed, how many of its texts were cut, and the neighbors that it lost."""
    *neighbors, target = document.pairs
    short = [_cut_text(pair, config.neighbor_text_tokens, cut) for pair in neighbors]
    short.append(_cut_text(target, config.target_text_tokens, cut))
    num_cut = sum(new is not old for new, old in zip(short, document.pairs, strict=True))
    if num_cut:
        document = replace(document, pairs=tuple(short))
    room = config.capacity - TOKENS_PER_SPAN * config.max_spans
    if config.mode == "cut" or document.num_tokens <= room:
        return document, num_cut, ()
    pairs, dropped = _drop(short, room, document.example_id)
    return replace(document, pairs=tuple(pairs)), num_cut, dropped


def _cut_text(pair: Pair, limit: int, cut: Cut) -> Pair:
    if len(pair.text_ids) <= limit:
        return pair
    return replace(pair, text_ids=cut(pair.text_ids, limit))


def _drop(pairs: list[Pair], room: int, example_id: str) -> tuple[list[Pair], tuple[Dropped, ...]]:
    """Without the fewest neighbors of lowest score that make the document fit."""
    weakest = sorted(range(len(pairs) - 1), key=lambda number: pairs[number].score)
    for num_dropped in range(len(pairs)):
        out = set(weakest[:num_dropped])
        kept = [pair for number, pair in enumerate(pairs) if number not in out]
        if Document(example_id=example_id, pairs=tuple(kept)).num_tokens <= room:
            return kept, tuple(
                Dropped(example_id=example_id, uid=pairs[number].uid) for number in sorted(out)
            )
    alone = Document(example_id=example_id, pairs=(pairs[-1],)).num_tokens
    raise ValueError(
        f"document {example_id} takes {alone} tokens without neighbors and a row has room for {room}; "
        "raise pipeline.examples.rows.context, or lower its target_text_tokens or max_spans"
    )


def fullest(charges: Sequence[int], capacity: int) -> list[list[int]]:
    """Place documents in rows, each as full as what is left allows, around the longest that is left.

    Minimum bin slack with a fixed item (Gupta and Ho 1999; MBS' of Fleszar and Hindi, Computers & OR 2002):
    which sums the others reach is a bit set, and the row takes the largest. A row is made of lengths, so it
    is made again as often as there are documents of these: a million, of a thousand lengths, take a thousand
    searches.
    Best fit decreasing fills a mixture of 0 to 3 neighbors to 98.1 % where this fills 99.8 (decision 0015).

    >>> fullest([5, 3, 4, 4], capacity=8)
    [[0, 1], [2, 3]]
    """
    if charges and max(charges) > capacity:
        raise ValueError(f"a document of {max(charges)} tokens cannot fit a row of {capacity}")
    numbers: dict[int, list[int]] = {}
    for number in range(len(charges) - 1, -1, -1):
        numbers.setdefault(charges[number], []).append(number)  # the first is taken first
    left = {length: len(numbers[length]) for length in sorted(numbers, reverse=True)}
    rows: list[list[int]] = []
    while left:
        row = _fullest_row(left, capacity)
        times = min(left[length] // count for length, count in row.items())
        lengths = [length for length, count in row.items() for _ in range(count)]
        rows += [[numbers[length].pop() for length in lengths] for _ in range(times)]
        for length, count in row.items():
            left[length] -= times * count
            if not left[length]:
                del left[length]
    return rows


def _fullest_row(left: Mapping[int, int], capacity: int) -> dict[int, int]:
    """Lengths and how often each, of those ``left``, which go from the longest to the shortest."""
    longest = next(iter(left))
    room = capacity - longest
    sums, before = 1, []  # bit n: the lengths seen so far can fill n tokens of the room
    for length, count in left.items():
        most = min(count - (length == longest), room // length)
        if most < 1:
            continue
        reached, step = sums, 1
        while most:  # 1, 2, 4, … more of them, so that any number up to the most is a sum of steps
            step = min(step, most)
            reached |= reached << length * step & (2 << room) - 1
            most -= step
            step *= 2
        if reached != sums:
            before.append((length, sums))
            sums = reached
        if sums >> room:
            break  # full to the last token
    row = {longest: 1}
    rest = sums.bit_length() - 1
    for length, reachable in reversed(before):
        while not reachable >> rest & 1:
            row[length] = row.get(length, 0) + 1
            rest -= length
    return row


def fewest_rows(charges: Sequence[int], capacity: int) -> int:
    """No packing whatever needs fewer (bound L2 of Martello and Toth, Knapsack Problems, 1990, section 8.3).

    Documents of more than half a row need a row each; small ones help only where those leave room.
    """
    number = np.bincount(charges, minlength=capacity + 1)
    number_upto = np.concatenate(([0], np.cumsum(number)))
    tokens_upto = np.concatenate(([0], np.cumsum(number * np.arange(capacity + 1))))
    half = capacity // 2
    ignored = np.arange(half + 1)  # documents shorter than this are left out
    large = number_upto[-1] - number_upto[half + 1]
    middle = number_upto[capacity - ignored + 1] - number_upto[half + 1]
    room = middle * capacity - (tokens_upto[capacity - ignored + 1] - tokens_upto[half + 1])
    overhang = tokens_upto[half + 1] - tokens_upto[ignored] - room
    return int((large + np.maximum(0, -(-overhang // capacity))).max())


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """How full rows are; adds up over groups."""

    documents: int = 0
    rows: int = 0
    fewest_rows: int = 0
    """Below this no packing of the same documents can get."""
    tokens: int = 0
    charge: int = 0
    """Tokens and the room that masking may need."""
    space: int = 0
    """Tokens that the rows could hold."""

    def __add__(self, other: Fill) -> Fill:
        names = [field.name for field in fields(self)]
        return Fill(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def shares(self) -> dict[str, float]:
        """Of the space: what tokens take, what is charged, and the most that any packing could charge."""
        space = max(self.space, 1)
        ceiling = self.charge * self.rows / (space * max(self.fewest_rows, 1))
        return {"tokens": self.tokens / space, "charged": self.charge / space, "ceiling": ceiling}


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of a document: all of them, unless the stream is cut."""

    document: int
    start: int
    stop: int


def whole_rows(lengths: Sequence[int], config: PackConfig) -> list[tuple[Piece, ...]]:
    """Every document in one piece; rows in the order of their first documents."""
    room = TOKENS_PER_SPAN * config.max_spans
    rows = fullest([length + room for length in lengths], config.capacity)
    return [
        tuple(Piece(number, 0, lengths[number]) for number in row)
        for row in sorted(sorted(row) for row in rows)
    ]


def cut_rows(lengths: Sequence[int], config: PackConfig) -> list[tuple[Piece, ...]]:
    """Documents one after another, cut where a row is full; masking has its room in every piece.

    >>> config = PackConfig(context=9, max_spans=1, mode="cut")
    >>> [[(p.document, p.start, p.stop) for p in row] for row in cut_rows([5, 4], config)]
    [[(0, 0, 5)], [(1, 0, 4)]]
    >>> [[(p.document, p.start, p.stop) for p in row] for row in cut_rows([9, 2], config)]
    [[(0, 0, 7)], [(0, 7, 9), (1, 0, 2)]]
    """
    room = TOKENS_PER_SPAN * config.max_spans
    rows: list[list[Piece]] = []
    free = 0
    for number, length in enumerate(lengths):
        start = 0
        while start < length:
            if free <= room:
                rows.append([])
                free = config.capacity
            stop = min(length, start + free - room)
            rows[-1].append(Piece(number, start, stop))
            free -= stop - start + room
            start = stop
    return [tuple(row) for row in rows]


def part(laid: Laid, piece: Piece) -> Laid:
    """The document, or what of it lies in a piece; a span that was cut is shorter, one outside is gone."""
    if (piece.start, piece.stop) == (0, len(laid.ids)):
        return laid
    spans = [
        replace(span, start=first - piece.start, length=last - first)
        for span in laid.spans
        for first, last in [(max(span.start, piece.start), min(span.start + span.length, piece.stop))]
        if first < last
    ]
    return replace(
        laid,
        ids=laid.ids[piece.start : piece.stop],
        spans=tuple(spans),
        continues=piece.stop < len(laid.ids),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """The rows of one pack group. Documents become tokens only when a row is asked for."""

    documents: tuple[Document, ...]
    """As they are packed: long texts cut, neighbors that do not fit dropped."""
    pieces: tuple[tuple[Piece, ...], ...]
    """Of each row, what it holds of the documents."""
    num_cut_texts: int
    dropped: tuple[Dropped, ...]
    fill: Fill

    def rows(self) -> Iterator[Row]:
        for pieces in self.pieces:
            yield tuple(part(lay_out(self.documents[piece.document]), piece) for piece in pieces)


def pack(documents: Sequence[Document], config: PackConfig, *, cut: Cut) -> PackedRows:
    """One pack group: every document in exactly one row, or in rows that follow one another.

    ``cut`` shortens a text to at most so many entries, at a word.
    """
    trimmed = [trim(document, config, cut) for document in documents]
    lengths = [document.num_tokens for document, _, _ in trimmed]
    pieces = (whole_rows if config.mode == "whole" else cut_rows)(lengths, config)
    return PackedRows(
        documents=tuple(document for document, _, _ in trimmed),
        pieces=tuple(pieces),
        num_cut_texts=sum(num_cut for _, num_cut, _ in trimmed),
        dropped=tuple(one for _, _, dropped in trimmed for one in dropped),
        fill=filling(lengths, pieces, config),
    )


def filling(lengths: Sequence[int], pieces: Sequence[Sequence[Piece]], config: PackConfig) -> Fill:
    """How full rows of these pieces are, of documents of these lengths."""
    charge = sum(lengths) + TOKENS_PER_SPAN * config.max_spans * sum(len(row) for row in pieces)
    return Fill(
        documents=len(lengths),
        rows=len(pieces),
        fewest_rows=_least(lengths, config, charge),
        tokens=sum(lengths),
        charge=charge,
        space=len(pieces) * config.capacity,
    )


def _least(lengths: Sequence[int], config: PackConfig, charge: int) -> int:
    """No packing whatever in this mode needs fewer rows."""
    if config.mode == "cut":
        return -(-charge // config.capacity)
    return fewest_rows([length + TOKENS_PER_SPAN * config.max_spans for length in lengths], config.capacity)
