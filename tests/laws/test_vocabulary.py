"""The text tokenizer is the same file in whatever order its shards are read and whoever made them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from infra.corpus import Corpus
from infra.storage import Store
from pipeline import build, tokens
from pipeline.config import Config
from pipeline.engine import Inline
from pipeline.pool import OnRay
from pipeline.tokens import BPE
from tokenizer_service import text

from .conftest import Build, Deliveries, sample

SHARDS = 8


@pytest.fixture
def uri(deliveries: Deliveries) -> str:
    return deliveries.write([sample(number) for number in range(32)], shard_samples=32 // SHARDS)


@pytest.mark.plan
def test_the_vocabulary_is_the_same_file_for_any_order_of_the_shards(
    tmp_path: Path, tiny: Config, uri: str, built: Build
) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    version = built(corpus, [uri], Inline(), to="split")
    step = tokens.fit_text_step(tiny.tokenizer.text)
    (task,) = step.tasks(build.Built(corpus=corpus, version=version))
    assert len(task.reads["rows"]) == SHARDS
    found = set()
    for seed in range(6):
        files = list(task.reads["rows"])
        random.Random(seed).shuffle(files)  # noqa: S311  # an order, no secret
        made = step.open()(replace(task, reads={"rows": tuple(files)}), lambda *_: None)
        found.add(made.files[BPE])
    assert len(found) == 1
    words = text.from_json(found.pop().decode())
    (entries,) = words.encode(["circle"])
    assert len(entries) == 1  # a keyword of every fourth picture


@contextlib.contextmanager
def workers(count: int) -> Iterator[OnRay]:
    ray.init(num_cpus=count, include_dashboard=False, address="local", log_to_driver=False)
    with contextlib.closing(OnRay()) as engine:
        yield engine
    ray.shutdown()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)  # three clusters
def test_the_vocabulary_is_the_same_file_for_any_number_of_workers(
    tmp_path: Path, uri: str, built: Build
) -> None:
    found = []
    for count in (1, 2, 4):
        corpus = Corpus(Store.at(tmp_path / str(count)))
        with workers(count) as engine:
            version = built(corpus, [uri], engine, to="bpe")
        found.append(corpus.artifact(version, "bpe").only.sha256(BPE))
    assert found == [found[0]] * 3
