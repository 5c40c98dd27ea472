"""Captions are the same where all their words are, however many these are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.card import contamination
from pipeline.card.matching import Ints, Words

CAPTION = "a man walks along the quiet road by the wide grey sea at night"
WORDS = CAPTION.split()
KNOWN = pa.array(sorted({*WORDS, "dog", "woman"}))


def spoken(*captions: str) -> tuple[Ints, Ints]:
    return contamination.spoken(Words.of(pa.array(captions)), KNOWN)


def but_for(place: int, word: str) -> str:
    return " ".join([*WORDS[:place], word, *WORDS[place + 1 :]])


@pytest.mark.parametrize("place", range(len(WORDS)))
def test_captions_that_differ_in_one_word_are_not_the_same(place: int) -> None:
    """Each known word in its place: also one whose number is the next, so that a bit alone is another."""
    captions = [but_for(place, word) for word in KNOWN.to_pylist()]
    hashes, texts = contamination.wholes(*spoken(*captions))
    assert len(set(hashes.tolist())) == len(texts) == len(captions)
    runs, of = contamination.runs(*spoken(*captions), len(WORDS))
    assert len(set(runs.tolist())) == len(of) == len(captions)


def test_captions_that_differ_from_the_seventh_word_on_are_not_the_same() -> None:
    first, other = contamination.wholes(*spoken(CAPTION, " ".join([*WORDS[:6], "dog", "woman"])))[0]
    assert first != other


def test_the_same_words_are_the_same_wherever_the_caption_stands() -> None:
    captions = (CAPTION, "dog", "a woman walks at night", CAPTION.upper() + "!")
    hashes, _ = contamination.wholes(*spoken(*captions))
    assert len(hashes) == 3  # a single word is too short
    assert hashes[0] == hashes[2] != hashes[1]
    assert not len(contamination.wholes(np.zeros(0, np.int64), np.zeros(0, np.int64))[0])
