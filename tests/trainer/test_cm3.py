"""The masks against a slow, literal restatement of the rules in plain Python."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenizer_service import vocabulary
from trainer import spans
from trainer.cm3 import Batch, rotate, unmask
from trainer.spans import Layout, MaskingSection, Spans

WORD = (1 << 64) - 1

# A document is the lengths of its (text, image) pairs; a row is a list of documents.
DOCUMENT = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=4)
ROWS = st.lists(st.lists(DOCUMENT, max_size=4), min_size=1, max_size=4)
SECTION = st.builds(
    MaskingSection,
    max_spans=st.integers(0, 5),
    mean_spans=st.sampled_from([0.3, 1.0, 4.0]),
    whole_share=st.sampled_from([0.0, 0.5, 1.0]),
    answer_share=st.sampled_from([0.0, 0.5, 1.0]),
)
SEED = st.integers(0, 2**40)
GIVEN = st.integers(0, 2**32 - 1)
"""Bit n tells whether segment n, counted round, stands beside an answer."""


def build(
    rows: list[list[list[tuple[int, int]]]], *, room: int, given: int = 0
) -> tuple[NDArray[np.uint16], Layout]:
    """Rows whose every token can be told from its neighbours, and their layout; ``given`` is of GIVEN."""
    lines: list[list[int]] = []
    documents: list[tuple[int, int, int]] = []
    segments: list[tuple[int, int, int, bool]] = []
    for number, row in enumerate(rows):
        line: list[int] = []
        for pairs in row:
            first = len(line)
            line.append(vocabulary.EOS)
            for pair in pairs:
                for start, length in zip((vocabulary.TEXT_START, vocabulary.IMAGE_START), pair, strict=True):
                    segments.append((len(documents), len(line), length, start == vocabulary.TEXT_START))
                    line += [start + len(line) + i for i in range(length)] + [vocabulary.BREAK]
            line[-1] = vocabulary.EOS
            documents.append((number, first, len(line) - first))
        lines.append(line)
    width = max(len(line) + room * len(row) for line, row in zip(lines, rows, strict=True)) + 1
    rows_BT = np.array([line + [vocabulary.PAD] * (width - len(line)) for line in lines], np.uint16)
    layout = layout_of(documents, segments, len(rows))
    given_S = [bool(given >> number % 32 & 1) for number in range(len(segments))]
    return rows_BT, replace(layout, segment_given_S=np.array(given_S, np.bool_))


def layout_of(
    documents: list[tuple[int, int, int]], segments: list[tuple[int, int, int, bool]], num_rows: int
) -> Layout:
    row_D, start_D, length_D = np.array(documents, np.int64).reshape(-1, 3).T
    document_S, start_S, length_S, text_S = np.array(segments, np.int64).reshape(-1, 4).T
    return Layout(
        num_rows=num_rows,
        document_row_D=row_D,
        document_start_D=start_D,
        document_length_D=length_D,
        segment_document_S=document_S,
        segment_start_S=start_S,
        segment_length_S=length_S,
        segment_text_S=text_S.astype(bool),
        segment_given_S=np.zeros(len(segments), np.bool_),
    )


def keys(layout: Layout, seed: int) -> NDArray[np.uint64]:
    rows_B = np.arange(layout.num_rows)
    keys_B = spans.derive(spans.derive(spans.root(seed), rows_B % 2), rows_B + 70)
    return spans.document_keys(layout, keys_B)


def derived(key: int, value: int) -> int:
    bits = (key + (value + 1) * 0x9E3779B97F4A7C15) & WORD
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & WORD
    return bits ^ (bits >> 31)


def literal_key(seed: int, epoch: int, sequence: int, document: int) -> int:
    key = 0
    for value in (seed, epoch, sequence, document):
        key = derived(key, value)
    return key


def share(key: int) -> float:
    return (key >> 11) / 2**53


def below(key: int, limit: int) -> int:
    return ((key >> 32) * limit) >> 32


def literal_number(key: int, section: MaskingSection) -> int:
    drawn, number, probability, total = share(derived(key, 0)), 0, math.exp(-section.mean_spans), 0.0
    while number < section.max_spans:
        total += probability
        if drawn < total:
            break
        number += 1
        probability *= section.mean_spans / number
    return number


def literal_spans(
    key: int, length: int, segments: list[tuple[int, int]], given: list[bool], section: MaskingSection
) -> list[tuple[int, int]]:
    """Cuts of one document as (start, stop), both and the segments' counted from its first token."""
    number = literal_number(key, section)
    if share(derived(key, 1)) < section.whole_share:
        by_key = sorted((derived(key, 2 + i), segment) for i, segment in enumerate(segments))
        if share(derived(key, 2**40)) < section.answer_share:
            beside = [segment for segment, is_given in zip(segments, given, strict=True) if is_given]
            by_key = [(of, segment) for of, segment in by_key if segment not in beside]
        return sorted([segment for _, segment in by_key if segment[0] < segment[1]][:number])
    taken: list[tuple[int, int]] = []
    for candidate in range(number**2):
        first = below(derived(key, 2 + 2 * candidate), length - 1)
        other = below(derived(key, 3 + 2 * candidate), max(length - 2, 0))
        ends = sorted((first, other + (other >= first)))
        overlaps = [(max(ends[0] + 1, a), min(ends[1] + 1, b)) for a, b in segments]
        start, stop = max(overlaps, key=lambda overlap: overlap[1] - overlap[0])
        if start < stop and len(taken) < number and all(stop <= a or b <= start for a, b in taken):
            taken.append((start, stop))
    return sorted(taken)


def literal_document(ids: list[int], cuts: list[tuple[int, int]]) -> list[int]:
    source, infill, at = [], [], 0
    for number, (start, stop) in enumerate(cuts):
        source += [*ids[at:start], vocabulary.sentinel(number)]
        infill += [vocabulary.sentinel(number), *ids[start:stop], vocabulary.EOSS]
        at = stop
    return source + ids[at:] + infill


def literal_rows(
    rows_BT: NDArray[np.uint16], layout: Layout, section: MaskingSection, seed: int
) -> Iterator[list[list[int]]]:
    """The rotated documents of each row."""
    for row in range(layout.num_rows):
        rotated: list[list[int]] = []
        for d in np.flatnonzero(layout.document_row_D == row):
            start, length = int(layout.document_start_D[d]), int(layout.document_length_D[d])
            of = np.flatnonzero(layout.segment_document_S == d)
            firsts = [int(layout.segment_start_S[s]) - start for s in of]
            segments = [(a, a + int(layout.segment_length_S[s])) for a, s in zip(firsts, of, strict=True)]
            key = literal_key(seed, row % 2, row + 70, len(rotated))
            ids = rows_BT[row, start : start + length].tolist()
            given_of = layout.segment_given_S[of].tolist()
            rotated.append(literal_document(ids, literal_spans(key, length, segments, given_of, section)))
        yield rotated


def masked(
    rows_BT: NDArray[np.uint16], layout: Layout, section: MaskingSection, seed: int
) -> tuple[Batch, Spans]:
    cut = spans.draw_spans(layout, keys(layout, seed), section)
    return rotate(rows_BT, layout, cut), cut


@given(ROWS, SECTION, SEED, GIVEN)
def test_masking_is_what_the_rules_say(
    rows: list[list[list[tuple[int, int]]]], section: MaskingSection, seed: int, beside: int
) -> None:
    rows_BT, layout = build(rows, room=3 * section.max_spans, given=beside)
    batch, _ = masked(rows_BT, layout, section, seed)
    for row, documents in enumerate(literal_rows(rows_BT, layout, section, seed)):
        ids = [i for document in documents for i in document]
        padding = rows_BT.shape[1] - len(ids)
        assert batch.ids_BT[row].tolist() == ids + [vocabulary.PAD] * padding
        numbers = [n for n, document in enumerate(documents) for _ in document]
        assert batch.documents_BT[row].tolist() == numbers + [-1] * padding
        positions = [p for document in documents for p in range(len(document))]
        assert batch.positions_BT[row].tolist() == positions + [0] * padding


@given(ROWS, SECTION, SEED)
def test_putting_the_infill_back_restores_every_document(
    rows: list[list[list[tuple[int, int]]]], section: MaskingSection, seed: int
) -> None:
    rows_BT, layout = build(rows, room=3 * section.max_spans)
    batch, _ = masked(rows_BT, layout, section, seed)
    for row in range(layout.num_rows):
        kept = batch.documents_BT[row] >= 0
        numbers, ids = batch.documents_BT[row][kept].numpy(), batch.ids_BT[row][kept].numpy()
        restored = [i for number in np.unique(numbers) for i in unmask(ids[numbers == number]).tolist()]
        assert restored == rows_BT[row][rows_BT[row] != vocabulary.PAD].tolist()


@given(ROWS, SECTION, SEED)
def test_what_is_cut_does_not_depend_on_the_other_rows(
    rows: list[list[list[tuple[int, int]]]], section: MaskingSection, seed: int
) -> None:
    rows_BT, layout = build(rows, room=3 * section.max_spans)
    together, _ = masked(rows_BT, layout, section, seed)
    alone_BT, alone = build(rows[:1], room=3 * section.max_spans)
    batch, _ = masked(alone_BT, alone, section, seed)
    width = alone_BT.shape[1]
    assert batch.ids_BT[0].tolist() == together.ids_BT[0, :width].tolist()


def test_blanked_tokens_do_not_move_a_cut() -> None:
    rows_BT, layout = build([[[(5, 9), (4, 9)]] * 3] * 20, room=12)
    batch, cut = masked(rows_BT, layout, MaskingSection(), 1)
    blank_BT = rows_BT.copy()
    blank_BT[(rows_BT >= vocabulary.TEXT_START)] = vocabulary.PAD
    marks_BT = vocabulary.is_sentinel(batch.ids_BT)
    assert cut.start_N.size > 20
    assert (vocabulary.is_sentinel(rotate(blank_BT, layout, cut).ids_BT) == marks_BT).all()


def test_a_row_without_room_for_its_masks_is_refused() -> None:
    rows_BT, layout = build([[[(5, 9)]]], room=0)
    with pytest.raises(ValueError, match=r"lower trainer\.masking\.max_spans"):
        for seed in range(9):
            masked(rows_BT, layout, MaskingSection(), seed)


def test_a_caption_is_replaced_by_a_sentinel_and_follows_its_document() -> None:
    rows_BT, layout = build([[[(2, 3)]]], room=3)
    cut = Spans(document_N=np.array([0]), start_N=np.array([1]), length_N=np.array([2]))
    assert rotate(rows_BT, layout, cut).ids_BT[0].tolist() == [
        vocabulary.EOS,
        vocabulary.sentinel(0),
        vocabulary.BREAK,
        *(vocabulary.IMAGE_START + i for i in (4, 5, 6)),
        vocabulary.EOS,
        vocabulary.sentinel(0),
        *(vocabulary.TEXT_START + i for i in (1, 2)),
        vocabulary.EOSS,
        vocabulary.PAD,
    ]


def four_pairs(num_documents: int) -> NDArray[np.int64]:
    """[D, 8]: lengths of the texts and images of documents of four pairs, captions of about 11 tokens."""
    captions = np.random.default_rng(0).lognormal(math.log(11), 0.4, (num_documents, 4)).round()
    texts = np.maximum(captions, 1).astype(int)
    return np.stack((texts, np.full_like(texts, 1024)), axis=2).reshape(-1, 8)


def whole_documents(num_documents: int) -> Layout:
    """One a row."""
    lengths_DS = four_pairs(num_documents)
    starts_DS = np.cumsum(lengths_DS + 1, axis=1) - lengths_DS
    documents = [(d, 0, int(lengths_DS[d].sum()) + 9) for d in range(num_documents)]
    segments = [
        (d, int(starts_DS[d, s]), int(lengths_DS[d, s]), s % 2 == 0)
        for d in range(num_documents)
        for s in range(8)
    ]
    return layout_of(documents, segments, num_documents)


def cut_blocks(num_blocks: int) -> Layout:
    """The same documents one behind the other, cut every 4,097 tokens, each block masked as a document."""
    at, size, segments = 0, 4097, []
    for lengths in four_pairs(num_blocks):
        for number, length in enumerate(lengths.tolist()):
            at += 1
            for block in range(at // size, (at + length - 1) // size + 1):
                start, stop = max(at, block * size), min(at + length, (block + 1) * size)
                segments.append((block, start - block * size, stop - start, number % 2 == 0))
            at += length
        at += 1
    kept = [segment for segment in segments if segment[0] < num_blocks]
    return layout_of([(block, 0, size) for block in range(num_blocks)], kept, num_blocks)


def test_shares_in_blocks_are_those_measured_before() -> None:
    """cm3leon.md, section 5.2, last row, by an implementation that masked blocks as its authors did."""
    layout = cut_blocks(10_000)
    shares = spans.count(layout, spans.draw_spans(layout, keys(layout, 0), MaskingSection())).shares()
    expected = {"causal": 0.372, "whole_captions": 0.234, "whole_images": 0.446, "rows_with_caption": 0.179}
    for name, value in expected.items():
        assert shares[name] == pytest.approx(value, abs=0.025), name


def test_documents_with_a_caption_cut_whole_are_as_many_as_combinatorics_says() -> None:
    """Half of the documents cut n ~ Poisson(1), at most 4, of 8 segments; half of these are captions."""
    layout = whole_documents(10_000)
    shares = spans.count(layout, spans.draw_spans(layout, keys(layout, 0), MaskingSection())).shares()
    poisson = [math.exp(-1) / math.factorial(n) for n in range(4)]
    poisson.append(1 - sum(poisson))
    none = sum(p * math.comb(4, n) / math.comb(8, n) for n, p in enumerate(poisson))
    assert shares["causal"] == pytest.approx(poisson[0], abs=0.01)
    assert shares["documents_with_caption"] == pytest.approx((1 - none) / 2, abs=0.01)


def test_without_whole_segments_no_caption_is_ever_cut_whole() -> None:
    layout = whole_documents(10_000)
    section = MaskingSection(whole_share=0.0)
    counts = spans.count(layout, spans.draw_spans(layout, keys(layout, 0), section))
    assert counts.shares()["whole_captions"] < 0.001
    assert counts.whole_images > 1000


def test_counts_add_up_over_batches() -> None:
    halves = [whole_documents(100), whole_documents(100)]
    found = [spans.count(h, spans.draw_spans(h, keys(h, 3), MaskingSection())) for h in halves]
    total = found[0] + found[1]
    assert (total.rows, total.documents, total.spans) == (200, 200, 2 * found[0].spans)
    assert total.shares() == found[0].shares()
