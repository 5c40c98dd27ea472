"""Lay documents out as tokens and fit them whole into rows (arXiv 2309.02591, section 2.2).

The surprising rule: a document is charged three tokens more for each span that masking may cut from it later,
so that a row overflows at no epoch. Everything here is pure: what joins tokens and neighbors is a step of the
plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

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


def group_of(example_id: str, num_groups: int) -> int:
    """The pack group of a document, in [0, num_groups): by hash, so it never moves."""
    return xxhash.xxh3_64_intdigest(example_id.encode()) % num_groups


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
    pairs, dropped = _drop(short, config.capacity - TOKENS_PER_SPAN * config.max_spans, document.example_id)
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


def best_fit(charges: Sequence[int], capacity: int) -> list[list[int]]:
    """Place each document in the fullest row that still has room, longest first.

    Best-fit decreasing (Johnson et al., SIAM J. Comput. 1974). Free space is a whole number of tokens, so
    rows are kept in a bucket a number and a bit set says which buckets hold any: the time is linear in the
    documents.

    >>> best_fit([5, 3, 4, 4], capacity=8)
    [[0, 1], [2, 3]]
    """
    if charges and max(charges) > capacity:
        raise ValueError(f"a document of {max(charges)} tokens cannot fit a row of {capacity}")
    rows: list[list[int]] = []
    with_free: list[list[int]] = [[] for _ in range(capacity + 1)]
    some = 0
    for number in np.argsort(-np.asarray(charges, np.int64), kind="stable").tolist():
        charge = charges[number]
        roomy = some >> charge
        if roomy:
            free = charge + (roomy & -roomy).bit_length() - 1
            row = with_free[free].pop()
            some ^= (not with_free[free]) << free
        else:
            free, row = capacity, len(rows)
            rows.append([])
        rows[row].append(number)
        with_free[free - charge].append(row)
        some |= 1 << (free - charge)
    return rows


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """The rows of one pack group. Documents become tokens only when a row is asked for."""

    documents: tuple[Document, ...]
    """As they are packed: long texts cut, neighbors that do not fit dropped."""
    numbers: tuple[tuple[int, ...], ...]
    """Of each row, the documents."""
    num_cut_texts: int
    dropped: tuple[Dropped, ...]
    fill: Fill

    def rows(self) -> Iterator[Row]:
        for numbers in self.numbers:
            yield tuple(lay_out(self.documents[number]) for number in numbers)


def pack(documents: Sequence[Document], config: PackConfig, *, cut: Cut) -> PackedRows:
    """One pack group: every document whole and in exactly one row, in the order of the input.

    ``cut`` shortens a text to at most so many entries, at a word.
    """
    trimmed = [trim(document, config, cut) for document in documents]
    lengths = [document.num_tokens for document, _, _ in trimmed]
    charges = [length + TOKENS_PER_SPAN * config.max_spans for length in lengths]
    numbers = sorted(tuple(sorted(row)) for row in best_fit(charges, config.capacity))
    return PackedRows(
        documents=tuple(document for document, _, _ in trimmed),
        numbers=tuple(numbers),
        num_cut_texts=sum(num_cut for _, num_cut, _ in trimmed),
        dropped=tuple(one for _, _, dropped in trimmed for one in dropped),
        fill=Fill(
            documents=len(documents),
            rows=len(numbers),
            fewest_rows=fewest_rows(charges, config.capacity),
            tokens=sum(lengths),
            charge=sum(charges),
            space=len(numbers) * config.capacity,
        ),
    )
