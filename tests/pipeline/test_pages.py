"""The page of borderline pictures, from a table of rows: it stands alone, and nothing in it can act."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import filters, pages, schema, screening
from pipeline.duplicates import DuplicateConfig
from pipeline.filters import FilterRules
from pipeline.likeness.linking import PASSES
from pipeline.reviewing import meanings, preview
from pipeline.reviewing.gates import Gate
from pipeline.screening import ScreenRules

HOSTILE = "<script>alert(1)</script>"
BREAKOUT = '"><img src="https://example.com/x.png">'
PICTURE = "data:image/jpeg;base64,AAAA"
RULES = FilterRules(min_side=64, max_caption_words=4)
COLUMNS = [*filters.READS, schema.UID, schema.KEY, schema.MAY_BE_SHOWN, schema.SLOT]


def row(number: int, **changes: Any) -> dict[str, Any]:
    facts = {"width": 64 + number, "height": 100, "pixel_std": 40.0, "ai_generated": "no", "moderation": []}
    words = {"description": f"apple {number}", "keywords": []}
    named = {"uid": f"acme:{number}", "key": f"acme_{number}", "may_be_shown": True, "slot": "00000-000000"}
    return facts | words | named | changes


ROWS = [
    row(-3),
    row(-2, may_be_shown=False),
    row(-1, description=HOSTILE),
    row(0, description=BREAKOUT),
    row(1, uid=f"acme:{HOSTILE}"),
    row(2, description="a b c d e"),
]


PAIRS = {
    "code": "near_duplicate",
    "setting": "pipeline.duplicates.max_hamming",
    "meaning": "one picture",
    "rows": 1,
    "bits": {3: 1},
    "pairs": [
        {
            "hamming": 3,
            "cosine": None,
            "out": row(7, description=HOSTILE, key="acme_0"),
            "stays": row(8, may_be_shown=False),
        }
    ],
}


class Parsed(HTMLParser):
    """Every element with its attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def page(*codes: str) -> Parsed:
    table = pa.Table.from_pylist(ROWS, pa.schema(COLUMNS))
    gate = Gate(step="filter", rows=table, rules=filters.rules_of(table, RULES))
    asked = preview.asked([one.code for one in gate.rules], codes)
    steps = [preview.measured(gate, asked, count=4)]
    shown = {("00000-000000", one["key"]): PICTURE for one in ROWS if one["may_be_shown"]}
    facts = {"corpus": "corpus", "version": 1, "as_of": "2026-06-01T00:00:00+00:00", "objection": None}
    html = pages.rendered("preview.html", **facts, steps=steps, duplicates=[PAIRS], pictures=shown)
    return Parsed(html)


def test_the_page_needs_no_other_file_and_runs_nothing() -> None:
    found = page()
    references = ("src", "srcset", "action", "data", "poster")
    loaded = [value for _, facts in found.elements for name, value in facts.items() if name in references]
    assert set(loaded) == {PICTURE}
    links = [facts["href"] for _, facts in found.elements if "href" in facts]
    assert all(link and link.startswith("#") for link in links)
    assert not {"script", "iframe", "object", "embed", "link", "base"} & {tag for tag, _ in found.elements}
    assert not [name for _, facts in found.elements for name in facts if name.startswith("on")]
    (policy,) = [facts["content"] for _, facts in found.elements if "http-equiv" in facts]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:")


def test_both_sides_show_their_pictures_with_value_uid_and_caption() -> None:
    found = page("min_side")
    pictures = [facts for tag, facts in found.elements if tag == "img"]
    assert len(pictures) == 2 + 3 + 1
    for one in ROWS:
        assert one["uid"] in found.words
        assert one["description"] in found.words
        assert f"{one['width']} " in " ".join(found.words.split())


def test_what_may_not_be_shown_is_a_box_with_its_uid() -> None:
    assert page("min_side").words.count("no licence grants retrieval_display for it") == 1 + 1


def test_a_row_that_another_rule_rejects_too_says_so() -> None:
    assert "also max_caption_words" in page("min_side").words


def test_a_duplicate_stands_beside_the_row_that_stays() -> None:
    words = " ".join(page("min_side").words.split())
    assert re.search(r"out acme:7 .* stays acme:8 .* 3 of 64 bits apart", words)


ON = ("min_side", "blurred", "pii_email", "pii_phone", "near_duplicate")


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("blurred", {"blurred"}),
        ("min_sharpness", {"blurred"}),
        ("filters.min_sharpness", {"blurred"}),
        ("pipeline.filters.min_sharpness", {"blurred"}),
        ("pii", {"pii_email", "pii_phone"}),
        ("max_hamming", {"near_duplicate"}),
    ],
)
def test_a_rule_is_asked_for_by_its_code_or_by_its_setting(name: str, codes: set[str]) -> None:
    assert preview.asked(ON, [name]) == codes
    assert preview.asked(ON, [name, "min_side"]) == codes | {"min_side"}
    assert preview.asked(ON, []) == set(ON)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("blak", "no rule 'blak' is on; those that are: min_side, blurred (min_sharpness), pii_email (pii)"),
        ("max_keywords", "no rule 'max_keywords' is on; set pipeline.filters.max_keywords, which switches"),
        (
            "max_nsfw",
            "set pipeline.screen.max_nsfw and its scorer in pipeline.scores, and run `pardalis build",
        ),
        ("exact_duplicate", "duplicates are found by `pardalis build --to dedup`"),
        ("semantic_threshold", "duplicates are found by `pardalis build --to dedup`"),
    ],
)
def test_a_rule_that_is_not_on_is_told_with_what_switches_it_on_and_with_those_there_are(
    name: str, told: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        preview.asked(ON, [name])


@pytest.mark.parametrize("name", ["page.png", "nowhere/page.html"])
def test_a_place_where_no_page_can_be_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--out {tmp_path / name}"):
        pages.place(tmp_path / name)


EVERY = FilterRules(
    min_sharpness=1,
    ai_generated=("no",),
    moderation={"Explicit Nudity": 0.5},
    max_keywords=1,
    max_keyword_words=1,
    languages=("en",),
)
EVERY_SCREEN = ScreenRules(
    max_nsfw=0.5,
    max_stock_marks=0,
    max_text_repeats=1,
    max_text_share=0.25,
    max_faces=3,
    max_unrecorded_face=0.125,
    min_alignment=0.2,
    min_aesthetic=4,
)


def test_every_rule_has_a_meaning_and_names_the_setting_that_is_its_bound() -> None:
    table = pa.Table.from_pylist(ROWS, pa.schema([*COLUMNS, schema.PEOPLE, *schema.MEASURED]))
    for rules, found in (
        (EVERY, filters.rules_of(table, EVERY)),
        (EVERY_SCREEN, screening.rules_of(table, EVERY_SCREEN)),
    ):
        for rule in found:
            meaning = meanings.of(rule.code)
            assert meaning.told
            assert meaning.fix
            step, name = meaning.setting.split(".")[1:]
            assert step == ("filters" if rules is EVERY else "screen")
            told = getattr(rules, name)
            assert not isinstance(told, int | float) or told == rule.bound


def test_every_duplicate_pass_has_a_meaning() -> None:
    for code in PASSES:
        meaning = meanings.of(code)
        assert meaning.told
        assert meaning.fix
        name = meaning.setting.removeprefix("pipeline.duplicates.")
        assert not name or name in DuplicateConfig.model_fields
