"""The id layout: ranges are disjoint, cover everything, and shifting is undone exactly."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer_service import vocabulary

ALL_IDS = np.arange(vocabulary.SIZE)


def test_every_id_is_special_text_or_image_and_only_one_of_them() -> None:
    special = ALL_IDS < vocabulary.TEXT_START
    kinds = special.astype(int) + vocabulary.is_text(ALL_IDS) + vocabulary.is_image(ALL_IDS)
    assert (kinds == 1).all()


def test_sentinels_are_specials_and_none_is_a_named_token() -> None:
    sentinels = {vocabulary.sentinel(i) for i in range(vocabulary.NUM_SENTINELS)}
    assert sentinels == set(np.flatnonzero(vocabulary.is_sentinel(ALL_IDS)).tolist())
    assert len(sentinels) == vocabulary.NUM_SENTINELS
    assert max(sentinels) < vocabulary.TEXT_START
    assert not sentinels & {vocabulary.PAD, vocabulary.EOS, vocabulary.BREAK, vocabulary.EOSS}


def test_the_whole_vocabulary_is_two_bytes_a_token() -> None:
    assert vocabulary.from_codes(np.array([vocabulary.MAX_CODES - 1])).tolist() == [65_535]
    assert vocabulary.from_codes(np.array([0])).dtype == np.uint16


@given(st.lists(st.integers(0, vocabulary.MAX_TEXT - 1)))
def test_text_entries_survive_the_shift(entries: list[int]) -> None:
    ids = vocabulary.from_text(np.array(entries, np.uint16))
    assert vocabulary.is_text(ids).all()
    assert vocabulary.to_text(ids).tolist() == entries


@given(st.lists(st.integers(0, vocabulary.MAX_CODES - 1)))
def test_image_codes_survive_the_shift(codes: list[int]) -> None:
    ids = vocabulary.from_codes(np.array(codes, np.uint16))
    assert vocabulary.is_image(ids).all()
    assert vocabulary.to_codes(ids).tolist() == codes


@pytest.mark.parametrize(
    ("shift", "raw"),
    [
        (vocabulary.from_text, vocabulary.MAX_TEXT),
        (vocabulary.from_text, -1),
        (vocabulary.from_codes, vocabulary.MAX_CODES),
        (vocabulary.to_text, vocabulary.TEXT_START - 1),
        (vocabulary.to_text, vocabulary.IMAGE_START),
        (vocabulary.to_codes, vocabulary.IMAGE_START - 1),
        (vocabulary.to_codes, vocabulary.SIZE),
        (vocabulary.sentinel, vocabulary.NUM_SENTINELS),
        (vocabulary.sentinel, -1),
    ],
)
def test_what_is_one_beyond_a_range_is_refused(shift: Callable[[Any], Any], raw: int) -> None:
    value = raw if shift is vocabulary.sentinel else np.array([raw])
    with pytest.raises(ValueError, match="in \\["):
        shift(value)


@given(st.integers(1, vocabulary.MAX_TEXT), st.integers(1, vocabulary.MAX_CODES))
def test_a_live_part_has_a_row_for_each_special_text_entry_and_code(num_text: int, num_codes: int) -> None:
    live = vocabulary.Live(num_text=num_text, num_codes=num_codes)
    assert live.rows == vocabulary.TEXT_START + num_text + num_codes
    assert live.text_stop == live.rows - num_codes


@pytest.mark.parametrize("kind", ["num_text", "num_codes"])
def test_a_live_part_is_neither_empty_nor_larger_than_its_range(kind: str) -> None:
    limit = {"num_text": vocabulary.MAX_TEXT, "num_codes": vocabulary.MAX_CODES}[kind]
    for size in (0, limit + 1):
        with pytest.raises(ValueError, match=kind):
            vocabulary.Live(**{"num_text": 1, "num_codes": 1, kind: size})
