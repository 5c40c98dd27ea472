"""What the report says of removals: each thing once, in words that fit its number."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.reviewing import curation


def cut(step: str, rule: str, *values: tuple[str, str], distance: float = 0.0) -> dict[str, Any]:
    """One dimension; values with their flags."""
    listed = [{"value": name, "flag": flag, "removed": 9, "before": 30} for name, flag in values]
    found = {"distance": distance, "flagged": len(values), "values": listed}
    return {"step": step, "rule": rule, "rate": 0.1, "removed": 9, "dimensions": {"gender": found}}


WOMEN, MEN = ("women", "over-removed"), ("men", "under-removed")


def flagged(*cuts: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(row["step"], row["rule"], row["value"]) for row in curation.flagged(cuts)}


def test_what_a_rule_shows_is_not_said_again_of_its_step_and_of_all() -> None:
    found = flagged(
        cut("all", "", WOMEN, MEN),
        cut("filter", "", WOMEN),
        cut("filter", "blurred", WOMEN),
        cut("dedup", "near_duplicate", MEN),
    )
    assert found == {("filter", "blurred", "women"), ("dedup", "near_duplicate", "men")}


def test_what_only_several_rules_together_show_is_said_of_the_step_or_of_all() -> None:
    found = flagged(
        cut("all", "", WOMEN, MEN), cut("filter", "", WOMEN), cut("filter", "blurred"), cut("filter", "blank")
    )
    assert found == {("all", "", "men"), ("filter", "", "women")}


def test_a_value_that_one_rule_hits_more_and_the_step_less_is_said_of_both() -> None:
    found = flagged(cut("filter", "", ("women", "under-removed")), cut("filter", "blurred", WOMEN))
    assert found == {("filter", "", "women"), ("filter", "blurred", "women")}


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (cut("filter", "blurred", distance=0.0049), []),
        (cut("filter", "blurred", distance=0.005), ["shifts gender most, by 0.5 points"]),
        (cut("filter", "blurred", WOMEN), ["1 value stands out"]),
        (cut("filter", "blurred", WOMEN, MEN), ["2 values stand out"]),
    ],
)
def test_half_a_point_is_the_least_that_is_told_and_numbers_agree_with_their_nouns(
    made: dict[str, Any], told: list[str]
) -> None:
    assert list(curation.standing_out(made)) == told
