"""What is cut of instruction examples: their answers, or anything, by the share that is asked for."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from pipeline import shards
from pipeline.blocks import Shard
from pipeline.pack import PackConfig
from pipeline.packed import Laid, Modality, Role, Span, Via
from tests.trainer.test_cm3 import GIVEN, ROWS, SECTION, SEED, build, keys, layout_of, literal_rows
from trainer import spans, stream
from trainer.cm3 import rotate
from trainer.spans import Layout, MaskingSection, Spans
from trainer.stream import Masked

QUESTION, ANSWER, PICTURE = range(3)
LENGTHS = (7, 2, 64)
NUM = 10_000


def questions() -> Layout:
    """One a row: a question, its answer, and the picture that it is of; only the answer is not given."""
    starts = (1, 9, 12)  # behind <eos>, a word of the template, and <break>
    segments = [(d, starts[s], LENGTHS[s], s != PICTURE) for d in range(NUM) for s in range(3)]
    layout = layout_of([(d, 0, 77) for d in range(NUM)], segments, NUM)
    return replace(layout, segment_given_S=np.array([True, False, True] * NUM))


def drawn(layout: Layout, **masking: float) -> Spans:
    return spans.draw_spans(layout, keys(layout, 5), MaskingSection.model_validate(masking))


def segments_of(layout: Layout, cut: Spans) -> np.ndarray:
    """[N]: which of its document's three segments a span lies in."""
    return np.searchsorted(layout.segment_start_S[:3], cut.start_N, side="right") - 1


@pytest.mark.parametrize("mean_spans", [0.5, 1.0, 3.0])
def test_of_answers_alone_an_answer_is_cut_wherever_anything_is(mean_spans: float) -> None:
    layout = questions()
    cut = drawn(layout, answer_share=1, whole_share=1, mean_spans=mean_spans)
    assert set(segments_of(layout, cut).tolist()) == {ANSWER}
    assert (cut.length_N == LENGTHS[ANSWER]).all()
    assert len(np.unique(cut.document_N)) == len(cut.document_N)
    assert len(cut.document_N) / NUM == pytest.approx(1 - math.exp(-mean_spans), abs=0.015)


@pytest.mark.parametrize("whole_share", [1.0, 0.5])
def test_the_share_is_one_of_documents_whatever_else_is_drawn_of_them(whole_share: float) -> None:
    """Of three segments cut whole two are given: half of these cuts go elsewhere, and no others."""
    layout = questions()
    some, before = (
        drawn(layout, answer_share=share, whole_share=whole_share, max_spans=1) for share in (0.5, 0)
    )
    assert some.document_N.tolist() == before.document_N.tolist()
    moved = (some.start_N != before.start_N) | (some.length_N != before.length_N)
    assert moved.mean() == pytest.approx(whole_share / 2 * 2 / 3, abs=0.02)
    assert set(segments_of(layout, some)[moved].tolist()) == {ANSWER}


def test_parts_are_cut_of_whatever_is_given_too() -> None:
    layout = questions()
    cut = drawn(layout, answer_share=1, whole_share=0)
    before = drawn(layout, answer_share=0, whole_share=0)
    for mine, theirs in (
        (cut.document_N, before.document_N),
        (cut.start_N, before.start_N),
        (cut.length_N, before.length_N),
    ):
        assert mine.tolist() == theirs.tolist()
    assert {QUESTION, PICTURE} <= set(segments_of(layout, cut).tolist())


def test_documents_that_are_no_instruction_examples_are_cut_as_the_paper_does() -> None:
    layout = replace(questions(), segment_given_S=np.zeros(3 * NUM, np.bool_))
    cut, before = drawn(layout, answer_share=1), drawn(layout, answer_share=0)
    assert cut.document_N.tolist() == before.document_N.tolist()
    assert cut.start_N.tolist() == before.start_N.tolist()


@given(ROWS, SECTION, SEED, GIVEN)
def test_without_a_share_what_is_given_changes_nothing(
    rows: list[list[list[tuple[int, int]]]], section: MaskingSection, seed: int, beside: int
) -> None:
    """Bit for bit what the rules say that know of no answers."""
    paper = section.model_copy(update={"answer_share": 0.0})
    rows_BT, layout = build(rows, room=3 * section.max_spans, given=beside)
    _, plain = build(rows, room=3 * section.max_spans)
    batch = rotate(rows_BT, layout, spans.draw_spans(layout, keys(layout, seed), paper))
    for row, documents in enumerate(literal_rows(rows_BT, plain, paper, seed)):
        ids = [i for document in documents for i in document]
        assert batch.ids_BT[row].tolist()[: len(ids)] == ids


def test_a_document_of_nothing_but_given_is_not_cut_whole() -> None:
    layout = replace(questions(), segment_given_S=np.ones(3 * NUM, np.bool_))
    assert not len(drawn(layout, answer_share=1, whole_share=1).document_N)


def test_the_paper_is_the_default() -> None:
    assert MaskingSection().answer_share == 0


def packed_question(number: int) -> Laid:
    starts, roles = (1, 9, 12), (Role.GIVEN, Role.TARGET, Role.GIVEN)
    found = tuple(
        Span(
            start=start,
            length=length,
            modality=Modality.IMAGE if at == PICTURE else Modality.TEXT,
            role=role,
            uid=f"a:{number}",
            revision=0,
            via=Via.NOTHING,
        )
        for at, (start, length, role) in enumerate(zip(starts, LENGTHS, roles, strict=True))
    )
    return Laid(example_id=f"e{number}", ids=np.arange(1, 78, dtype=np.uint16), spans=found)


def test_the_stream_tells_of_packs_what_is_given(tmp_path: Path) -> None:
    config = PackConfig(context=127, max_spans=2)
    ((data, info),) = shards.write([(packed_question(n),) for n in range(40)], config, fingerprint="f")
    (tmp_path / "packs.arrow").write_bytes(data)
    masking = MaskingSection(max_spans=2, answer_share=1, whole_share=1)
    packs = [Shard.file(tmp_path / "packs.arrow", info)]
    ((layout, cut),) = stream.in_order(packs, view=Masked(masking=masking).drawn, batch_rows=40)
    assert layout.segment_given_S.tolist() == [True, False, True] * 40
    assert len(cut.start_N) > 10
    assert set(cut.start_N.tolist()) == {9}
