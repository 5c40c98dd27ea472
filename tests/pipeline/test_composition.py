"""What removal does to the parts of a corpus."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.reviewing import composition, identity_terms
from pipeline.reviewing.composition import ENOUGH, NONE, Shift

Mask = NDArray[np.bool_]
ROWS = st.lists(
    st.tuples(st.sampled_from(["photo", "vector", "", "illustration"]), st.booleans()),
    min_size=1,
    max_size=60,
)


def single(rows: list[tuple[str, bool]]) -> tuple[composition.Dimension, Mask]:
    column = pa.chunked_array([pa.array([value for value, _ in rows], pa.string())])
    return composition.single("image_type", column), np.array([gone for _, gone in rows])


@given(ROWS)
def test_shares_of_a_dimension_with_one_value_a_row_add_up_to_one(rows: list[tuple[str, bool]]) -> None:
    dimension, removed = single(rows)
    found = composition.shifts(dimension, removed)
    assert sum(one.share_before for one in found) == pytest.approx(1)
    assert sum(one.share_after for one in found) == pytest.approx(0 if removed.all() else 1)
    assert sum(one.removed for one in found) == removed.sum()


@given(ROWS)
def test_counts_are_those_of_plain_python(rows: list[tuple[str, bool]]) -> None:
    dimension, removed = single(rows)
    before = Counter(value or NONE for value, _ in rows)
    gone = Counter(value or NONE for value, out in rows if out)
    found = composition.shifts(dimension, removed)
    assert {one.value: one.before for one in found} == before
    assert {one.value: one.removed for one in found if one.removed} == gone
    assert [one.before for one in found] == sorted(before.values(), reverse=True)


@given(ROWS)
def test_where_nothing_is_removed_nothing_shifts(rows: list[tuple[str, bool]]) -> None:
    dimension, removed = single([(value, False) for value, _ in rows])
    found = composition.shifts(dimension, removed)
    assert {(one.ratio, one.flag, one.rate) for one in found} == {(1.0, None, 0.0)}
    assert composition.distance(dimension, removed) == 0


@given(ROWS)
def test_where_every_value_loses_the_same_part_nothing_shifts(rows: list[tuple[str, bool]]) -> None:
    halves = [(value, gone) for value, _ in rows for gone in (True, False)]
    dimension, removed = single(halves)
    assert composition.distance(dimension, removed) == pytest.approx(0)
    assert all(
        one.ratio == pytest.approx(1) and one.flag is None for one in composition.shifts(dimension, removed)
    )


@given(ROWS)
def test_a_distance_is_from_nothing_to_one(rows: list[tuple[str, bool]]) -> None:
    dimension, removed = single(rows)
    assert 0 <= composition.distance(dimension, removed) <= 1
    assert composition.distance(dimension, np.ones(len(rows), bool)) == 1


def test_a_value_that_goes_whole_is_half_of_what_there_was() -> None:
    dimension, removed = single([("photo", True)] * 3 + [("vector", False)] * 3)
    assert composition.distance(dimension, removed) == 0.5


def shift(gone: int, came: int) -> Shift:
    """Of one value, among a thousand rows of another that lose one in ten."""
    rest = [("photo", at % 10 == 0) for at in range(1000)]
    dimension, removed = single([*rest, *(("vector", at < gone) for at in range(came))])
    return next(one for one in composition.shifts(dimension, removed) if one.value == "vector")


@pytest.mark.parametrize(
    ("gone", "came", "flag"),
    [
        (ENOUGH, ENOUGH, "over-removed"),
        (ENOUGH - 1, ENOUGH - 1, None),
        (2, ENOUGH, None),
        (0, 100, "under-removed"),
        (0, ENOUGH, None),
    ],
)
def test_a_value_stands_out_where_its_interval_leaves_out_the_rate_of_all(
    gone: int, came: int, flag: str | None
) -> None:
    assert shift(gone, came).flag == flag


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(hits: int, total: int, low: float, high: float) -> None:
    assert composition.wilson(hits, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 500), st.integers(0, 500))
def test_an_interval_holds_its_share_and_mirrors(hits: int, misses: int) -> None:
    total = hits + misses
    low, high = composition.wilson(hits, total)
    assert 0 <= low <= (hits / total if total else 0.5) <= high <= 1
    mirrored = composition.wilson(misses, total)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-9)


@given(st.lists(st.sets(st.sampled_from("abcd")), min_size=1, max_size=30))
def test_a_row_counts_once_for_each_of_its_values(rows: list[set[str]]) -> None:
    column = pa.chunked_array([pa.array([sorted(row) * 2 for row in rows], pa.list_(pa.string()))])
    dimension = composition.several("categories", column)
    counts = dimension.counts(np.ones(len(rows), bool)).tolist()
    expected = Counter(value for row in rows for value in row or {NONE})
    assert dict(zip(dimension.names, counts, strict=True)) == expected


def test_equal_parts_count_in_full_and_a_giant_counts_alone() -> None:
    names = pa.chunked_array([pa.array([f"c{at % 10}" for at in range(100)])])
    equal = composition.concentration(composition.single("contributor", names), np.ones(100, bool))
    assert equal == {"count": 10, "largest": pytest.approx(0.1), "effective": pytest.approx(10)}
    giant = pa.chunked_array([pa.array(["c0"] * 97 + ["c1", "c2", "c3"])])
    found = composition.concentration(composition.single("contributor", giant), np.ones(100, bool))
    assert found["effective"] < 1.1
    assert (
        composition.concentration(composition.single("contributor", giant), np.zeros(100, bool))["count"] == 0
    )


@pytest.mark.parametrize(
    ("texts", "groups"),
    [
        (["A BLACK woman, smiling"], {"African and Black", "women"}),
        (["a woman in a black dress"], {"women"}),
        (["African-American fathers"], {"African and Black", "men"}),
        (["the woman\u2019s hat", "Oman, a manager, humanity"], {"women"}),
        (["old", "man"], {"men"}),
        (["an old man"], {"men", "older people"}),
        (["a blind spot", "window blind"], set()),
        (["blind person"], {"named disability"}),
        (["a non-binary teen"], {"transgender and non-binary", "teenagers"}),
        (["red apple"], set()),
    ],
)
def test_terms_are_whole_words_and_colors_need_a_person_behind_them(
    texts: list[str], groups: set[str]
) -> None:
    assert {group for _, group in identity_terms.named(texts)} == groups


def test_every_term_is_found_in_a_sentence_of_its_own() -> None:
    for axis, groups in identity_terms.TERMS.items():
        for group, words in groups.items():
            for term in words.split():
                said = term.replace("_*", " person").replace("_", " ").upper()
                assert (axis, group) in identity_terms.named([f"Portrait: {said}."]), term
