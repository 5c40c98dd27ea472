"""Figures of the card are counted again, in plain Python over the rows of the files that the card names."""

from __future__ import annotations

import collections
import io
import json
import math
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.card.parts import ABOUT_CONTENT
from pipeline.filtering import pii
from pipeline.reviewing import identity_terms
from tests.pipeline.card.conftest import BENCHMARK
from tests.pipeline.card.written import LICENSES, NAMED, Written

pytestmark = pytest.mark.long
Card = dict[str, Any]
LEAST = 10


class Recount:
    """What the card's sources hold, as Python objects."""

    def __init__(self, written: Written, card: Card) -> None:
        self.root = Path(written.corpus.store.where(""))
        self.card = card
        self.rows = list(self.read("rights.outcomes"))
        records = [json.loads(row["record"]) for row in self.read("representation.identity")]
        self.records = {f"{one['provider']}:{one['asset_id']}": one for one in records}
        self.kept = [row for row in self.rows if row["outcome"] == "kept"]

    def read(self, figure: str) -> Iterator[dict[str, Any]]:
        """The rows of the file that a figure says it was counted from."""
        source = self.card["figures"][figure]["from"]
        manifest = self.root / "artifacts" / source["step"] / f"{source['artifact']}.json"
        for _, shard in sorted(json.loads(manifest.read_text())["shards"].items()):
            folder = self.root / "shards" / source["step"] / shard["key"]
            data = (folder / source["file"]).read_bytes()
            yield from pq.read_table(io.BytesIO(data)).to_pylist()

    def values(self, figure: str) -> Any:
        return self.card["figures"][figure]["values"]

    def texts(self, row: dict[str, Any]) -> list[str]:
        record = self.records[row["uid"]]
        return [record["description"], *record.get("keywords", ())]

    def words(self, row: dict[str, Any]) -> set[str]:
        return set(re.findall(r"[^\W_]+", " ".join(self.texts(row)).lower()))

    def names(self, row: dict[str, Any], axis: str = "gender") -> set[str]:
        return {group for found, group in identity_terms.named(self.texts(row)) if found == axis}


@pytest.fixture(scope="module")
def recount(written: Written, card: Card) -> Recount:
    return Recount(written, card)


def told(count: int) -> int | None:
    return None if 0 < count < LEAST else count


def code(row: dict[str, Any]) -> str:
    return row["reasons"][0].partition(":")[0] if row["reasons"] else ""


def test_every_row_has_one_outcome(recount: Recount) -> None:
    counted = collections.Counter((row["settled_by"], row["outcome"], code(row)) for row in recount.rows)
    found = {(r["step"], r["outcome"], r["code"]): r["assets"] for r in recount.values("rights.outcomes")}
    few = {key for key, count in counted.items() if key[2] in ("adult", "minors") and count < LEAST}
    assert found == {key: None if key in few else count for key, count in counted.items()}
    assert sum(counted.values()) == sum(count for _, count in NAMED)
    assert {code for _, _, code in few} == {"adult", "minors"}
    assert {"release", "adult", "minors", "blurred", "near_duplicate", ""} == {code for _, _, code in found}


def test_licences(recount: Recount) -> None:
    counted = collections.Counter(f"acme:{name}" for row in recount.kept for name in row["licenses"])
    assert {row["license"]: row["assets"] for row in recount.values("rights.licenses")} == counted


def test_an_asset_with_two_licences_of_a_kind_is_one_of_it(recount: Recount) -> None:
    kinds = [{LICENSES[name].kind for name in row["licenses"]} for row in recount.kept]
    counted = collections.Counter(kind for one in kinds for kind in one)
    assert {row["kind"]: row["assets"] for row in recount.values("rights.kinds")} == counted
    licences = {row["license"]: row["assets"] for row in recount.values("rights.licenses")}
    assert counted["spdx"] == licences["acme:words"] > licences["acme:drawn"] > 0


def ends(names: list[str]) -> datetime | None:
    """The first of picture and words to end, each with the last licence that covers it."""
    last = []
    for part in ("image", "text"):
        until = [LICENSES[name].valid_until for name in names if part in LICENSES[name].covers]
        last.append(None if None in until else max(one for one in until if one))
    return min((one for one in last if one), default=None)


def test_months_in_which_terms_end(recount: Recount) -> None:
    months = [ends(row["licenses"]) for row in recount.kept]
    counted = collections.Counter(one.strftime("%Y-%m") if one else "no end" for one in months)
    assert recount.values("rights.expiry") == counted
    assert set(counted) == {"2026-07", "2027-03", "2028-01", "no end"}
    assert recount.values("rights.soon")["within_90_days"] == counted["2026-07"]


def test_releases_of_people(recount: Recount) -> None:
    counted = collections.Counter((row["people"], row["release"]) for row in recount.kept)
    found = {(row["people"], row["release"]): row["assets"] for row in recount.values("people.releases")}
    assert found == counted == {("yes", "unlimited"): counted["yes", "unlimited"], **dict(counted)}


def test_countries_of_contributors(recount: Recount) -> None:
    counted = collections.Counter(
        recount.records[row["uid"]]["contributor"]["country"] for row in recount.kept
    )
    rows = recount.values("representation.contributor_country")
    assert {row["country"]: row["assets"] for row in rows} == counted


def test_language_and_origin_of_captions(recount: Recount) -> None:
    def of(row: dict[str, Any]) -> tuple[str, str]:
        record = recount.records[row["uid"]]
        same = [one for one in record.get("descriptions", ()) if one["text"] == record["description"]]
        return (same[0]["lang"], same[0]["origin"]) if same else ("not stated", "not stated")

    counted = collections.Counter(map(of, recount.kept))
    rows = recount.values("representation.primary_text")
    assert {(row["language"], row["origin"]): row["assets"] for row in rows} == counted


def test_who_is_named(recount: Recount) -> None:
    for axis in identity_terms.TERMS:
        counted = collections.Counter(group for row in recount.kept for group in recount.names(row, axis))
        unmarked = sum(not recount.names(row, axis) for row in recount.kept)
        rows = {r["group"]: r for r in recount.values("representation.identity") if r["axis"] == axis}
        for group in identity_terms.TERMS[axis]:
            assert rows[group]["assets"] == told(counted[group]), (axis, group)
        marked = len(recount.kept) - unmarked
        assert rows["(nobody named)"]["assets"] == (None if told(marked) is None else unmarked)
    assert recount.values("representation.identity")[0]["assets"]


def test_an_association_and_its_interval(recount: Recount) -> None:
    marked = [(recount.names(row), recount.words(row)) for row in recount.kept if recount.names(row)]
    for attribute, word in (("CEO", "ceo"), ("nurse", "nurse")):
        women = [words for groups, words in marked if "women" in groups]
        others = [words for groups, words in marked if "women" not in groups]
        both, elsewhere = (sum(word in words for words in part) for part in (women, others))
        rows = [*recount.values("associations.skewed"), *recount.values("associations.always")]
        (row, *_) = (r for r in rows if r["attribute"] == attribute and r.get("group") == "women")
        assert (row["group_total"], row["marked"]) == (len(women), len(marked))
        if told(both) is None or told(elsewhere) is None:
            assert row["together"] is row["elsewhere"] is row["log2_ratio"] is row["npmi"] is None
            continue
        assert (row["together"], row["elsewhere"]) == (both, elsewhere)
        a, b, n, m = both + 0.5, elsewhere + 0.5, len(women) + 0.5, len(others) + 0.5
        error = 1.959964 * math.sqrt(1 / a - 1 / n + 1 / b - 1 / m)
        middle = math.log(a / n * m / b)
        assert row["log2_ratio"] == pytest.approx(middle / math.log(2))
        assert row["low"] == pytest.approx((middle - error) / math.log(2))
        assert row["high"] == pytest.approx((middle + error) / math.log(2))
        share = both / len(marked)
        pmi = math.log(share / (len(women) / len(marked) * (both + elsewhere) / len(marked)))
        assert row["npmi"] == pytest.approx(pmi / -math.log(share))


def test_whom_a_step_takes_out(recount: Recount) -> None:
    came = [row for row in recount.rows if row["settled_by"] != "decide" or code(row) in ABOUT_CONTENT]
    for step, rule in (("decide", "release"), ("filter", "blurred"), ("dedup", "near_duplicate")):
        here = [row for row in came if code(row) == rule]
        (cut,) = (one for one in recount.values("shift.cuts") if one["rule"] == rule)
        assert (cut["step"], cut["entered"], cut["removed"]) == (step, len(came), len(here))
        women = [sum("women" in recount.names(row) for row in part) for part in (came, here)]
        gender = {one["group"]: one for one in cut["groups"] if one["dimension"] == "gender"}
        row = gender["women"]
        others, left = len(here) - women[1], women[0] - women[1]
        hidden = None in (told(women[1]), told(others), told(left))
        # One alone that is withheld would follow from the sum: the smallest of the others goes with it.
        withheld = [name for name, one in gender.items() if one["removed"] is None]
        hidden |= len(withheld) == 2 and "women" in withheld
        assert len(withheld) != 1
        assert (row["entered"], row["removed"]) == (women[0], None if hidden else women[1])
        came = [row for row in came if row["settled_by"] != step or row["outcome"] == "kept"]
    assert row["flag"] == "over-removed"


def gini(amounts: list[int]) -> float:
    differences = sum(abs(one - other) for one in amounts for other in amounts)
    return differences / (2 * len(amounts) * sum(amounts))


def test_citations_and_how_uneven_they_are(recount: Recount) -> None:
    members = {row["uid"]: 0 for row in recount.kept if row["split"] == "train" and row["may_be_neighbor"]}
    for row in recount.read("retrieval.candidates"):
        for cited in row["candidates"]:
            if cited["uid"] in members:
                members[cited["uid"]] += 1
    found = recount.values("retrieval.candidates")
    assert (found["members"], found["citations"]) == (len(members), sum(members.values()))
    assert found["gini"] == pytest.approx(gini(list(members.values())))
    first = sorted(members.values(), reverse=True)[: max(len(members) // 100, 1)]
    assert found["top_1_percent_share"] == pytest.approx(sum(first) / sum(members.values()))


def test_contributors(recount: Recount) -> None:
    counted = collections.Counter(row["contributor"] for row in recount.kept)
    found = recount.values("contributors.spread")
    assert found["contributors"] == len(counted)
    assert found["gini"] == pytest.approx(gini(list(counted.values())))
    assert found["top_10_share"] == pytest.approx(
        sum(n for _, n in counted.most_common(10)) / len(recount.kept)
    )


def test_safety_terms_and_personal_data(recount: Recount) -> None:
    pistols = sum("pistol" in recount.words(row) for row in recount.kept)
    rows = {row["category"]: row["assets"] for row in recount.values("safety.terms")}
    assert rows["weapons"] == recount.values("safety.any_term")["assets"] == told(pistols)
    kinds = collections.Counter(
        kind
        for row in recount.kept
        for kind in {k for text in recount.texts(row) for *_, k in pii.spans(text)}
    )
    found = recount.values("safety.personal")
    assert {kind: found[kind] for kind in pii.KINDS} == {kind: told(kinds[kind]) for kind in pii.KINDS}
    assert kinds["phone"] == pistols
    assert "020 7946" not in json.dumps(recount.card)


def test_captions_of_a_benchmark(recount: Recount) -> None:
    def runs(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"[^\W_]+", text.lower())
        return {tuple(words[place : place + 6]) for place in range(len(words) - 5)}

    theirs = set().union(*map(runs, BENCHMARK))
    texts = [recount.records[row["uid"]]["description"] for row in recount.kept]
    (row,) = recount.values("contamination.captions")
    assert row["assets_sharing_words"] == sum(bool(runs(text) & theirs) for text in texts) > 1
    assert row["captions"] == 3
    whole = {" ".join(re.findall(r"[^\W_]+", one.lower())) for one in BENCHMARK}
    same = [one for one in texts if " ".join(re.findall(r"[^\W_]+", one.lower())) in whole]
    assert (row["assets_same"], row["captions_found"]) == (len(same), len(same)) == (1, 1)
    assert any(
        "city, number 15" in one for one in texts
    )  # whose words are all known, the last from elsewhere
