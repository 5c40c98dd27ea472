"""Laws of duplicates over a whole corpus: on any engine, with any workers, from any deliveries."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from PIL import Image

from infra.corpus import Corpus
from infra.storage import Store
from infra.telemetry import Log
from pipeline import build, dedup, refs, tables
from pipeline.duplicates import DuplicateConfig
from pipeline.engine import Engine, Inline
from pipeline.explaining import catalog_rows, explained, told
from pipeline.pool import OnRay
from pipeline.step import Workers

from .conftest import Build, Deliveries, Samples, drawing, sample
from .test_build import contents

NUM = 12


def larger(number: int, asset_id: str) -> tuple[Any, bytes]:
    """The picture of a number with four pixels for each, as another asset."""
    picture = Image.open(io.BytesIO(drawing(number)[1])).resize((128, 128), Image.Resampling.NEAREST)
    sink = io.BytesIO()
    picture.save(sink, "PNG")
    image = sink.getvalue()
    digest = hashlib.sha256(image).hexdigest()
    file = {"sha256": digest, "bytes": len(image), "mime": "image/png", "width": 128, "height": 128}
    return sample(number, asset_id=asset_id, file=file)[0], image


def world() -> Samples:
    """Twelve pictures, each with a larger copy; one is there twice as it is."""
    copies = [larger(number, f"b{number:04d}") for number in range(NUM)]
    return [*copies, *(sample(number) for number in range(NUM)), sample(0, asset_id="again")]


def links(corpus: Corpus, version: Any) -> list[dict[str, Any]]:
    shards = corpus.artifact(version, "dedup").shards.values()
    found = [tables.read_parquet(refs.of(corpus.store, shard, dedup.LINKS)).to_pylist() for shard in shards]
    return sorted((link for part in found for link in part), key=lambda link: str(link["uid"]))


@pytest.mark.plan
def test_every_cut_of_a_delivery_gives_the_same_groups(tmp_path: Path, built: Build) -> None:
    found = []
    for ways, size in ((1, 25), (2, 13), (4, 7)):
        corpus = Corpus(Store.at(tmp_path / f"corpus-{ways}"))
        uri = Deliveries(tmp_path / str(ways)).write(world(), shard_samples=size)
        version = built(corpus, [uri], Inline(), to="dedup")
        assert len(corpus.artifact(version, "screen").shards) == ways
        found.append(links(corpus, version))
        (row,) = catalog_rows(corpus, version, "acme:again")
        assert row["settled_by"] == "dedup", "told before split writes it"
    assert found[0] == found[1] == found[2]
    assert {(link["uid"], link["keeper"]) for link in found[0]} == {
        *((f"acme:a{number:04d}", f"acme:b{number:04d}") for number in range(NUM)),
        ("acme:again", "acme:b0000"),
    }


@pytest.mark.plan
def test_a_delivery_of_duplicates_alone_joins_the_groups_that_are_there(
    tmp_path: Path, deliveries: Deliveries, built: Build
) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    first = built(corpus, [deliveries.write([larger(3, "again-3"), sample(4), sample(5)])], Inline())
    second = built(corpus, [deliveries.write([sample(3), sample(4, asset_id="again-4")])], Inline())
    assert corpus.artifact(second, "dedup").shards["00000"] == corpus.artifact(first, "dedup").shards["00000"]
    assert [(link["uid"], link["keeper"], link["found_by"]) for link in links(corpus, second)] == [
        ("acme:a0003", "acme:again-3", "near_duplicate"),
        ("acme:again-4", "acme:a0004", "exact_duplicate"),
    ]
    (row,) = catalog_rows(corpus, second, "acme:a0003")
    assert row["group"] == "acme:again-3"
    (line,) = (line for line in told(explained(corpus, second, row)) if "because of" in line)
    assert line.startswith("  because of near_duplicate: acme:again-3 hamming ")


@pytest.fixture(scope="module")
def four_cpus() -> Iterator[None]:
    """As many as the largest pool takes, however few this machine has."""
    with contextlib.chdir("/"):
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("four_cpus")
def test_one_two_and_four_workers_give_the_same_bytes(
    tmp_path: Path, deliveries: Deliveries, built: Build
) -> None:
    """By features too, in clusters: each worker then has four threads, two, or one."""
    parts = [world()[place::4] for place in range(4)]
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    version = built(corpus, [deliveries.write(part) for part in parts], Inline(), to="screen")
    config = DuplicateConfig(semantic_threshold=0.97)

    def run(engine: Engine, name: str, cpus: int) -> dict[str, str]:
        store = Store.at(tmp_path / name)
        for path in corpus.store.names(""):
            store.write(path, corpus.store.read(path))
        step = replace(dedup.step(config, few=16), workers=Workers(cpus=cpus))
        build.run(Corpus(store), version, [step], engine, Log())
        return contents(store, "shards/dedup/", "artifacts/dedup/")

    here = run(Inline(), "inline", 1)
    assert len(here) > 4
    for cpus in (4, 2, 1):
        with contextlib.closing(OnRay()) as engine:
            assert run(engine, f"ray-{cpus}", cpus) == here
