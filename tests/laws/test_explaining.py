"""`pardalis explain` says why: the rule behind each reason, and what every licence lacks by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.cli import run
from infra.corpus import Corpus
from infra.ending import MISTAKE
from infra.storage import Store
from pipeline.engine import Inline
from pipeline.reasons import RULES

from .conftest import Build, Deliveries, license_, sample

pytestmark = pytest.mark.plan
LICENSES = {
    "a": license_(),
    "b": license_(license_id="late", valid_from="2027-01-01T00:00:00Z"),
    "c": license_(
        license_id="nl",
        territory={"mode": "only", "countries": ["NL"]},
        uses={**license_().uses.model_dump()},
    ),
}


@pytest.fixture
def corpus(tmp_path: Path, deliveries: Deliveries, built: Build) -> Corpus:
    found = Corpus(Store.at(tmp_path / "corpus"))
    first = [
        sample(0, license_ids=["late", "acme-data-2026"]),
        sample(1, license_ids=["late", "nl", "nobody"]),
        sample(3, is_adult=True),
        sample(4, description="write to jane.doe@example.org for prints"),
    ]
    built(found, [deliveries.write(first, LICENSES)], Inline(), to="filter")
    built(found, [deliveries.write([sample(0, asset_revision=1)], LICENSES)], Inline(), to="filter")
    return found


def explained(corpus: Corpus, capsys: pytest.CaptureFixture[str], uid: str) -> list[dict[str, Any]]:
    assert run(["explain", uid, "--corpus", corpus.store.uri, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_every_revision_is_explained_and_every_licence_weighed_by_itself(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = explained(corpus, capsys, "acme:a0000")
    assert (old["outcome"], new["outcome"]) == ("rejected", "kept")
    assert old["license_verdicts"] == {"late": ["not_yet_valid"], "acme-data-2026": []}
    assert new["licenses"] == ["acme-data-2026"]
    assert (old["delivery"], new["delivery"]) == ("d0 (number 0 of acme)", "d1 (number 1 of acme)")
    (row,) = explained(corpus, capsys, "acme:a0001")
    assert row["license_verdicts"] == {
        "late": ["not_yet_valid"],
        "nl": ["territory"],
        "nobody": ["license_missing:nobody"],
    }
    assert row["rules"] == {"not_yet_valid": RULES["not_yet_valid"]}


def test_a_person_is_told_the_rule_in_words(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "acme:a0003", "--corpus", corpus.store.uri]) == 0
    said = capsys.readouterr().out
    assert "acme:a0003, revision 0: out, rejected by decide" in said
    assert "because of adult" in said
    assert RULES["adult"] in said
    assert "licence acme-data-2026, valid from 2020-01-01 on: admits every use that is needed" in said


def test_a_row_that_a_filter_took_out_is_told_the_rule_its_setting_and_what_to_do(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = explained(corpus, capsys, "acme:a0004")
    (reason,) = row["reasons"]
    assert reason == "pii_email: 1 > 0"
    assert row["settings"] == {reason: "pipeline.filters.pii"}
    assert run(["explain", "acme:a0004", "--corpus", corpus.store.uri]) == 0
    said = capsys.readouterr().out
    assert "quarantined by filter" in said
    assert "rule: personal data of this kind in caption and keywords" in said
    assert "setting: pipeline.filters.pii" in said
    assert 'pipeline.filters.pii = "redact", or have the words corrected and sent with a higher' in said


def test_an_asset_that_nobody_delivered_is_the_users_mistake(corpus: Corpus) -> None:
    assert run(["explain", "acme:nobody", "--corpus", corpus.store.uri]) == MISTAKE
