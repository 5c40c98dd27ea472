"""Plain signs: what a text becomes to be searched, and where each of its signs stood."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.filtering import signs

TEXTS = st.text(st.characters() | st.sampled_from("a1-\u200b\u00ad\u2011\uff20\u0663\ufe0f"))


@given(TEXTS)
def test_every_sign_is_the_plain_one_of_its_place_and_only_unseen_ones_are_left_out(text: str) -> None:
    folded = signs.fold(text)
    assert len(folded.text) == len(folded.places)
    assert [signs.plain(text[place]) for place in folded.places] == list(folded.text)
    assert {signs.plain(text[place]) for place in {*range(len(text))} - {*folded.places}} <= {""}


@given(TEXTS)
def test_folding_again_changes_nothing_and_ascii_is_plain(text: str) -> None:
    once = signs.fold(text).text
    assert signs.fold(once).text == once
    plain = "".join(map(chr, range(128)))
    assert signs.fold(plain).text == plain


@given(TEXTS)
def test_no_digit_is_left_that_is_not_of_ascii(text: str) -> None:
    assert all(sign.isascii() for sign in signs.fold(text).text if sign.isdecimal())
