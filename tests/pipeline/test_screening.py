"""Thresholds over scores: what breaks them, what nobody scored, and that every threshold has its scorer."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import config, schema, screening
from pipeline.reading import CONFIGS, BadConfig
from pipeline.screening import SCORER_OF, ScreenRules, joined, judge

ROW = pa.schema([schema.PEOPLE, *schema.MEASURED])
ALL = ScreenRules(
    max_nsfw=0.75,
    max_stock_marks=0,
    max_text_repeats=2,
    max_text_share=0.5,
    max_faces=3,
    max_unrecorded_face=0.25,
    min_alignment=0.125,
    min_aesthetic=4.5,
)
GOOD: dict[str, Any] = {
    "people": "no",
    "nsfw": 0.75,
    "stock_marks": 0,
    "text_repeats": 2,
    "text_share": 0.5,
    "faces": 3,
    "face_share": 0.25,
    "alignment": 0.125,
    "aesthetic": 4.5,
}
"""On every threshold."""
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "people": st.sampled_from(["yes", "no", "unknown"]),
            "nsfw": st.none() | st.sampled_from([0.5, 0.75, 1.0]),
            "stock_marks": st.none() | st.integers(0, 2),
            "text_repeats": st.none() | st.integers(0, 4),
            "text_share": st.none() | st.sampled_from([0.25, 0.75]),
            "faces": st.none() | st.integers(0, 5),
            "face_share": st.none() | st.sampled_from([0.125, 0.5]),
            "alignment": st.none() | st.sampled_from([0.0, 0.25]),
            "aesthetic": st.none() | st.sampled_from([4.0, 5.0]),
        }
    ),
    max_size=12,
)


def verdicts(rows: list[dict[str, Any]], rules: ScreenRules = ALL) -> list[str | None]:
    found: list[str | None] = judge(pa.Table.from_pylist(rows, ROW), rules)["verdict"].to_pylist()
    return found


@pytest.mark.parametrize(
    ("column", "value", "verdict"),
    [
        ("nsfw", 0.875, "rejected:nsfw: 0.875 > 0.75"),
        ("stock_marks", 1, "rejected:watermark: 1 > 0"),
        ("text_repeats", 3, "rejected:repeated_text: 3 > 2"),
        ("text_share", 0.625, "rejected:text_share: 0.625 > 0.5"),
        ("faces", 4, "rejected:faces: 4 > 3"),
        ("alignment", 0.0, "rejected:alignment: 0 < 0.125"),
        ("aesthetic", 4.25, "rejected:aesthetic: 4.25 < 4.5"),
        ("face_share", 0.375, "quarantined:unrecorded_face: 0.375 > 0.25"),
    ],
)
def test_bounds_are_inclusive_and_a_verdict_says_value_and_threshold(
    column: str, value: float, verdict: str
) -> None:
    assert verdicts([GOOD, {**GOOD, column: value}]) == [None, verdict]


@pytest.mark.parametrize("people", ["yes", "unknown"])
def test_a_face_is_unrecorded_only_where_the_record_says_that_nobody_is_there(people: str) -> None:
    assert verdicts([{**GOOD, "people": people, "face_share": 1.0}]) == [None]


@pytest.mark.long
@given(ROWS)
def test_judging_rows_together_is_judging_them_alone(rows: list[dict[str, Any]]) -> None:
    assert verdicts(rows) == [verdicts([row])[0] for row in rows]


@given(ROWS)
def test_with_no_threshold_set_nobody_is_out(rows: list[dict[str, Any]]) -> None:
    assert verdicts(rows, ScreenRules()) == [None] * len(rows)


def test_what_nobody_scored_breaks_nothing() -> None:
    assert verdicts([{"people": "no"}]) == [None]


def catalog(outcomes: list[str]) -> pa.Table:
    rows = [{"uid": f"a:{place}", "outcome": outcome} for place, outcome in enumerate(outcomes)]
    return pa.Table.from_pylist(rows, pa.schema([schema.UID, schema.OUTCOME]))


def scored(uids: list[str]) -> pa.Table:
    rows = [{"uid": uid, "revision": 0, "nsfw": int(uid[2:]) / 64} for uid in uids]
    return pa.Table.from_pylist(rows, schema.SCORES)


@given(st.lists(st.sampled_from(["kept", "rejected", "failed"]), max_size=8))
def test_every_kept_row_gets_its_own_scores_and_the_others_none(outcomes: list[str]) -> None:
    rows = catalog(outcomes)
    kept = [uid for uid, outcome in zip(rows["uid"].to_pylist(), outcomes, strict=True) if outcome == "kept"]
    table = joined(rows, scored(kept), schema.MEASURED)
    assert table.select(rows.column_names) == rows
    assert table.column_names[len(rows.column_names) :] == [column.name for column in schema.MEASURED]
    expected = [place / 64 if outcome == "kept" else None for place, outcome in enumerate(outcomes)]
    assert table["nsfw"].to_pylist() == expected


def test_scores_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nsfw, .* are of other rows"):
        joined(catalog(["kept", "rejected"]), scored(["a:1"]), schema.MEASURED)


def test_every_threshold_names_the_scorer_that_it_needs() -> None:
    assert set(SCORER_OF) == set(ScreenRules.model_fields)


@pytest.mark.parametrize(("threshold", "scorer"), SCORER_OF.items())
def test_a_threshold_without_its_scorer_is_refused_by_both_names(threshold: str, scorer: str) -> None:
    line = f"pipeline.screen.{threshold} = 1"
    with pytest.raises(BadConfig, match=rf"pipeline\.screen\.{threshold} = 1.*pipeline\.scores\.{scorer}"):
        config.load(CONFIGS / "node.toml", [line])
    on = "'head.pth'" if scorer == "aesthetic" else "true"
    config.load(CONFIGS / "node.toml", [line, f"pipeline.scores.{scorer} = {on}"])


def test_the_rules_of_a_table_are_those_whose_threshold_is_set() -> None:
    table = pa.Table.from_pylist([GOOD], ROW)
    assert len(screening.rules_of(table, ALL)) == len(ScreenRules.model_fields)
    (rule,) = screening.rules_of(table, ScreenRules(max_nsfw=0.5))
    assert (rule.code, rule.sign, rule.bound, rule.value.to_pylist()) == ("nsfw", ">", 0.5, [0.75])
