import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import schema
from pipeline.filters import READS, FilterRules, judge, rules_of, stage

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


FULL = FilterRules(
    min_sharpness=10.0,
    ai_generated=("no", "unknown"),
    moderation={"Violence": 0.5, "Explicit Nudity": 0.25},
    max_keywords=3,
    max_keyword_words=2,
    min_caption_words=1,
    languages=("en",),
    min_side=64,
)
SPAM = "buy buy buy cheap shoes buy buy now buy"


def labels(*scores: tuple[str, float | None]) -> list[dict[str, object]]:
    return [{"name": name, "score": score} for name, score in scores]


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({}, None),
        ({"sharpness": 10.0}, None),
        ({"sharpness": 9.5, "image_type": "photo"}, "rejected:blurred: 9.5 < 10.0"),
        ({"sharpness": 9.5, "image_type": "unknown"}, "rejected:blurred: 9.5 < 10.0"),
        ({"sharpness": 9.5, "image_type": "vector"}, None),
        ({"sharpness": 9.5, "image_type": "illustration"}, None),
        ({"ai_generated": "unknown"}, None),
        ({"ai_generated": "partial"}, "rejected:ai_generated: partial"),
        ({"moderation": labels(("violence", 0.5), ("other", 1.0))}, None),
        ({"moderation": labels(("VIOLENCE", 0.75))}, "rejected:moderation_violence: 0.75 > 0.5"),
        (
            {"moderation": labels(("explicit-nudity", 0.125), ("Explicit Nudity", 0.5))},
            "rejected:moderation_explicit_nudity: 0.5 > 0.25",
        ),
        ({"moderation": labels(("violence", None))}, None),
        ({"description": SPAM}, f"rejected:top_word_share: {6 / 9} > 0.5"),
        ({"keywords": ["a", "b", "c"]}, None),
        ({"keywords": ["a", "b", "c", "d"]}, "rejected:max_keywords: 4 > 3"),
        ({"keywords": ["dog", "dogs", "Dog"]}, f"rejected:keyword_repeats: {1 - 1 / 3} > 0.5"),
        ({"keywords": ["a dog running"]}, "rejected:keyword_words: 3 > 2"),
        ({"description": "call 030 1234567"}, "quarantined:pii_phone: 1 > 0"),
    ],
)
def test_each_rule_that_is_on_has_its_own_code_value_and_threshold(facts: Row, verdict: str | None) -> None:
    told = {"ai_generated": "no", "moderation": [], "keywords": [], "image_type": "photo"}
    assert verdicts([row() | told | facts], FULL) == [verdict]


def test_a_label_without_a_score_is_denied_only_where_that_is_asked_for() -> None:
    facts = row() | {"moderation": labels(("violence", None), ("violence", 0.1))}
    assert verdicts([facts], FilterRules(moderation={"violence": 0.5}, min_side=64)) == [None]
    strict = FilterRules(moderation={"violence": 0.5}, deny_unscored=True, min_side=64)
    assert verdicts([facts], strict) == ["rejected:moderation_violence: 1 > 0.5"]


@pytest.mark.parametrize("names", [("A b", "a-b"), ("!",)])
def test_labels_that_are_one_or_none_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="labels need letters, and to differ"):
        FilterRules(moderation=dict.fromkeys(names, 0.5))


def test_a_rule_whose_bound_is_none_is_off() -> None:
    off = FilterRules(
        min_sharpness=None,
        max_top_word_share=None,
        max_repeated_share=None,
        max_listed_share=None,
        max_keyword_repeats=None,
        pii="keep",
    )
    facts = row(width=128, height=128, description=f"{SPAM}, a@b.org") | {"sharpness": 0.0}
    assert verdicts([facts | {"keywords": ["dog", "dog", "dog"]}], off) == [None]
    assert {rule.code for rule in rules_of(pa.Table.from_pylist([facts], pa.schema(READS)), off)} == {
        *("min_side", "max_aspect", "blank"),
        *("min_caption_chars", "max_caption_chars", "min_caption_words", "max_caption_words"),
    }


def test_every_rule_gives_a_number_or_null_for_every_row_and_codes_are_distinct() -> None:
    table = pa.Table.from_pylist([row(), row(description=SPAM), {"description": "a"}], pa.schema(READS))
    rules = rules_of(table, FULL)
    assert len({rule.code for rule in rules}) == len(rules) == 24
    for rule in rules:
        assert len(rule.value) == 3
        assert pa.types.is_integer(rule.value.type) or pa.types.is_floating(rule.value.type)
        assert np.isfinite(rule.bound)


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
