from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pack import TOKENS_PER_SPAN
from tokenizer_service import vocabulary
from trainer import cm3, prompts
from trainer.prompts import Hole, Ids, Pair
from trainer.spans import Layout, Spans

TEXT, IMAGE = vocabulary.TEXT_START, vocabulary.IMAGE_START

SEGMENT = st.lists(
    st.sampled_from([*range(TEXT, TEXT + 5), *range(IMAGE, IMAGE + 5)]), min_size=1, max_size=6
).map(tuple)


def rotated(segments: Sequence[Ids], hole: Hole) -> Ids:
    """What the objective makes of the whole document with this one span."""
    document = (*prompts.coming(segments)[:-1], vocabulary.EOS)
    start = 1 + sum(len(one) + 1 for one in segments[: hole.segment]) + hole.start
    row = np.full((1, len(document) + TOKENS_PER_SPAN), vocabulary.PAD, np.uint16)
    row[0, : len(document)] = document
    lengths = np.array([len(one) for one in segments])
    layout = Layout(
        num_rows=1,
        document_row_D=np.array([0]),
        document_start_D=np.array([0]),
        document_length_D=np.array([len(document)]),
        segment_document_S=np.zeros_like(lengths),
        segment_start_S=1 + np.cumsum(lengths + 1) - (lengths + 1),
        segment_length_S=lengths,
        segment_text_S=lengths > 0,
        segment_given_S=np.zeros_like(lengths > 0),
    )
    spans = Spans(
        document_N=np.array([0]), start_N=np.array([start]), length_N=np.array([hole.stop - hole.start])
    )
    return tuple(cm3.rotate(row, layout, spans).ids_BT[0].tolist())


@given(segments=st.lists(SEGMENT, min_size=1, max_size=4), draw=st.data())
def test_an_infill_prompt_is_what_the_objective_cuts(segments: list[Ids], draw: st.DataObject) -> None:
    segment = draw.draw(st.integers(0, len(segments) - 1))
    start = draw.draw(st.integers(0, len(segments[segment]) - 1))
    stop = draw.draw(st.integers(start + 1, len(segments[segment])))
    hole = Hole(segment, start, stop)
    cut = segments[segment][start:stop]
    assert (*prompts.infill(segments, hole), *cut, vocabulary.EOSS) == rotated(segments, hole)


@given(segments=st.lists(SEGMENT, min_size=1, max_size=4))
def test_what_is_asked_for_last_continues_the_document(segments: list[Ids]) -> None:
    assert prompts.coming(segments) == (*prompts.coming(segments[:-1]), *segments[-1], vocabulary.BREAK)


@pytest.mark.parametrize("hole", [Hole(0, 2, 4), Hole(0, -1, 1), Hole(0, 2, 1)])
def test_a_hole_outside_its_segment_is_refused(hole: Hole) -> None:
    with pytest.raises(ValueError, match="lies outside its segment, which has 3 tokens"):
        prompts.infill([(TEXT, TEXT, TEXT)], hole)


def test_a_caption_prompt_is_what_masking_makes_of_a_pair() -> None:
    image = [IMAGE + 1, IMAGE + 2]
    neighbor = Pair(text=(TEXT + 1,), image=(IMAGE + 3, IMAGE + 4))
    drawn = (*prompts.caption_prompt(image, [neighbor]), TEXT + 9, vocabulary.EOSS)
    whole = (*prompts.image_prompt([TEXT + 9], [neighbor]), *image, vocabulary.EOS)
    assert tuple(cm3.unmask(np.array(drawn)).tolist()) == whole


def test_an_instruction_stands_in_front_of_what_is_asked_for_and_in_its_segment() -> None:
    mask, image = vocabulary.sentinel(0), (IMAGE, IMAGE + 1)
    told = prompts.caption_prompt(image, instruction=(TEXT, TEXT + 1))
    assert told == (
        vocabulary.EOS, TEXT, TEXT + 1, mask, vocabulary.BREAK, *image, vocabulary.EOS, mask,
    )  # fmt: skip


def test_without_its_text_a_prompt_is_the_unconditional_one() -> None:
    assert prompts.image_prompt(prompts.CUT) == prompts.UNCONDITIONAL
