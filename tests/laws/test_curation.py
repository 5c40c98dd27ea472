"""`pardalis filters` on a corpus that was built: pictures each side of a threshold, and what left."""

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
from pipeline.reviewing.curation import POINTS

from .conftest import Build, Deliveries, license_, sample

pytestmark = pytest.mark.plan
UNSEEN = license_(license_id="unseen", uses={**license_().uses.model_dump(), "retrieval_display": "deny"})
HOSTILE = "<script>alert('a')</script>"
LOOK = ["--set", "pipeline.filters.min_caption_chars = 16", "--rule", "min_caption_chars"]


@pytest.fixture
def corpus(tmp_path: Path, deliveries: Deliveries, built: Build) -> Corpus:
    """Eight rows: one that rights refuse, one that only its licence hides, one that the filter rejects."""
    found = Corpus(Store.at(tmp_path / "corpus"))
    samples = [
        sample(0, is_adult=True),
        sample(1, license_ids=["unseen"], description="a fairly long caption"),
        sample(2, description="x"),
        sample(3, description=HOSTILE),
        sample(4, description="short", categories=[{"name": "Food"}]),
        sample(5, description="a woman in a black dress"),
        *(sample(number) for number in (6, 7)),
    ]
    built(found, [deliveries.write(samples, {"a": license_(), "b": UNSEEN})], Inline(), to="split")
    return found


def asked(corpus: Corpus, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(["filters", *words, "--corpus", corpus.store.uri, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_another_threshold_is_previewed_without_building(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    before = corpus.store.names()
    step, screen = asked(corpus, capsys, "preview", *LOOK)["steps"]
    assert (step["step"], screen["step"], screen["rows"]) == ("filter", "screen", 6)
    (rule,) = step["rules"]
    assert (step["rows"], rule["bound"], rule["rejected_alone"]) == (7, 16, 2)
    assert [one["uid"] for one in rule["nearest_rejected"]] == ["acme:a0004", "acme:a0002"]
    assert rule["nearest_kept"][0]["value"] >= 16
    assert "acme:a0000" not in json.dumps(step)
    assert corpus.store.names() == before


def test_the_page_holds_pictures_of_what_may_be_shown_and_no_others(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert run(["filters", "preview", *LOOK, "--out", str(out), "--corpus", corpus.store.uri]) == 0
    html = out.read_text()
    assert html.count("data:image/jpeg;base64,") == 6
    assert html.count("no licence grants retrieval_display for it") == 1
    assert "acme:a0000" not in html
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html
    assert f"page: {out}" in capsys.readouterr().out


def test_the_report_accounts_for_every_row(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    found = asked(corpus, capsys, "report", "--out", str(out))
    assert found["delivered"] == 8 == sum(one["rows"] for one in found["outcomes"])
    assert found["before"] == 7
    everything, *rest = found["cuts"]
    (kept,) = [one["rows"] for one in found["outcomes"] if one["outcome"] == "kept"]
    assert everything["removed"] == 7 - kept == sum(cut["removed"] for cut in rest if cut["rule"])
    people = {one["value"]: one["before"] for one in everything["dimensions"]["gender"]["values"]}
    assert people == {"women": 1, "(none)": 6}
    html = out.read_text()
    assert "pipeline.filters.min_caption_chars" in html
    assert "0.000" not in html


def test_what_shifts_nothing_is_said_once(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["filters", "report", "--corpus", corpus.store.uri, "--json"]) == 0
    cuts = json.loads(capsys.readouterr().out)["cuts"]
    still = [cut for cut in cuts if max(one["distance"] for one in cut["dimensions"].values()) < POINTS]
    assert (
        run(["filters", "report", "--corpus", corpus.store.uri, "--out", corpus.store.where("r.html")]) == 0
    )
    said = capsys.readouterr().out
    assert said.count("no shift") == bool(still)
    assert said.count("points") == len(cuts) - len(still) + bool(still)


def test_a_corpus_without_filters_says_what_makes_them(
    tmp_path: Path, deliveries: Deliveries, built: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Corpus(Store.at(tmp_path / "corpus"))
    built(found, [deliveries.write([sample(1)])], Inline(), to="filter")
    assert run(["filters", "report", "--corpus", str(tmp_path / "nowhere"), "--json"]) == MISTAKE
    assert "run `pardalis ingest DELIVERY` first" in capsys.readouterr().err
    assert len(asked(found, capsys, "report")["cuts"]) == 1
