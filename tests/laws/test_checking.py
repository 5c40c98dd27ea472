"""Laws of ``ingest --check``: it tells what ingestion would do, and leaves no trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.cli import MISTAKE, run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline import checking
from pipeline.config import Config
from pipeline.engine import Inline

from .conftest import AS_OF, Build, Deliveries, license_, sample

pytestmark = pytest.mark.plan
ADULT = {"is_adult": True}


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def delivered(deliveries: Deliveries, numbers: range, **changes: Any) -> str:
    adult = [sample(number, **ADULT) for number in list(numbers)[:1]]
    return deliveries.write([*adult, *(sample(number, **changes) for number in list(numbers)[1:])])


def test_a_check_tells_the_decisions_of_ingestion(
    tmp_path: Path, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    uri = delivered(deliveries, range(12))
    found = checking.check(None, [uri], tiny, AS_OF)
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    version = built(corpus, [uri], Inline(), to="filter")
    [told] = found["deliveries"]
    assert told["decisions"] == {"in": 12, **corpus.artifact(version, "decide").counts}
    assert told["decisions"] == {"in": 12, "kept": 11, "rejected:adult": 1}
    assert found["changes"] == {"new": 12, "superseded": 0, "kept again": 0}


def test_a_check_against_a_corpus_tells_what_would_change_and_changes_nothing(
    tmp_path: Path, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    built(corpus, [delivered(deliveries, range(12))], Inline(), to="filter")
    uri = deliveries.write([sample(3, asset_revision=1), sample(0, asset_revision=1), sample(40)])
    before = files(tmp_path)
    found = checking.check(corpus, [uri], tiny, AS_OF)
    assert found["deliveries"][0]["decisions"] == {"in": 3, "kept": 3}
    assert found["changes"] == {"new": 1, "superseded": 1, "kept again": 0}
    assert files(tmp_path) == before


def test_a_check_names_an_asset_for_every_reason_and_each_that_would_leave(
    tmp_path: Path, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    built(corpus, [delivered(deliveries, range(12))], Inline(), to="filter")
    asset, image = sample(4, asset_revision=1)
    broken = asset.model_copy(update={"file": asset.file.model_copy(update={"bytes": 7})})
    uri = deliveries.write([sample(3, asset_revision=1, **ADULT), (broken, image)])
    found = checking.check(corpus, [uri], tiny, AS_OF)
    [told] = found["deliveries"]
    assert told["examples"] == {
        "quarantined:size_mismatch": f"{asset.uid}: a0004.json: file.bytes: got 7; the image has "
        f"{len(image)}; correct the record, or send the image again",
        "rejected:adult": "acme:a0003: the corpus takes no adult content",
    }
    assert found["leaving"] == {"acme:a0003": "rejected:superseded", asset.uid: "quarantined:contested"}
    said = checking.text(found)
    assert "out: acme:a0003 (rejected:superseded)" in said
    assert "rejected:adult, such as acme:a0003: the corpus takes no adult content" in said


def test_a_check_against_a_corpus_on_s3_changes_no_object(
    s3: Store, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    corpus = Corpus(s3)
    built(corpus, [delivered(deliveries, range(4))], Inline(), to="filter")
    before = {name: s3.read(name) for name in s3.names()}
    found = checking.check(corpus, [deliveries.write([sample(3, asset_revision=1)])], tiny, AS_OF)
    assert found["changes"] == {"new": 0, "superseded": 1, "kept again": 0}
    assert {name: s3.read(name) for name in s3.names()} == before


def test_a_delivery_that_is_folded_in_already_changes_nothing(
    tmp_path: Path, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    corpus, uri = Corpus(Store.at(tmp_path / "corpus")), delivered(deliveries, range(12))
    built(corpus, [uri], Inline(), to="filter")
    found = checking.check(corpus, [uri], tiny, AS_OF)
    assert [told["decisions"]["in"] for told in found["deliveries"]] == [12]
    assert found["changes"] == {"new": 0, "superseded": 0, "kept again": 0}


def test_the_command_prints_json_and_writes_no_corpus(
    tmp_path: Path, deliveries: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = delivered(deliveries, range(6))
    before = files(tmp_path)
    at = ["--corpus", str(tmp_path / "corpus"), "--as-of", AS_OF.isoformat()]
    assert run(["ingest", uri, "--check", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out)["deliveries"][0]["decisions"]["in"] == 6
    assert run(["ingest", uri, "--check", *at]) == 0
    assert "acme d0 (number 0): in 6, kept 5, rejected:adult 1" in capsys.readouterr().out
    assert files(tmp_path) == before
    assert not (tmp_path / "corpus").exists()


def test_a_check_needs_no_corpus_at_all(
    tmp_path: Path,
    deliveries: Deliveries,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("PARDALIS_CORPUS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(["ingest", delivered(deliveries, range(3)), "--check"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert run(["ingest", "--check"]) == MISTAKE


def test_a_delivery_at_fault_ends_with_the_fault_and_code_2(
    tmp_path: Path, deliveries: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.at(delivered(deliveries, range(3)))
    [name] = store.names("shards/")
    store.write(name, store.read(name)[:-1] + b"x")
    assert run(["ingest", store.uri, "--check", "--corpus", str(tmp_path / "corpus")]) == MISTAKE
    assert "refused by rule sha256" in capsys.readouterr().err
    assert not (tmp_path / "corpus").exists()


def test_what_nobody_licensed_is_counted_and_is_no_fault(deliveries: Deliveries, tiny: Config) -> None:
    late = license_(valid_from="2027-01-01T00:00:00Z")
    uri = deliveries.write([sample(number) for number in range(3)], {"": late})
    [told] = checking.check(None, [uri], tiny, AS_OF)["deliveries"]
    assert told["decisions"]["kept"] == 0
    assert sum(told["decisions"].values()) == 2 * told["decisions"]["in"]
