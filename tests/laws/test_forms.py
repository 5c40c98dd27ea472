"""Laws of the forms of delivery: the same assets end the same, however and wherever they were delivered."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra.corpus import Corpus
from infra.storage import Store
from pipeline import checking, tables
from pipeline.config import Config
from pipeline.deliveries import forms
from pipeline.deliveries.batch import ASSETS
from pipeline.deliveries.sample import Delivered
from pipeline.deliveries.writer import Heading, write_delivery, write_folder, write_table
from pipeline.engine import Inline
from pipeline.records import RECORDS
from pipeline.refs import of
from pipeline.step import ROWS

from .conftest import AS_OF, Build, Samples, license_, sample

pytestmark = pytest.mark.plan
HEADING = Heading(provider="acme", delivery_id="d0", sequence=0, kind="full", created_at=AS_OF)
WRITERS: dict[str, Callable[..., Any]] = {
    "webdataset": partial(write_delivery, shard_samples=10),
    "folder": write_folder,
    "csv": partial(write_table, name="assets.csv"),
    "parquet": partial(write_table, name="assets.parquet"),
}
OTHERS = [form for form in WRITERS if form != "webdataset"]
LICENSES = [
    license_(),
    license_(license_id="late", valid_from="2027-01-01T00:00:00Z"),
    license_(license_id="words", covers=["text"]),
]
CHANGES: dict[int, dict[str, Any]] = {
    1: {"is_adult": True},
    2: {"is_editorial": True},
    3: {"license_ids": ["late"]},
    4: {"license_ids": ["nobody"]},
    5: {"license_ids": ["words", "late"]},
    6: {"status": "revoked", "revoked_at": "2026-05-01T00:00:00Z"},
    7: {"keywords": ["a;b", "c", " d"], "description": 'two lines,\nand "quotes"; ümlaut'},
    8: {"extra": {"a.0": "x", "0": "y"}, "moderation_labels": [{"name": "n", "score": 0.25}]},
    9: {
        "has_people": "yes",
        "releases": {"model": "limited", "property": "none", "model_release_ids": ["m1"]},
    },
    10: {"provider": "other"},
    11: {"asset_revision": 7, "title": "2026", "descriptions": []},
}


def assets() -> Samples:
    return [sample(number, **CHANGES.get(number, {})) for number in range(24)]


def rows(corpus: Corpus, version: Any, step: str, file: str) -> list[dict[str, Any]]:
    shards = corpus.artifact(version, step).shards.values()
    found = [tables.read_parquet(of(corpus.store, shard, file)).to_pylist() for shard in shards]
    return sorted(itertools.chain(*found), key=lambda row: row["uid"])


def coded(row: dict[str, Any]) -> dict[str, Any]:
    """With the codes of its reasons alone: their words name the file that is at fault."""
    return {**row, "reasons": [reason.partition(":")[0] for reason in row["reasons"]]}


@pytest.mark.parametrize("form", OTHERS)
def test_the_same_assets_in_any_form_get_the_same_decisions(
    store: Store, tmp_path: Path, built: Build, form: str
) -> None:
    seen = []
    for name in ("webdataset", form):
        at = Store.at(f"{store.uri}/{name}")
        WRITERS[name](at, HEADING, licenses=LICENSES, samples=assets())
        corpus = Corpus(Store.at(tmp_path / f"corpus-{name}"))
        version = built(corpus, [at.uri], Inline(), to="filter")
        decided, told = rows(corpus, version, "decide", ROWS), rows(corpus, version, "records", RECORDS)
        images = rows(corpus, version, "images", ROWS)
        seen.append(([coded(row) for row in decided], [row["record"] for row in told], images))
    assert seen[0][:2] == seen[1][:2]
    assert [coded(row) for row in seen[0][2]] == [coded(row) for row in seen[1][2]]
    assert len(seen[0][0]) == 24
    assert sum(record is not None for record in seen[0][1]) == 23
    assert {row["outcome"] for row in seen[0][0]} == {"kept", "rejected", "quarantined"}


@pytest.mark.parametrize("form", WRITERS)
def test_more_assets_than_a_batch_holds_all_arrive_once(tmp_path: Path, tiny: Config, form: str) -> None:
    asset, image = sample(0)
    many = [
        (asset.model_copy(update={"asset_id": f"a{number:04d}"}), image) for number in range(2 * ASSETS + 3)
    ]
    at = Store.at(tmp_path / "delivery")
    delivery = WRITERS[form](at, HEADING, licenses=LICENSES, samples=many)
    here = Delivered(store=at, delivery=delivery)
    batches = list(forms.of(delivery).batches(here))
    read = [sample.key for batch in batches for sample in forms.of(delivery).read(here, batch)]
    assert read == [asset.asset_id for asset, _ in many]
    [told] = checking.check(None, [at.uri], tiny, AS_OF)["deliveries"]
    assert told["decisions"] == {"in": len(many), "kept": len(many)}
    if form != "webdataset":
        assert len(batches) == 3


@pytest.mark.parametrize("form", WRITERS)
def test_a_delivery_is_written_the_same_every_time_and_checked_as_it_is_ingested(
    tmp_path: Path, tiny: Config, form: str
) -> None:
    stores = [Store.at(tmp_path / name) for name in ("a", "b")]
    for at in stores:
        WRITERS[form](at, HEADING, licenses=LICENSES, samples=assets())
    one, two = ({name: at.read(name) for name in at.names()} for at in stores)
    assert one == two
    [told] = checking.check(None, [stores[0].uri], tiny, AS_OF)["deliveries"]
    assert told["decisions"]["in"] == 24
    assert told["decisions"]["rejected:adult"] == 1


@pytest.mark.parametrize("form", WRITERS)
def test_a_correction_may_come_in_another_form(tmp_path: Path, built: Build, form: str) -> None:
    first, second = Store.at(tmp_path / "first"), Store.at(tmp_path / "second")
    WRITERS[form](first, HEADING, licenses=LICENSES, samples=[sample(0), sample(12)])
    heading = replace(HEADING, delivery_id="d1", sequence=1, kind="correction")
    other = "folder" if form != "folder" else "csv"
    WRITERS[other](second, heading, licenses=LICENSES, samples=[sample(12, asset_revision=1)])
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    version = built(corpus, [first.uri, second.uri], Inline(), to="filter")
    found = rows(corpus, version, "decide", ROWS)
    told = [(row["uid"], row["revision"], row["outcome"]) for row in found]
    assert sorted(told) == [
        ("acme:a0000", 0, "kept"),
        ("acme:a0012", 0, "rejected"),
        ("acme:a0012", 1, "kept"),
    ]
