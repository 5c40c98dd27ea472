"""How captions are worded: laws of the measures, whatever is said."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.filtering import wording

WORDS = st.lists(st.sampled_from(["red", "dog", "a", "New", "日本", "l'été", "42"]), max_size=20)
KEYWORDS = st.lists(st.text(st.sampled_from("abs ")), max_size=8)


@given(WORDS)
def test_a_measure_is_a_share_or_nothing_for_short_captions(said: list[str]) -> None:
    text = " ".join(said)
    for measure in (wording.top_word_share, wording.repeated_share, wording.listed_share):
        value = measure(text)
        assert (value is None) == (len(wording.words(text)) < wording.MIN_WORDS)
        assert value is None or 0 <= value <= 1


@given(WORDS)
def test_case_and_order_do_not_change_the_share_of_the_commonest_word(said: list[str]) -> None:
    turned = " ".join(reversed(said)).upper()
    assert wording.top_word_share(turned) == wording.top_word_share(" ".join(said))


@given(WORDS.filter(lambda said: len(said) >= wording.MIN_WORDS))
def test_saying_it_all_again_makes_it_more_repeated(said: list[str]) -> None:
    once, twice = wording.repeated_share(" ".join(said)), wording.repeated_share(" ".join(said * 2))
    assert once is not None
    assert twice is not None
    assert twice >= once
    assert twice > 0


def test_a_sentence_with_commas_is_no_list() -> None:
    assert wording.listed_share("Red, ripe strawberries, picked today, in a bowl on the table") == 4 / 11
    assert wording.listed_share("red, ripe, strawberries, picked, today, bowl, table, fruit") == 1
    assert wording.listed_share("red ripe strawberries picked today bowl table fruit") == 0


@given(KEYWORDS)
def test_keywords_sent_again_repeat(keywords: list[str]) -> None:
    once, twice = wording.keyword_repeats(keywords), wording.keyword_repeats(keywords * 2)
    if not keywords:
        assert (once, twice) == (None, None)
    else:
        assert once is not None
        assert twice == 1 - (1 - once) / 2


def test_near_repeats_are_repeats_and_other_words_are_not() -> None:
    for same in (["beach", "Beaches"], ["dog running", "Running, dogs"], ["glass", "glasses"]):
        assert wording.keyword_repeats(same) == 0.5, same
    for other in (["bus", "bu"], ["gas", "ga"], ["news", "newt"], ["上海", "海上"]):
        assert wording.keyword_repeats(other) == 0, other


HINDI = "एक युवा महिला पार्क में बेंच पर बैठकर अखबार पढ़ रही है"


def test_words_keep_their_combining_signs() -> None:
    assert wording.words(HINDI) == HINDI.split()
    assert wording.top_word_share(HINDI) == 1 / 12
    assert wording.words("สวัสดี") == ["สวัสดี"]
    assert wording.words("مَرحَبًا بِك") == ["مَرحَبًا", "بِك"]
    assert wording.words("\u0301 \u2764\ufe0f") == []


def test_keywords_that_differ_in_vowel_signs_or_are_emoji_are_no_repeats() -> None:
    for other in (["माता", "मोती", "मत", "मूति"], ["🐶", "🐱", "🐭", "🐹"], ["🍎", "apple", "🍏"]):
        assert wording.keyword_repeats(other) == 0, other
    assert wording.keyword_repeats(["🐶", " 🐶"]) == 0.5


def test_space_around_commas_does_not_count_however_much_there_is() -> None:
    words = ["dog", "cat", "pet", "animal", "puppy", "kitten", "cute", "fur"]
    for space in ("", " ", " " * 100_000):
        assert wording.listed_share(f"{space},{space}".join(words)) == 1
        assert wording.listed_share(f"{space} ".join(words)) == 0
        assert wording.listed_share(f"{space} , ,".join(words) + space) == 1
