"""What a corpus serves while it changes: never what was refused, never what is not granted."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pytest

from infra.cli import MISTAKE, run
from infra.corpus import Corpus, NoCorpus
from infra.storage import Store
from pipeline import refs, tables
from pipeline.engine import Inline
from pipeline.explaining import catalog_rows
from pipeline.indexing import MEMBERS, SEGMENT
from pipeline.neighbors import NEIGHBORS
from pipeline.searching import library
from retrieval.index import Index

from .conftest import TINY, Build, Deliveries, license_, sample

pytestmark = pytest.mark.plan


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.toml").write_text(TINY)
    corpus, config = str(tmp_path / "corpus"), str(tmp_path / "tiny.toml")
    return ["--corpus", corpus, "--config", config, "--engine", "inline"]


def test_what_has_just_been_refused_is_served_no_more(
    tmp_path: Path, deliveries: Deliveries, options: list[str]
) -> None:
    licenses = {
        "good": license_(),
        "brief": license_(license_id="brief", valid_until="2026-07-01T00:00:00Z"),
    }
    good = [sample(number, license_ids=[license_().license_id]) for number in range(12)]
    brief = sample(90, asset_id="brief", license_ids=["brief"])
    uri = deliveries.write([*good, brief], licenses)
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *options]) == 0
    assert run(["build", *options]) == 0
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    assert catalog_rows(corpus, corpus.newest(), brief[0].uid)[0]["outcome"] == "kept"

    assert run(["ingest", *options]) == 0  # today, long after it has expired
    (row,) = catalog_rows(corpus, corpus.newest(), brief[0].uid)
    assert (row["outcome"], row["reasons"]) == ("rejected", ["expired"])
    with pytest.raises(NoCorpus, match="pardalis build"):
        corpus.artifact(corpus.newest(), "index")
    assert run(["build", *options]) == 0
    (members,) = corpus.artifact(corpus.newest(), "index").shards.values()
    uids = tables.read_ipc(refs.of(corpus.store, members, MEMBERS))["uid"].to_pylist()
    assert len(uids) == 12
    assert brief[0].uid not in uids


def test_an_asset_that_may_not_be_retrieved_is_trained_on_and_never_found(
    tmp_path: Path, deliveries: Deliveries, built: Build
) -> None:
    uses = dict.fromkeys(("ml_training", "generation", "retrieval_display"), "allow")
    licenses = {
        "open": license_(),
        "closed": license_(license_id="closed", uses={**uses, "retrieval_index": "deny"}),
    }
    open_ = [sample(number, license_ids=[license_().license_id]) for number in range(12)]
    closed = [sample(number, license_ids=["closed"]) for number in range(12, 20)]
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    version = built(corpus, [deliveries.write([*open_, *closed], licenses)], Inline())

    (shard,) = corpus.artifact(version, "index").shards.values()
    members = tables.read_ipc(refs.of(corpus.store, shard, MEMBERS))
    hidden = {asset.uid for asset, _ in closed} & set(members["uid"].to_pylist())
    assert len(hidden) == 8
    index = Index.open([refs.of(corpus.store, shard, SEGMENT).read()])
    everything = index.search(np.ones((1, index.width), np.float32), 20).ids
    uid_of = dict(zip(members["id"].to_pylist(), members["uid"].to_pylist(), strict=True))
    assert {uid_of[id_] for id_ in everything.ravel().tolist() if id_ >= 0}.isdisjoint(hidden)
    parts = corpus.artifact(version, "neighbors").shards.values()
    rows = [
        row
        for part in parts
        for row in tables.read_parquet(refs.of(corpus.store, part, NEIGHBORS)).to_pylist()
    ]
    assert hidden <= {row["uid"] for row in rows}
    assert {found["uid"] for row in rows for found in row["candidates"]}.isdisjoint(hidden)


def test_a_pinned_model_is_not_asked_for_other_settings(
    tmp_path: Path, deliveries: Deliveries, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    uri = deliveries.write([sample(number) for number in range(12)])
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *options]) == 0
    assert run(["build", "--to", "vq", *options]) == 0
    kept = (tmp_path / "corpus" / "config.json").read_bytes()
    assert run(["build", *options, "--set", "tokenizer.image.fit.steps = 5"]) == MISTAKE
    assert "vq was fitted with other settings (fit changed)" in capsys.readouterr().err
    assert (tmp_path / "corpus" / "config.json").read_bytes() == kept


def test_the_examples_of_the_library_hold(tmp_path: Path, deliveries: Deliveries, options: list[str]) -> None:
    uri = deliveries.write([sample(number) for number in range(20)])
    assert run(["index", "add", uri, "--as-of", "2026-06-01T00:00:00Z", *options]) == 0
    shown = {"folder": str(tmp_path / "corpus"), "Store": Store}
    found = doctest.testmod(library, extraglobs=shown)
    assert found.attempted > 5
    assert not found.failed


def test_nothing_is_ingested_into_nothing(tmp_path: Path, options: list[str]) -> None:
    assert run(["ingest", *options]) == MISTAKE
    assert not (tmp_path / "corpus").exists()


def test_what_is_removed_from_the_index_answers_no_search_and_no_later_list(
    tmp_path: Path, deliveries: Deliveries, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """At once by a tombstone; with the next build its vector is gone too. It is trained on as before."""
    uri = deliveries.write([sample(number) for number in range(20)])
    assert run(["index", "add", uri, "--as-of", "2026-06-01T00:00:00Z", *options]) == 0
    capsys.readouterr()
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    reading = options[:2]

    def found() -> list[str]:
        assert run(["index", "query", "--text", "a circle", "-k", "20", *reading, "--json"]) == 0
        return [one["uid"] for one in json.loads(capsys.readouterr().out)]

    before, segment = found(), corpus.artifact(corpus.newest(), "index").key
    gone = before[0]
    assert run(["index", "remove", gone, "--reason", "asked for", *reading, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tombstones"] == 1
    assert corpus.artifact(corpus.newest(), "index").key == segment
    assert sorted(found()) == sorted(set(before) - {gone})
    assert run(["build", "--to", "neighbors", *options]) == 0
    capsys.readouterr()
    assert corpus.artifact(corpus.newest(), "index").key != segment
    assert sorted(found()) == sorted(set(before) - {gone})
    rows = [
        row
        for part in corpus.artifact(corpus.newest(), "neighbors").shards.values()
        for row in tables.read_parquet(refs.of(corpus.store, part, NEIGHBORS)).to_pylist()
    ]
    assert gone in {row["uid"] for row in rows}
    assert gone not in {one["uid"] for row in rows for one in row["candidates"]}
    assert run(["index", "remove", "acme:nobody", *reading]) == MISTAKE
    assert "acme:nobody; write them as PROVIDER:ASSET_ID" in capsys.readouterr().err
