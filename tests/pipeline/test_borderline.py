"""What lies on both sides of a threshold, once more in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import filters, schema
from pipeline.filtering.rules import Rule
from pipeline.filters import FilterRules
from pipeline.reviewing import borderline, histograms
from pipeline.reviewing.borderline import BINS

# Few different values, so that many are equal and many lie on the bound itself.
NUMBERS = st.sampled_from([None, math.nan, -1.0, 0.0, 0.1, 0.3, 1.0, 2.0, 2.5, 7.0, 400.0])
VALUES = st.lists(NUMBERS, max_size=40)
BOUNDS = st.sampled_from([-2.0, 0.0, 0.3, 2.0, 500.0])
SIGNS = st.sampled_from(["<", ">"])
Sign = Literal["<", ">"]


def rule(values: list[float | None], sign: Sign = "<", bound: float = 2.0, code: str = "rule") -> Rule:
    return Rule(code=code, value=pa.chunked_array([pa.array(values, pa.float64())]), sign=sign, bound=bound)


def breaks(value: float, sign: Sign, bound: float) -> bool:
    return value < bound if sign == "<" else value > bound


def known(values: list[float | None]) -> dict[int, float]:
    return {row: value for row, value in enumerate(values) if value is not None and not math.isnan(value)}


def uids(count: int) -> pa.ChunkedArray:
    """In an order that is not the rows'."""
    return pa.chunked_array([pa.array([f"acme:{(row * 7) % 41:02d}" for row in range(count)], pa.string())])


@given(VALUES, SIGNS, BOUNDS, st.integers(1, 9))
def test_borderline_rows_are_the_nearest_on_each_side_and_of_equals_the_first_by_uid(
    values: list[float | None], sign: Sign, bound: float, count: int
) -> None:
    names = uids(len(values))
    order = sorted((abs(value - bound), names[row].as_py(), row) for row, value in known(values).items())
    broken = [row for _, _, row in order if breaks(known(values)[row], sign, bound)]
    kept = [row for _, _, row in order if row not in broken]
    found = borderline.nearest(rule(values, sign, bound), names, count)
    assert found.rejected == tuple(broken[:count])
    assert found.kept == tuple(kept[:count])


@given(VALUES, SIGNS, BOUNDS)
def test_another_threshold_rejects_what_it_says(values: list[float | None], sign: Sign, bound: float) -> None:
    there = list(known(values).values())
    choices = borderline.what_if(rule(values, sign, bound))
    for choice in choices:
        assert choice.rejected == sum(breaks(value, sign, choice.bound) for value in there)
        assert choice.share == choice.rejected / len(there)
    assert [choice.rejected for choice in choices] == sorted(choice.rejected for choice in choices)
    assert (bound in {choice.bound for choice in choices}) == bool(there)


@given(VALUES, SIGNS, BOUNDS)
def test_every_measured_row_stands_in_one_bar_of_its_side(
    values: list[float | None], sign: Sign, bound: float
) -> None:
    found = borderline.histogram(rule(values, sign, bound))
    there = list(known(values).values())
    if found is None:
        assert not there
        return
    assert len(found.edges) == BINS + 1
    assert found.rejected.sum() == sum(breaks(value, sign, bound) for value in there)
    assert found.kept.sum() + found.rejected.sum() == len(there)


@pytest.mark.parametrize(
    ("values", "bound", "first"),
    [
        ([1.0, 10.0, 1000.0], 2.0, 1.0),
        ([0.0, 1.0, 10.0, 1000.0], 2.0, 0.0),
        ([0.0, 0.0, 0.0, 1.0, 1000.0], 2.0, None),
        ([-1.0, 1.0, 10.0, 1000.0], 2.0, None),
        ([1.0, 10.0, 1000.0], 0.0, None),
        ([1.0, 2.0, 20.0], 2.0, None),
    ],
)
def test_an_axis_counts_in_ratios_where_values_span_decades_and_most_are_above_zero(
    values: list[float | None], bound: float, first: float | None
) -> None:
    found = borderline.histogram(rule(values, bound=bound))
    assert found is not None
    assert (found.edges[0] if found.logarithmic else None) == first


@given(VALUES, SIGNS, BOUNDS)
def test_every_axis_has_labels_at_round_values_in_their_places(
    values: list[float | None], sign: Sign, bound: float
) -> None:
    drawing, found = (
        histograms.drawn(rule(values, sign, bound)),
        borderline.histogram(rule(values, sign, bound)),
    )
    if drawing is None or found is None:
        return
    places, labels = zip(*drawing.ticks, strict=True)
    assert 3 <= len(labels) <= 10
    assert all(found.edges[0] <= label <= found.edges[-1] for label in labels)
    assert list(places) == sorted(places)
    assert 0 <= places[0] <= places[-1] <= histograms.WIDTH
    assert all(f"{label:.3g}" == f"{label:.15g}" or label >= 1000 for label in labels)


def test_quantiles_are_values_that_are_there() -> None:
    found = borderline.quantiles(rule([4.0, 1.0, None, 3.0, math.nan, 2.0]))
    assert found["0"] == 1.0
    assert found["0.5"] == 2.0
    assert found["1"] == 4.0
    assert borderline.quantiles(rule([None])) == {}


@pytest.mark.parametrize(
    ("values", "level"),
    [([0.0] * 3, 0.0), ([0.0] * 2, None), ([0.0, 0.0, 1.0], None), ([5.0, 0.0, 0.0, 0.0, None], 0.0)],
)
def test_where_more_is_kept_than_shown_and_all_of_one_value_none_is_nearer(
    values: list[float | None], level: float | None
) -> None:
    assert borderline.level(rule(values, ">", 2.0), 2) == level


def test_a_row_tells_which_other_rules_it_breaks() -> None:
    rules = [
        rule([1.0, 9.0], "<", 2.0, "a"),
        rule([9.0, 9.0], ">", 5.0, "b"),
        rule([0.0, 9.0], "<", 1.0, "c"),
    ]
    assert borderline.also_broken(rules, rules[0], [1, 0]) == [("b",), ("b", "c")]


ROW = {"width": 64, "height": 64, "pixel_std": 40.0, "ai_generated": "no", "moderation": [], "keywords": []}
RULES = FilterRules(min_side=64, max_aspect=2.0, min_caption_words=2)


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200), st.sampled_from(["", "a", "red apple"]))))
def test_the_page_counts_what_the_step_rejects(rows: list[tuple[int, int, str]]) -> None:
    made: list[dict[str, Any]] = [
        ROW | {"width": width, "height": height, "description": caption} for width, height, caption in rows
    ]
    table = pa.Table.from_pylist(made, pa.schema(filters.READS))
    verdicts = filters.judge(table, RULES)[schema.VERDICT.name].to_pylist()
    judged = Counter(verdict.split(":")[1] for verdict in verdicts if verdict)
    asked = filters.rules_of(table, RULES)
    counted = dict(zip((one.code for one in asked), borderline.num_first(asked), strict=True))
    assert {code: count for code, count in counted.items() if count} == judged
    assert all(borderline.num_rejected(one) >= counted[one.code] for one in asked)
