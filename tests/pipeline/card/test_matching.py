"""Terms are found as the curation report finds them, for all texts at once."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.card import matching, termlists
from pipeline.card.matching import Matcher
from pipeline.card.termlists import Label
from pipeline.reading import BadConfig
from pipeline.reviewing import identity_terms

IDENTITY = Matcher.of([termlists.read("identity", termlists.OWN / "identity.toml")])
WORDS = sorted(
    {word for words in identity_terms.PLACES.values() for word in words if word}
    | set(identity_terms.PLACES)
    | {"dog", "table", "of"}
)
texts = st.lists(
    st.tuples(st.sampled_from(WORDS), st.sampled_from([" ", ", ", "-", "'s ", " — ", "_"])), max_size=8
).map(lambda found: "".join(word + apart for word, apart in found))


def found(matcher: Matcher, captions: list[str], keywords: list[list[str]]) -> list[set[Label]]:
    rows, labels = matcher.rows(pa.array(captions, pa.string()), pa.array(keywords, pa.list_(pa.string())))
    pairs = list(zip(rows.tolist(), labels.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    return [
        {matcher.labels[label] for row, label in pairs if row == number} for number in range(len(captions))
    ]


@given(st.lists(st.tuples(texts, st.lists(texts, max_size=2)), min_size=1, max_size=4))
def test_the_groups_are_those_that_the_curation_report_finds(rows: list[tuple[str, list[str]]]) -> None:
    captions, keywords = [caption for caption, _ in rows], [words for _, words in rows]
    for (caption, words), labels in zip(rows, found(IDENTITY, captions, keywords), strict=True):
        ours = {(one.category, one.name) for one in labels if one.category in identity_terms.TERMS}
        assert ours == identity_terms.named([caption, *words])


def test_our_list_has_every_group_of_the_curation_report() -> None:
    ours = {(label.category, label.name) for label in IDENTITY.labels}
    assert ours >= {(axis, group) for axis, groups in identity_terms.TERMS.items() for group in groups}


def listing(tmp_path: Path, terms: str) -> Matcher:
    path = tmp_path / "terms.toml"
    path.write_text(f'name="t"\nversion=1\nlanguage="en"\nsource="us"\n[terms.x]\n{terms}')
    return Matcher.of([termlists.read("activities", path)])


def test_a_phrase_is_found_whole_in_one_text_and_whatever_parts_its_words(tmp_path: Path) -> None:
    matcher = listing(tmp_path, 'a = "ice_cream_van ice"\nb = "cream"')
    captions = ["ICE-cream van!", "ice cream", "ice, van", "", "cream van ice"]
    keywords = [[], ["van"], ["ice cream", "van"], [], ["ice", "cream_van"]]
    assert [sorted(label.name for label in one) for one in found(matcher, captions, keywords)] == [
        ["a", "b"],
        ["a", "b"],
        ["a", "b"],
        [],
        ["a", "b"],
    ]
    longer = listing(tmp_path, 'a = "ice_cream_van"')
    assert [len(one) for one in found(longer, captions, keywords)] == [1, 0, 0, 0, 0]


def test_the_end_of_a_text_is_the_end_of_a_phrase(tmp_path: Path) -> None:
    matcher = listing(tmp_path, 'a = "ice_cream"')
    assert found(matcher, ["a lot of ice", "cream"], [[], []]) == [set(), set()]


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ('a = "well-known"', "'well-known' is never found"),
        ('a = "old_*"', "there is no `people`"),
        ('a = "two__words"', "'two__words' is never found"),
    ],
)
def test_a_term_that_cannot_be_found_is_refused(tmp_path: Path, terms: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        listing(tmp_path, terms)


def test_a_file_that_is_no_term_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "terms.toml"
    with pytest.raises(BadConfig, match="give a TOML file"):
        termlists.read("safety", path)
    path.write_text('name = "t"')
    with pytest.raises(BadConfig, match="version"):
        termlists.read("safety", path)
    with pytest.raises(ValueError, match="no terms of 'slurs'"):
        termlists.files({"slurs": str(path)})


def test_every_list_of_ours_says_where_it_is_from() -> None:
    for one in termlists.loaded({}):
        assert one.source
        assert one.language == "en"
        assert one.version >= 1
        words = [phrase for phrases in one.phrases.values() for phrase in phrases]
        assert len(words) == len(set(words)) or one.kind == "identity"
    names = {label.name for one in termlists.loaded({}) for label in one.phrases}
    assert {"CEO", "director"} <= names


def test_no_loop_over_texts_slows_it() -> None:
    """The aim is 200,000 captions a second of a core; a twentieth is asked, for other work runs beside."""
    matcher = Matcher.of(termlists.loaded({}))
    captions = pa.array(["an old man and a smiling woman, the CEO of a firm, walking in the city"] * 20_000)
    begin = time.process_time()
    rows, _ = matcher.rows(captions, pa.array([[]] * 20_000, pa.list_(pa.string())))
    assert time.process_time() - begin < 2
    assert len(rows) >= 5 * 20_000


def test_sets_are_made_by_sorting() -> None:
    values = pa.array([5, 1, 5, 0]).to_numpy()
    assert matching.distinct(values).tolist() == [0, 1, 5]
    assert matching.among(values, matching.distinct(values[:2])).tolist() == [True, True, True, False]
    assert matching.among(values, values[:0]).tolist() == [False] * 4
