"""Choose what the CM3 objective cuts out of a document (arXiv 2201.07520, section 2; arXiv 2309.02591,
section 2).

The surprising rule: what is cut depends on the layout and a key, never on the tokens. So blanking a revoked
asset moves no other cut, and a resumed or resized run cuts what it would have cut.

Shapes: B rows of a batch, D documents of the batch, S segments (a text or an image, between ``<break>`` and
``<eos>``), N cut spans, C candidates for a span.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from infra.settings import Section
from tokenizer_service import vocabulary

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
ANSWERS = 1 << 40
"""Draws whether an answer alone is cut: far behind what draws the segments and candidates of a document."""


class MaskingSection(Section):
    """``[trainer.masking]``: how much is cut (cm3leon.md, section 5)."""

    max_spans: int = Field(default=4, ge=0, le=vocabulary.NUM_SENTINELS)
    """Most spans cut from a document; 0 trains left to right only. At most what the packer left room for.

    A run whose settings leave it out cuts no more than that.
    """
    mean_spans: float = Field(default=1.0, gt=0.0)
    """Mean of the Poisson distribution of spans a document; 1 leaves 37 % of documents as they are."""
    whole_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of documents whose spans are whole texts or images.

    With 0 a caption beside an image of 1,024 tokens is never cut whole, so neither captioning nor guidance is
    learnt.
    """
    answer_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of instruction examples of which no text or image is cut whole but the answer; with 0, as in the
    paper, any may be. Other documents have no answer, and parts are cut of anything.

    What a small model is to learn of a question is its answer, which would be cut no more often than the
    question or the picture.
    """
    sentinels: Literal["counted", "free"] = "counted"
    """free: predicting a sentinel costs nothing, since where it stands is drawn (CM3, arXiv 2201.07520,
    section 2); CM3Leon's code counts every token.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where documents and segments lie in a batch of rows; starts are positions in the row.

    Documents of a row lie end to end from position 0, sorted; segments are sorted by document and start.
    """

    num_rows: int
    document_row_D: Ints
    document_start_D: Ints
    document_length_D: Ints
    segment_document_S: Ints
    segment_start_S: Ints
    segment_length_S: Ints
    segment_text_S: NDArray[np.bool_]
    """True for a text, False for an image."""
    segment_given_S: NDArray[np.bool_]
    """True for what an instruction example says or shows beside its answer."""

    @property
    def ordinal_D(self) -> Ints:
        """Number of a document in its row."""
        return ordinals(self.document_row_D)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """What is cut, sorted by document and start; spans of a document do not intersect."""

    document_N: Ints
    start_N: Ints
    length_N: Ints


def derive(keys: Keys, values: NDArray[np.integer] | int) -> Keys:
    """An independent 64-bit key for each (key, value), broadcast.

    SplitMix64 (Steele et al., OOPSLA 2014) as a counter-based generator: integers only, so every machine and
    every version of NumPy draws the same.
    """
    with np.errstate(over="ignore"):
        bits = keys + (np.asarray(values).astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)), dtype=np.uint64)


def root(seed: int) -> Keys:
    """The key that all draws of a run come from, of shape []."""
    return derive(np.zeros((), np.uint64), seed)


def document_keys(layout: Layout, keys_B: Keys) -> Keys:
    """One key a document, from that of its row and its number therein."""
    return derive(keys_B[layout.document_row_D], layout.ordinal_D)


def ordinals(group: Ints) -> Ints:
    """Number of each item in its group, for sorted groups.

    >>> ordinals(np.array([0, 0, 2, 2, 2])).tolist()
    [0, 1, 0, 1, 2]
    """
    return np.arange(len(group)) - np.searchsorted(group, group)


def draw_spans(layout: Layout, keys_D: Keys, section: MaskingSection) -> Spans:
    """Choose what is cut; an empty segment is never cut."""
    num_D = _num_spans(keys_D, section)
    whole_D = _uniform(derive(keys_D, 1)) < section.whole_share
    answers_D = _uniform(derive(keys_D, ANSWERS)) < section.answer_share
    may_S = ~(layout.segment_given_S & answers_D[layout.segment_document_S])
    found = (
        _whole_segments(layout, keys_D, np.where(whole_D, num_D, 0), may_S),
        _uniform_spans(layout, keys_D, np.where(whole_D, 0, num_D)),
    )
    document_N, start_N, length_N = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order_N = np.lexsort((start_N, document_N))
    return Spans(document_N=document_N[order_N], start_N=start_N[order_N], length_N=length_N[order_N])


def _uniform(keys: Keys) -> NDArray[np.float64]:
    """[0, 1) with 53 bits."""
    return (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _below(keys: Keys, limit: Ints) -> Ints:
    """Integers in [0, limit), for limits below 2^31; uneven by at most limit / 2^32."""
    return ((keys >> np.uint64(32)) * limit.astype(np.uint64) >> np.uint64(32)).astype(np.int64)


def _num_spans(keys_D: Keys, section: MaskingSection) -> Ints:
    """Poisson, clamped: counts the steps of its distribution function that lie at or below a uniform draw."""
    rate = section.mean_spans
    share = [math.exp(k * math.log(rate) - rate - math.lgamma(k + 1)) for k in range(section.max_spans)]
    return np.searchsorted(np.cumsum(share), _uniform(derive(keys_D, 0)), side="right").astype(np.int64)


Found = tuple[Ints, Ints, Ints]
"""Document, start and length of spans."""


def _whole_segments(layout: Layout, keys_D: Keys, num_D: Ints, may_S: NDArray[np.bool_]) -> Found:
    """From each document the ``num_D`` segments with the smallest keys, or all it has, of those that may."""
    asked_S = (layout.segment_length_S > 0) & (num_D[layout.segment_document_S] > 0) & may_S
    segments = np.flatnonzero(asked_S)
    ordinal = ordinals(layout.segment_document_S)[segments]
    document = layout.segment_document_S[segments]
    order = np.lexsort((derive(keys_D[document], 2 + ordinal), document))
    taken = segments[order[ordinals(document[order]) < num_D[document[order]]]]
    return layout.segment_document_S[taken], layout.segment_start_S[taken], layout.segment_length_S[taken]


def _uniform_spans(layout: Layout, keys_D: Keys, num_D: Ints) -> Found:
    """From each document, of ``num_D ** 2`` candidates, the first ``num_D`` that do not intersect."""
    document_C = np.repeat(np.arange(len(num_D)), num_D**2)
    start_C, stop_C = _ends(layout, document_C, keys_D[document_C], ordinals(document_C))
    start_C, stop_C = _clip(layout, document_C, start_C, stop_C)
    kept_C = _first_disjoint(num_D, start_C=start_C, stop_C=stop_C)
    return document_C[kept_C], start_C[kept_C], (stop_C - start_C)[kept_C]


def _ends(layout: Layout, document_C: Ints, keys_C: Keys, ordinal_C: Ints) -> tuple[Ints, Ints]:
    """Two different cuts among those between the tokens inside the closing ``<eos>``, sorted."""
    num_cuts_C = layout.document_length_D[document_C] - 1
    first_C = _below(derive(keys_C, 2 + 2 * ordinal_C), num_cuts_C)
    other_C = _below(derive(keys_C, 3 + 2 * ordinal_C), np.maximum(num_cuts_C - 1, 0))
    other_C += other_C >= first_C
    origin_C = layout.document_start_D[document_C] + 1
    return origin_C + np.minimum(first_C, other_C), origin_C + np.maximum(first_C, other_C)


def _clip(layout: Layout, document_C: Ints, start_C: Ints, stop_C: Ints) -> tuple[Ints, Ints]:
    """To the segment that a candidate overlaps most, the first of equals; empty if it overlaps none."""
    if not len(document_C):
        return start_C, stop_C
    segment_stop_S = layout.segment_start_S + layout.segment_length_S
    num_D = np.bincount(layout.segment_document_S, minlength=len(layout.document_row_D))
    num_C, first_C = num_D[document_C], (np.cumsum(num_D) - num_D)[document_C]
    pair = np.repeat(np.arange(len(document_C)), num_C)
    ordinal = ordinals(pair)
    segment = first_C[pair] + ordinal
    overlap = np.minimum(stop_C[pair], segment_stop_S[segment])
    overlap -= np.maximum(start_C[pair], layout.segment_start_S[segment])
    most = int(num_C.max())
    best_C = np.maximum.reduceat(np.maximum(overlap, 0) * most - ordinal, np.cumsum(num_C) - num_C)
    segment_C = first_C + -best_C % most
    start_C = np.maximum(start_C, layout.segment_start_S[segment_C])
    return start_C, np.minimum(stop_C, segment_stop_S[segment_C])


def _first_disjoint(num_D: Ints, *, start_C: Ints, stop_C: Ints) -> NDArray[np.bool_]:
    """Greedily in order of the candidates. Only where there may be several is there anything to compare: a
    quarter of the documents, of which so few lie in a batch that a loop is faster than arrays.
    """
    kept_C = stop_C > start_C
    first_D = np.cumsum(num_D**2) - num_D**2
    crowded = np.flatnonzero(num_D > 1)
    for number, first in zip(num_D[crowded].tolist(), first_D[crowded].tolist(), strict=True):
        here = slice(first, first + number**2)
        taken: list[tuple[int, int]] = []
        for place, (start, stop) in enumerate(
            zip(start_C[here].tolist(), stop_C[here].tolist(), strict=True)
        ):
            free = start < stop and all(stop <= other or end <= start for other, end in taken)
            if free and len(taken) < number:
                taken.append((start, stop))
            else:
                kept_C[first + place] = False
    return kept_C


@dataclass(frozen=True, slots=True)
class Counts:
    """What masking did, in counts that add up over batches."""

    rows: int = 0
    rows_with_caption: int = 0
    """With at least one text cut whole."""
    documents: int = 0
    causal: int = 0
    """Documents left as they are."""
    documents_with_caption: int = 0
    spans: int = 0
    whole_captions: int = 0
    whole_images: int = 0
    tokens: int = 0
    masked: int = 0

    def __add__(self, other: Counts) -> Counts:
        names = [field.name for field in fields(self)]
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def array(self) -> Ints:
        """In the order of the fields."""
        return np.array(astuple(self), np.int64)

    @staticmethod
    def of(array: Ints) -> Counts:
        return Counts(*array.tolist())

    def shares(self) -> dict[str, float]:
        """The columns of the table in cm3leon.md, section 5.2, and the share of tokens that are cut."""
        return {
            "causal": self.causal / max(self.documents, 1),
            "whole_captions": self.whole_captions / max(self.spans, 1),
            "whole_images": self.whole_images / max(self.spans, 1),
            "documents_with_caption": self.documents_with_caption / max(self.documents, 1),
            "rows_with_caption": self.rows_with_caption / max(self.rows, 1),
            "masked": self.masked / max(self.tokens, 1),
        }


def count(layout: Layout, spans: Spans) -> Counts:
    whole_N, text_N = _whole(layout, spans)
    captioned = np.unique(spans.document_N[whole_N & text_N])
    return Counts(
        rows=layout.num_rows,
        rows_with_caption=len(np.unique(layout.document_row_D[captioned])),
        documents=len(layout.document_row_D),
        causal=len(layout.document_row_D) - len(np.unique(spans.document_N)),
        documents_with_caption=len(captioned),
        spans=len(spans.document_N),
        whole_captions=int((whole_N & text_N).sum()),
        whole_images=int((whole_N & ~text_N).sum()),
        tokens=int(layout.document_length_D.sum()),
        masked=int(spans.length_N.sum()),
    )


def _whole(layout: Layout, spans: Spans) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each span: does it cover its segment, and is that a text?"""
    stride = int((layout.segment_start_S + layout.segment_length_S).max(initial=0)) + 1
    place_S = layout.segment_document_S * stride + layout.segment_start_S
    place_N = spans.document_N * stride + spans.start_N
    segment_N = np.searchsorted(place_S, place_N, side="right") - 1
    return layout.segment_length_S[segment_N] == spans.length_N, layout.segment_text_S[segment_N]
