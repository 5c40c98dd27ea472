"""Laws of the whole plan, on a small delivery."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from infra.artifact import Shard as Made
from infra.corpus import Corpus, Version
from infra.storage import Store
from infra.telemetry import Bar
from pipeline import config, examples, refs, tables
from pipeline.blocks import Blocks, Shard
from pipeline.build import Built
from pipeline.engine import Inline
from pipeline.examples import kind_of
from pipeline.explaining import catalog_rows
from pipeline.step import ROWS, Step, Task

from .conftest import TINY, Build, Deliveries, license_, sample

pytestmark = pytest.mark.plan

LATER = ("tokenize", "features", "embed", "index", "neighbors", "pack")


def contents(store: Store, *prefixes: str) -> dict[str, str]:
    """sha256 of every object below the prefixes."""
    names = [name for prefix in prefixes for name in store.names(prefix)]
    return {name: hashlib.sha256(store.read(name)).hexdigest() for name in names}


class Refuses:
    """An engine that must not be asked for anything."""

    def run(self, step: Step, tasks: Sequence[Task], _store: Store, _bar: Bar) -> Iterator[Made]:
        if tasks:
            raise AssertionError(f"step {step.name!r} ran again on {[task.slot for task in tasks]}")
        return iter(())


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(Store.at(tmp_path / "corpus"))


def test_rows_in_are_the_sum_of_outcomes_at_every_step(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    copies = [sample(number) for number in range(20)]
    again = sample(3, asset_id="again")
    version = built(corpus, [deliveries.write([*copies, again])], Inline())
    arriving = 21
    for step in ("records", "decide", "images", "filter", "dedup", "split"):
        counts = corpus.artifact(version, step).counts
        assert sum(counts.values()) == arriving, step
        arriving = counts["kept"] if step != "records" else arriving
    assert corpus.artifact(version, "dedup").counts["rejected:exact_duplicate"] == 1
    assert sum(corpus.artifact(version, "tokenize").counts.values()) == arriving


def test_a_finished_plan_runs_nothing_and_adds_no_version(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    uri = deliveries.write([sample(number) for number in range(12)])
    first = built(corpus, [uri], Inline())
    before = contents(corpus.store, "shards/", "artifacts/", "versions/")
    assert built(corpus, [uri], Refuses()) == first
    assert contents(corpus.store, "shards/", "artifacts/", "versions/") == before


def test_an_index_cut_into_segments_chooses_the_same_neighbors(
    tmp_path: Path, deliveries: Deliveries, built: Build
) -> None:
    uris = [
        deliveries.write([sample(number) for number in numbers]) for numbers in (range(40), range(40, 60))
    ]
    found = []
    for memory_mib in (4096, 0.025):
        path = tmp_path / "settings.toml"
        path.write_text(f'{TINY}[retrieval.index]\nkind = "flat"\nmemory_mib = {memory_mib}\n')
        corpus = Corpus(Store.at(tmp_path / f"corpus-{memory_mib}"))
        version = built(corpus, uris, Inline(), to="neighbors", settings=config.load(path))
        chosen = corpus.artifact(version, "neighbors").shards
        found.append({slot: shard.files for slot, shard in chosen.items()})
        segments = sorted(corpus.artifact(version, "index").shards)
    assert segments == ["00000-0000", "00000-0001", "00000-0002", "00001-0000", "00001-0001"]
    assert found[0] == found[1]


def test_how_targets_are_grouped_and_pooled_changes_no_document(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lies in the packs of one pool alone, which read its pool's neighbors and no others."""
    uris = [
        deliveries.write([sample(number) for number in numbers]) for numbers in (range(40), range(40, 60))
    ]
    together = built(corpus, uris, Inline(), settings=tiny)
    monkeypatch.setattr(examples, "POOL", 1)
    apart = built(corpus, [], Inline(), settings=tiny)
    assert apart.artifacts["pack"] != together.artifacts["pack"]
    assert documents(corpus, apart) == documents(corpus, together)
    pools = {
        tuple(task.facts["slots"]): task.reads["neighbors"]
        for task in examples.list_tasks(Built(corpus=corpus, version=apart), config=tiny.pipeline.examples)
    }
    assert sorted(slot for pool in pools for slot in pool) == sorted(
        corpus.artifact(apart, "neighbors").shards
    )
    assert [len(pool) for pool in pools] == [2, 2, 1, 2, 1]  # eight rows a shard, sixteen targets a group
    assert [len(files) for files in pools.values()] == [2, 2, 1, 2, 1]


def documents(corpus: Corpus, version: Version) -> list[tuple[str, str, tuple[int, ...]]]:
    """Kind, name and tokens of every document; once each."""
    found = []
    for slot, shard in corpus.artifact(version, "pack").shards.items():
        for file, info in shard.facts["packs"].items():
            blocks = Blocks([Shard(store=corpus.store, name=shard.name(file), info=info)], keep=1)
            for block in map(blocks.block, range(len(blocks))):
                for ids_T, row in zip(block.tokens_RT, block.record["documents"].to_pylist(), strict=True):
                    found += [
                        (
                            kind_of(slot),
                            one["example_id"],
                            tuple(ids_T[one["start"] :][: one["length"]].tolist()),
                        )
                        for one in row
                    ]
    assert len({(kind, name) for kind, name, _ in found}) == len(found)
    return sorted(found)


def test_a_later_delivery_writes_only_its_own_shards(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    first = built(corpus, [deliveries.write([sample(number) for number in range(24)])], Inline())
    before = contents(corpus.store, "shards/")
    second = built(corpus, [deliveries.write([sample(number) for number in range(40, 48)])], Inline())
    assert {**second.models, "lists": ""} == {**first.models, "lists": ""}  # a generation's own are added
    assert second.registers["ids"][: len(first.registers["ids"])] == first.registers["ids"]
    for name in (*second.artifacts, "lists"):
        old, new = corpus.artifact(first, name).shards, corpus.artifact(second, name).shards
        assert {slot: new[slot] for slot in old} == old, name
        assert all(slot.startswith("00001") for slot in set(new) - set(old)), name
    after = contents(corpus.store, "shards/")
    assert {name: after[name] for name in before} == before


def test_what_no_licence_admits_is_refused_with_its_reason_and_is_nowhere_later(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    name = license_().license_id
    licenses = {
        "good": license_(),
        "expired": license_(license_id="expired", valid_until="2026-01-01T00:00:00Z"),
        "ungranted": license_(license_id="ungranted", uses={"ml_training": "allow", "generation": "deny"}),
    }
    refused = {
        "none": ("license_missing:unknown", sample(90, asset_id="none", license_ids=["unknown"])),
        "expired": ("expired", sample(91, asset_id="expired", license_ids=["expired"])),
        "ungranted": (
            "use_not_granted:generation",
            sample(92, asset_id="ungranted", license_ids=["ungranted"]),
        ),
    }
    good = [sample(number, license_ids=[name]) for number in range(12)]
    uri = deliveries.write([*good, *(one for _, one in refused.values())], licenses)
    version = built(corpus, [uri], Inline())
    for code, (asset, _) in refused.values():
        (row,) = catalog_rows(corpus, version, asset.uid)
        assert (row["outcome"], row["settled_by"], row["reasons"]) == ("rejected", "decide", [code])
        assert_absent(corpus, version, asset.uid)


def assert_absent(corpus: Corpus, version: Version, uid: str) -> None:
    """In no file that a later step wrote, decompressed; and in no image tar."""
    for step in LATER:
        for shard in corpus.artifact(version, step).shards.values():
            for file in shard.files:
                ref = refs.of(corpus.store, shard, file)
                text = str(tables.read_parquet(ref).to_pydict()) if file.endswith("parquet") else ""
                assert uid.encode() not in ref.read(), (step, file)
                assert uid not in text, (step, file)
    for shard in corpus.artifact(version, "images").shards.values():
        assert uid.partition(":")[2].encode() not in refs.of(corpus.store, shard, "images.tar").read()


def test_nothing_held_out_is_ever_in_a_training_pack(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    version = built(corpus, [deliveries.write([sample(number) for number in range(40)])], Inline())
    split = {
        row["uid"]: row["split"]
        for shard in corpus.artifact(version, "split").shards.values()
        for row in tables.read_parquet(refs.of(corpus.store, shard, ROWS)).to_pylist()
    }
    assert set(split.values()) == {"train", "validation"}
    seen = {"train": set(), "validation": set(), "validation-alone": set()}
    for slot, shard in corpus.artifact(version, "pack").shards.items():
        kind = kind_of(slot)
        for file, info in shard.facts["packs"].items():
            blocks = Blocks([Shard(store=corpus.store, name=shard.name(file), info=info)], keep=1)
            for number in range(len(blocks)):
                for spans in blocks.block(number).record["spans"].to_pylist():
                    seen[kind] |= {(span["uid"], span["role"]) for span in spans}
    assert {split[uid] for uid, _ in seen["train"]} == {"train"}
    targets = {uid for uid, role in seen["validation"] if role == 0}
    assert targets == {uid for uid, side in split.items() if side == "validation"}
    assert {split[uid] for uid, role in seen["validation"] if role == 1} == {"train"}
    assert {uid for uid, _ in seen["validation-alone"]} == targets


def test_another_instant_that_changes_no_right_changes_no_shard(
    corpus: Corpus, deliveries: Deliveries, built: Build
) -> None:
    uri = deliveries.write([sample(number) for number in range(8)])
    built(corpus, [uri], Inline(), to="filter")
    before = contents(corpus.store, "shards/")
    built(corpus, [uri], Refuses(), to="filter")
    assert contents(corpus.store, "shards/") == before
