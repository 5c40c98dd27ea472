"""NFC of any text, in bounded time."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from infra.guarded.nfc import JOINER, MAX_MARKS, normal


@given(st.text())
def test_text_without_long_runs_of_marks_is_what_unicode_says(text: str) -> None:
    assert normal(text) == unicodedata.normalize("NFC", text)


@given(st.text(st.characters(min_codepoint=0x300, max_codepoint=0x36F), min_size=0, max_size=200))
def test_what_is_normal_stays_as_it_is(marks: str) -> None:
    once = normal(f"e{marks}")
    assert normal(once) == once
    assert unicodedata.is_normalized("NFC", once)


def test_no_mark_is_lost_and_none_stands_behind_thirty_others() -> None:
    found = normal("\u4e00" * 40 + "\u0316\u0301" * 100)
    assert found.replace(JOINER, "").count("\u0301") == found.replace(JOINER, "").count("\u0316") == 100
    assert max(map(len, found.removeprefix("\u4e00" * 40).split(JOINER))) == MAX_MARKS
