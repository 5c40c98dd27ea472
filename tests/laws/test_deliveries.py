"""Laws of what arrives over time: corrections, counts, and a delivery that was moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.corpus import Corpus, Version
from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline import revisions
from pipeline.engine import Inline
from pipeline.explaining import catalog_rows

from .conftest import Build, Deliveries, revoke, sample
from .test_build import Refuses, contents

pytestmark = pytest.mark.plan
FIRST = range(24)
AT = 3
"""The asset that is corrected; it lies in the first of the three tars of its delivery."""
RELEASES = {"model": "not_applicable", "property": "not_applicable"}
STEPS = ("records", "decide", "images", "filter")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(Store.at(tmp_path / "corpus"))


@pytest.fixture
def first(corpus: Corpus, deliveries: Deliveries, built: Build) -> Version:
    return built(corpus, [deliveries.write([sample(number) for number in FIRST])], Inline(), to="split")


def corrected(revision: int, **changes: Any) -> list[Any]:
    return [sample(AT, asset_revision=revision, **changes)]


def told(corpus: Corpus, version: Version) -> list[tuple[int, str, list[str]]]:
    """(revision, outcome, reasons) of the asset's rows, as they came."""
    rows = catalog_rows(corpus, version, sample(AT)[0].uid)
    return [(row["revision"], row["outcome"], row["reasons"]) for row in rows]


def test_a_correction_takes_over_whole_and_leaves_other_shards_alone(
    corpus: Corpus, deliveries: Deliveries, built: Build, first: Version
) -> None:
    before = contents(corpus.store, "shards/")
    uri = deliveries.write(corrected(1, description="a purple hexagon, corrected"))
    second = built(corpus, [uri], Inline(), to="split")
    assert told(corpus, second) == [(0, "rejected", ["superseded"]), (1, "kept", [])]
    *_, row = catalog_rows(corpus, second, sample(AT)[0].uid)
    assert row["description"] == "a purple hexagon, corrected"
    for name in STEPS:
        old, new = corpus.artifact(first, name).shards, corpus.artifact(second, name).shards
        changed = {slot for slot in old if new[slot] != old[slot]}
        assert changed == (set() if name == "records" else {"00000-000000"}), name
        assert set(new) - set(old) == {"00001-000000"}, name
    after = contents(corpus.store, "shards/")
    assert {name: after[name] for name in before} == before
    assert corpus.artifact(second, "split").counts == {"kept": len(FIRST)}


def test_a_correction_that_revokes_leaves_nothing_of_the_asset(
    corpus: Corpus, deliveries: Deliveries, built: Build, first: Version
) -> None:
    assert told(corpus, first) == [(0, "kept", [])]
    uri = deliveries.write(corrected(1, status="revoked", revoked_at="2026-05-01T00:00:00Z"))
    second = built(corpus, [uri], Inline(), to="split")
    assert told(corpus, second) == [(0, "rejected", ["superseded"]), (1, "rejected", ["revoked"])]
    assert corpus.artifact(second, "split").counts == {"kept": len(FIRST) - 1}


def test_an_older_or_an_equal_revision_that_comes_later_changes_nothing(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    rest = [sample(number) for number in FIRST if number != AT]
    withdrawn = corrected(2, status="revoked", revoked_at="2026-05-01T00:00:00Z")
    first = built(corpus, [deliveries.write([*rest, *withdrawn])], Inline(), to="filter")
    late = [deliveries.write(corrected(1)), deliveries.write(corrected(2))]
    second = built(corpus, late, Inline(), to="filter")
    assert told(corpus, second) == [
        (2, "rejected", ["revoked"]),
        (1, "rejected", ["superseded"]),
        (2, "rejected", [revisions.REVISION_SEEN]),
    ]
    for name in STEPS:
        old, new = corpus.artifact(first, name).shards, corpus.artifact(second, name).shards
        assert {slot: new[slot] for slot in old} == old, name


def test_what_once_said_revoked_does_not_come_back_under_a_higher_revision(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    rest = [sample(number) for number in FIRST if number != AT]
    withdrawn = corrected(1, status="revoked", revoked_at="2026-05-01T00:00:00Z")
    uris = [deliveries.write([*rest, *withdrawn]), deliveries.write(corrected(2))]
    version = built(corpus, uris, Inline(), to="split")
    assert told(corpus, version) == [(1, "rejected", ["revoked"]), (2, "rejected", ["revoked"])]
    assert corpus.artifact(version, "split").counts == {"kept": len(rest)}


def test_a_correction_that_cannot_be_read_takes_the_asset_out_until_it_is_mended(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    asset, image = sample(AT, asset_revision=1)
    broken = asset.model_copy(update={"file": asset.file.model_copy(update={"bytes": 7})})
    uris = [deliveries.write(some) for some in ([sample(number) for number in FIRST], [(broken, image)])]
    second = built(corpus, uris, Inline(), to="filter")
    (before, outcome, reasons), (_, faulty, _) = told(corpus, second)
    assert (before, outcome, reasons, faulty) == (0, "quarantined", [revisions.CONTESTED], "quarantined")
    third = built(corpus, [deliveries.write(corrected(2))], Inline(), to="filter")
    assert [outcome for _, outcome, _ in told(corpus, third)] == ["rejected", "quarantined", "kept"]


def test_a_correction_without_a_higher_revision_takes_the_asset_out(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    rest = [sample(number) for number in FIRST if number != AT]
    uris = [
        deliveries.write([*rest, *corrected(5)]),
        deliveries.write(corrected(1, is_adult=True), kind="correction"),
    ]
    version = built(corpus, uris, Inline(), to="filter")
    assert told(corpus, version) == [
        (5, "quarantined", [revisions.CONTESTED]),
        (1, "rejected", ["superseded"]),
    ]


TWIN = sample(AT, contributor={"id": "c-1"}, releases={**RELEASES, "model_release_ids": ["m-1"]})
NAMES = {"asset": TWIN[0].uid, "contributor": "c-1", "model_release": "m-1"}


def twins(corpus: Corpus, deliveries: Deliveries, built: Build, **revocation: Any) -> list[tuple[str, ...]]:
    """(outcome, reasons) of an asset that is taken back, and of two others with its bytes: one delivered with
    it, one after it.
    """
    beside, late = (
        (sample(number, file=TWIN[0].file.model_dump(mode="json"))[0], TWIN[1]) for number in (40, 50)
    )
    uri = deliveries.write([*(sample(number) for number in FIRST if number != AT), TWIN, beside])
    revoke(uri, **revocation)
    version = built(corpus, [uri, deliveries.write([late])], Inline(), to="filter")
    rows = [catalog_rows(corpus, version, asset.uid) for asset, _ in (TWIN, beside, late)]
    return [(row["outcome"], *row["reasons"]) for (row,) in rows]


@pytest.mark.parametrize("kind", NAMES)
def test_a_picture_that_was_taken_back_is_out_under_every_id_and_does_not_come_back(
    corpus: Corpus, deliveries: Deliveries, built: Build, kind: str
) -> None:
    found = twins(corpus, deliveries, built, target_type=kind, targets=[NAMES[kind]])
    assert found == [("rejected", "revoked:taken-back")] * 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reason": "license_terminated"}, "revoked:taken-back"),
        ({"action": "restrict", "restrict_uses": ["generation"]}, "restricted:generation"),
    ],
)
def test_what_ends_with_a_licence_or_for_some_uses_ends_for_its_asset_alone(
    corpus: Corpus, deliveries: Deliveries, built: Build, changes: dict[str, Any], reason: str
) -> None:
    found = twins(corpus, deliveries, built, target_type="asset", targets=[NAMES["asset"]], **changes)
    assert found == [("rejected", reason), ("kept",), ("kept",)]


def test_a_revocation_is_told_before_what_is_wrong_with_later_records(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    first = deliveries.write([sample(number) for number in FIRST])
    revoke(first, target_type="asset", targets=[sample(AT)[0].uid])
    uris = [first, deliveries.write(corrected(0, is_adult=True)), deliveries.write(corrected(1))]
    version = built(corpus, uris, Inline(), to="filter")
    assert told(corpus, version) == [(number, "rejected", ["revoked:taken-back"]) for number in (0, 0, 1)]


def test_of_three_revisions_the_highest_counts_in_whatever_order_they_come(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    uris = [deliveries.write(corrected(revision, keywords=[f"k{revision}"])) for revision in (1, 3, 2)]
    version = built(corpus, uris, Inline(), to="filter")
    assert [outcome for _, outcome, _ in told(corpus, version)] == ["rejected", "kept", "rejected"]


def test_a_count_that_no_shard_repeats_is_compared_once_the_tars_are_read(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    store = Store.at(deliveries.write([sample(number) for number in range(4)]))
    manifest = json.loads(store.read("delivery.json"))
    for file in manifest["files"]:
        file.pop("samples", None)
    store.write("delivery.json", json.dumps({**manifest, "counts": {"samples": 5}}).encode())
    with pytest.raises(Refused, match=r"delivery\.json: counts\.samples: .* got 5, but 4 arrived"):
        built(corpus, [store.uri], Inline(), to="filter")
    assert corpus.numbers() == []


def test_a_delivery_that_was_moved_costs_no_shard(
    corpus: Corpus, tmp_path: Path, deliveries: Deliveries, built: Build
) -> None:
    uri = deliveries.write([sample(number) for number in range(8)])
    first = built(corpus, [uri], Inline(), to="filter")
    Path(uri).rename(tmp_path / "elsewhere")
    now = Store.at(tmp_path / "elsewhere").uri
    second = built(corpus, [now], Refuses(), to="filter")
    assert [known.uri for known in second.deliveries] == [now]
    assert second.artifacts == first.artifacts
