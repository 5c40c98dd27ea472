"""What the card reads of a shard, and what is never counted from it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.artifact import Corrupt
from infra.corpus import Corpus
from infra.storage import Store
from pipeline import schema
from pipeline.card import associations, drawing, parts, rights, safety, shifts
from pipeline.card.contamination import Contamination
from pipeline.card.matching import Matcher
from pipeline.card.parts import Part
from pipeline.card.rights import Terms
from pipeline.card.termlists import loaded
from pipeline.filtering import pii
from tests.laws.conftest import license_
from tests.pipeline.card import written

MATCHER = Matcher.of(loaded({}))
NEEDED = frozenset({"ml_training", "generation"})


def part(*rows: tuple[str, str, str]) -> Part:
    """Rows of a caption, the step that settled them, and a reason."""
    records = [json.dumps({"description": text, "has_minors": "no"}) for text, _, _ in rows]
    columns = {
        schema.UID.name: [f"acme:{number}" for number in range(len(rows))],
        schema.OUTCOME.name: ["rejected" if step else "kept" for _, step, _ in rows],
        schema.SETTLED_BY.name: [step for _, step, _ in rows],
        schema.REASONS.name: pa.array([[why] if why else [] for _, _, why in rows], pa.list_(pa.string())),
        schema.DESCRIPTION.name: [text for text, _, _ in rows],
        schema.KEYWORDS.name: pa.array([[]] * len(rows), pa.list_(pa.string())),
        schema.IMAGE_TYPE.name: ["photo"] * len(rows),
        schema.PEOPLE.name: ["yes"] * len(rows),
    }
    told = parts.parsed(pa.chunked_array([records]))
    return Part(slot="00000-000000", rows=pa.table(columns), told=told, matcher=MATCHER)


def test_words_that_rights_refused_are_read_only_where_what_is_pictured_is_why() -> None:
    rows = [("a woman", "decide", why) for why in ("release:model", "adult", "minors", "editorial")]
    never = ("revoked:r1", "expired", "no_license:image", "embedded_prohibition:ml_training", "superseded")
    rows += [("a woman", "decide", why) for why in never]
    rows += [("a woman", "filter", "blurred"), ("a woman", "", "contract_prevails:7")]
    found = part(*rows)
    read = [True] * 4 + [False] * len(never) + [True, True]
    assert found.readable.tolist() == read
    assert set(found.found.rows.tolist()) == {place for place, one in enumerate(read) if one}


def test_a_record_that_is_none_says_nothing() -> None:
    told = parts.parsed(
        pa.chunked_array([[None, '{"description": "x", "extra": {"a": "b"}, "keywords": []}']])
    )
    assert told["description"].to_pylist() == [None, "x"]
    assert told["is_adult"].to_pylist() == [None, None]
    assert parts.parsed(pa.chunked_array([[]], pa.string())).num_rows == 0


def test_the_first_reason_counts_by_its_code() -> None:
    lists = pa.array([[], ["a:b", "c"], ["d"], [], ["e: f"]], pa.list_(pa.string()))
    assert parts.codes_of(lists).to_pylist() == ["", "a", "d", "", "e"]
    assert parts.codes_of(lists[1:4]).to_pylist() == ["a", "d", ""]
    assert parts.codes_of(lists[:1]).to_pylist() == [""]


@pytest.mark.parametrize(("left", "told"), [(0, 40), (1, None), (9, None), (10, 40)])
def test_what_a_step_leaves_of_a_group_is_not_given_away(left: int, told: int | None) -> None:
    rows = [("a woman", "dedup", "near_duplicate")] * 15 + [("a woman", "dedup", "exact_duplicate")] * 40
    rows += (
        [("a woman", "", "")] * left + [("a man", "dedup", "exact_duplicate")] * 30 + [("a man", "", "")] * 30
    )
    found = shifts.Shifts(associations.axes(MATCHER.labels))
    shard = part(*rows)
    found.add(shard, associations.masked(MATCHER.labels, shard.found, len(rows)))
    exact = found.cuts()[0]
    assert (exact["rule"], exact["removed"]) == ("exact_duplicate", 70)
    (women,) = (row for row in exact["groups"] if row["group"] == "women")
    assert (women["entered"], women["removed"]) == (55 + left, told)
    assert (women["rate"] is None) == (women["ratio"] is None) == (told is None)


@pytest.mark.long
def test_records_of_other_assets_are_no_records(tmp_path: Path) -> None:
    found = written.write(tmp_path)
    version = found.versions[0]
    swapped = Corpus(Store.at(tmp_path / "corpus"))
    name = f"artifacts/records/{version.artifacts['records']}.json"
    manifest = json.loads(swapped.store.read(name))
    slots = list(manifest["shards"])
    first, second = (manifest["shards"][slot] for slot in slots[:2])
    manifest["shards"] |= {slots[0]: second, slots[1]: first}
    Path(swapped.store.where(name)).write_text(json.dumps(manifest))
    with pytest.raises(Corrupt, match="list other assets"):
        list(parts.read(swapped, version, MATCHER))


def ends(*changes: dict[str, object]) -> Terms:
    return rights.terms([license_(license_id=f"l{i}", **one) for i, one in enumerate(changes)], NEEDED)


def test_an_asset_ends_with_the_first_of_its_parts_and_a_part_with_its_last_licence() -> None:
    early, late = "2026-07-01T00:00:00Z", "2027-07-01T00:00:00Z"
    both = ends({"valid_until": early}, {"valid_until": late, "after_term": "unknown"})
    assert (both.ends, both.after_term) == (datetime(2027, 7, 1, tzinfo=UTC), "unknown")
    assert ends({"valid_until": early}, {}).ends is None
    split = ends({"covers": ["image"]}, {"covers": ["text"], "valid_until": early})
    assert split.ends == datetime(2026, 7, 1, tzinfo=UTC)


def test_a_licence_that_grants_less_does_not_lengthen_the_term() -> None:
    uses = {**license_().uses.model_dump(), "generation": "deny"}
    found = ends({"valid_until": "2026-07-01T00:00:00Z"}, {"uses": uses, "tier": "editorial"})
    assert found.ends == datetime(2026, 7, 1, tzinfo=UTC)
    assert found.tier == "data"


def test_every_month_is_drawn_and_what_lies_beyond_is_summed() -> None:
    found = drawing.calendar({"2026-07": 5, "2050-01": 7, rights.NEVER: 3})
    assert [one["year"] for one in found["years"]] == list(range(2026, 2026 + drawing.YEARS))
    assert [month["count"] for month in found["years"][0]["months"]] == [0] * 6 + [5] + [0] * 5
    assert (found["later"], found["never"]) == (7, 3)
    assert drawing.calendar({rights.NEVER: 3})["years"] == []


@pytest.mark.parametrize(
    "text",
    [
        "call +49 30 901820",
        "write to ann@example.org",
        "ann\uff20example.org",
        "call ٠٢٠ ٧٩٤٦ ٠٩٥٨ or phone ٠٢٠٧٩٤٦٠٩٥٨",
    ],
)
def test_what_may_be_personal_is_looked_through(text: str) -> None:
    found = safety.Safety(MATCHER.labels)
    found.add(part((text, "", ""), ("a dog", "", "")))
    assert found.any_personal == bool(list(pii.spans(text)))


def test_runs_of_words_do_not_go_from_one_caption_into_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("one two three four five\n")
    found = Contamination.of({"b": str(path)}, 4)
    found.add(part(("one two", "", ""), ("three four five", "", ""), ("One, two; THREE four", "", "")))
    found.add(part(("one two x three four", "", ""), ("one two three four five", "", "")))
    found.add(part(("one two three four five six", "", ""), ("one two three four", "filter", "blurred")))
    (row,) = found.figure().values
    assert (row["assets_sharing_words"], row["assets_same"], row["captions_found"]) == (3, 1, 1)
    assert row["share"] == 3 / 6


def test_a_benchmark_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a text with a caption a line"):
        Contamination.of({"b": str(tmp_path / "none")}, 8)


def test_the_kept_of_a_part_are_told_by_a_mask() -> None:
    found = part(("a man", "", ""), ("a man", "filter", "blurred"))
    assert found.found.of(found.kept).rows.tolist() == [0]
    assert found.found.rows.dtype == np.int64
