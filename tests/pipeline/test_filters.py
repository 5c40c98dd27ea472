import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import schema
from pipeline.filters import READS, FilterRules, judge, stage

RULES = FilterRules(
    min_side=64,
    max_aspect=3.0,
    min_pixel_std=2.0,
    min_caption_chars=3,
    max_caption_chars=20,
    min_caption_words=2,
    max_caption_words=4,
)
Row = dict[str, object]
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "width": st.integers(1, 500),
            "height": st.integers(1, 500),
            "description": st.text(st.sampled_from("ab ü\n中\u3000"), max_size=24),
            "pixel_std": st.floats(0, 4, width=32),
        }
    ),
    max_size=30,
)


def row(width: int = 64, height: int = 64, description: str = "red apple", pixel_std: float = 40) -> Row:
    return {"width": width, "height": height, "description": description, "pixel_std": pixel_std}


def verdicts(rows: list[Row], rules: FilterRules = RULES) -> list[str | None]:
    judged: list[str | None] = judge(pa.Table.from_pylist(rows, pa.schema(READS)), rules)[
        "verdict"
    ].to_pylist()
    return judged


def in_words(facts: Row) -> str | None:
    """The rules once more, for one row, in plain Python."""
    width, height, caption = int(str(facts["width"])), int(str(facts["height"])), str(facts["description"])
    chars, words = len(caption.strip()), len(caption.split())
    rules = {
        "min_side": min(width, height) < 64,
        "max_aspect": max(width, height) > 3 * min(width, height),
        "blank": float(str(facts["pixel_std"])) < 2,
        "min_caption_chars": chars < 3,
        "max_caption_chars": chars > 20,
        "min_caption_words": words < 2,
        "max_caption_words": words > 4,
    }
    return next((name for name, broken in rules.items() if broken), None)


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (row(), None),
        (row(width=63), "rejected:min_side: 63 < 64"),
        (row(width=192), None),
        (row(width=193), "rejected:max_aspect: 3.015625 > 3.0"),
        (row(height=193), "rejected:max_aspect: 3.015625 > 3.0"),
        (row(pixel_std=2), None),
        (row(pixel_std=1.5), "rejected:blank: 1.5 < 2.0"),
        (row(description="a b"), None),
        (row(description=" ab\n"), "rejected:min_caption_chars: 2 < 3"),
        (row(description="a" * 18 + " b"), None),
        (row(description="a" * 19 + " b"), "rejected:max_caption_chars: 21 > 20"),
        (row(description="apple"), "rejected:min_caption_words: 1 < 2"),
        (row(description="a b c d"), None),
        (row(description="a b c d e"), "rejected:max_caption_words: 5 > 4"),
        (row(description="日本の 城"), None),
    ],
)
def test_bounds_are_inclusive_and_a_verdict_says_value_and_threshold(facts: Row, verdict: str | None) -> None:
    assert verdicts([facts]) == [verdict]


@given(ROWS)
def test_the_first_broken_rule_is_the_verdict(rows: list[Row]) -> None:
    codes = [None if found is None else found.split(":")[1] for found in verdicts(rows)]
    assert codes == [in_words(facts) for facts in rows]


@pytest.mark.long
@given(ROWS)
def test_judging_rows_together_is_judging_them_alone(rows: list[Row]) -> None:
    assert verdicts(rows) == [verdicts([facts])[0] for facts in rows]


def test_what_nobody_measured_breaks_no_rule() -> None:
    facts = row() | {"width": None, "height": None, "pixel_std": None}
    wordless = facts | {"description": "apple"}
    found = verdicts([facts, row(width=63), wordless])
    assert found == [None, "rejected:min_side: 63 < 64", "rejected:min_caption_words: 1 < 2"]


def test_a_rule_at_its_weakest_admits_the_worst_picture() -> None:
    weakest = FilterRules(
        min_side=1, max_aspect=1e9, min_pixel_std=0, min_caption_chars=0, min_caption_words=0
    )
    assert verdicts([row(width=1, height=500, description="", pixel_std=0)], weakest) == [None]


@pytest.mark.parametrize("unit", ["chars", "words"])
def test_bounds_that_no_caption_can_meet_are_refused(unit: str) -> None:
    with pytest.raises(ValidationError, match=f"min_caption_{unit} = 9 is over max_caption_{unit} = 8"):
        FilterRules.model_validate({f"min_caption_{unit}": 9, f"max_caption_{unit}": 8})
    FilterRules.model_validate({f"min_caption_{unit}": 8, f"max_caption_{unit}": 8})


def test_the_stage_keeps_the_rows_and_adds_the_verdict() -> None:
    rule = stage(RULES)
    before = pa.Table.from_pylist([row(), row(width=1)], pa.schema(READS))
    after = rule.apply(rule.open(), before)
    assert after.drop_columns([schema.VERDICT.name]).equals(before)
    assert after.column_names == [*before.column_names, schema.VERDICT.name]
