"""Laws of a catalogue's columns: filters and counts are those of a loop over rows; ids survive as bits."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from retrieval.serving import facts, subsets
from retrieval.serving.catalogue import Where
from retrieval.serving.facets import Facet
from retrieval.serving.lookup import Lookup

from .searched import DISPLAY, catalogue, everything, member

NAMES = st.sampled_from("abcd")
LISTS = st.lists(st.lists(NAMES, max_size=4) | st.none(), max_size=12)
TEXTS = st.lists(NAMES | st.none(), max_size=12)


@given(listed=LISTS, wanted=st.sets(st.sampled_from("abcx")), seed=st.integers(0, 9))
def test_a_facet_of_lists_matches_and_counts_as_a_loop_would(
    listed: list[list[str] | None], wanted: set[str], seed: int
) -> None:
    facet = Facet.of(pa.array(listed, pa.list_(pa.string())))
    assert facet.mask(wanted).tolist() == [bool(wanted & {*(values or ())}) for values in listed]
    among = np.random.default_rng(seed).random(len(listed)) < 0.5
    expected: dict[str, int] = {}
    for values, here in zip(listed, among.tolist(), strict=True):
        for value in {*(values or ())} if here else ():
            expected[value] = expected.get(value, 0) + 1
    assert facet.counts(among) == expected


@given(texts=TEXTS, wanted=st.sets(st.sampled_from("abcx")))
def test_a_facet_of_texts_does_too(texts: list[str | None], wanted: set[str]) -> None:
    facet = Facet.of(pa.array(texts, pa.string()))
    assert facet.mask(wanted).tolist() == [text in wanted for text in texts]
    every = np.ones(len(texts), np.bool_)
    assert facet.counts(every) == {text: texts.count(text) for text in texts if text is not None}


@given(st.lists(st.text(max_size=3), unique=True, max_size=20), st.text(max_size=3))
def test_a_row_is_found_by_its_text_whatever_letters_it_has(texts: list[str], other: str) -> None:
    found = Lookup.of(pa.array(texts, pa.string()))
    assert [found.row(text) for text in texts] == [*range(len(texts))]
    assert found.row(other) == (texts.index(other) if other in texts else None)


@given(st.sets(st.integers(0, 70), min_size=1), st.integers(0, 9))
def test_ids_survive_as_a_bitmap(ids: set[int], seed: int) -> None:
    found = catalogue([member(number, id=number) for number in ids])
    mask = np.random.default_rng(seed).random(len(ids)) < 0.5
    subset = subsets.of(found, mask)
    assert subset.among.bits is not None
    assert subsets.ids_of(subset.among.bits).tolist() == found.ids_N[mask].tolist()
    assert subset.count == mask.sum()


SIZES = {"landscape": (5, 4), "portrait": (4, 5), "square": (4, 4)}
DAYS = st.dates(date(2026, 1, 1), date(2026, 1, 9))
MEMBERS = st.lists(
    st.fixed_dictionaries(
        {
            "categories": st.lists(NAMES, max_size=2),
            "contributor": NAMES,
            "image_type": st.sampled_from(["photo", "vector"]),
            "date": DAYS | st.none(),
            "orientation": st.sampled_from([*SIZES]),
        }
    ),
    min_size=1,
    max_size=12,
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "category": st.sets(NAMES, min_size=1),
        "contributor": st.sets(NAMES, min_size=1),
        "image_type": st.sets(st.sampled_from(["photo", "vector", "none such"]), min_size=1),
        "orientation": st.sets(st.sampled_from([*SIZES]), min_size=1),
        "license": st.sets(st.sampled_from(["L-1", "L-2"]), min_size=1),
    },
)


def passes(row: dict[str, Any], filters: dict[str, set[str]], since: date | None, until: date | None) -> bool:
    has = {
        "category": {*row["categories"]},
        **{name: {row[name]} for name in ("contributor", "image_type", "orientation")},
        "license": {"L-1"},
    }
    dated = (since is None and until is None) or row["date"] is not None
    return (
        all(values & has[name] for name, values in filters.items())
        and dated
        and (since is None or row["date"] >= since)
        and (until is None or row["date"] <= until)
    )


@given(rows=MEMBERS, filters=FILTERS, since=DAYS | st.none(), until=DAYS | st.none())
def test_filters_let_pass_what_a_loop_over_rows_would(
    rows: list[dict[str, Any]], filters: dict[str, set[str]], since: date | None, until: date | None
) -> None:
    found = catalogue(
        [
            member(number, **{name: value for name, value in row.items() if name != "orientation"})
            | dict(zip(("width", "height"), SIZES[row["orientation"]], strict=True))
            for number, row in enumerate(rows)
        ]
    )
    named = tuple((name, frozenset(values)) for name, values in filters.items())
    where = Where(facets=named, since=since, until=until)
    subset = subsets.remembered(found)(everything(found)(DISPLAY), where)
    assert subset.mask_N.tolist() == [passes(row, filters, since, until) for row in rows]


def test_rows_are_in_the_order_of_ids_whatever_order_they_came_in() -> None:
    found = catalogue([member(2, id=1), member(1, id=5), member(3, id=3)])
    assert found.facts["uid"].to_pylist() == ["acme:2", "acme:3", "acme:1"]
    assert found.rows(np.array([5, 1])).tolist() == [2, 0]


def test_facets_are_told_by_their_counts_and_what_is_left_out_is_counted() -> None:
    rows = [member(number, contributor=f"c-{number:03}", categories=["all"]) for number in range(203)]
    found = catalogue([*rows, member(203, contributor="c-200", date=date(2026, 1, 2))])
    admitted = everything(found, hidden=lambda: {"acme:0"})(DISPLAY)
    told = facts.facets(admitted, found)
    assert told["facets"]["contributor"][:2] == [
        {"value": "c-200", "count": 2},
        {"value": "c-001", "count": 1},
    ]
    assert len(told["facets"]["contributor"]) == 200
    assert told["facets_left_out"] == {"contributor": 2}
    assert told["facets"]["category"] == [{"value": "all", "count": 202}]
    assert told["facets"]["license"] == [{"value": "L-1", "count": 203}]
    assert facts.dates(admitted, found) == {"first": "2026-01-02", "last": "2026-01-02"}
