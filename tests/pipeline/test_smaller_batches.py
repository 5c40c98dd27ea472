"""A step that does not fit a device is done again in smaller batches, as a whole."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import pytest

from infra.artifact import Artifact, Made
from infra.corpus import Corpus
from infra.settings import Section
from infra.storage import Store
from infra.telemetry import Log
from pipeline import build
from pipeline.build import Built
from pipeline.engine import Engine, Inline
from pipeline.step import OutOfMemory, Report, Source, Step, Task


class Batch(Section):
    asked: int
    images: int


def do(task: Task, _report: Report, *, config: Batch, room: int) -> Made:
    """Shard 2 is the one that needs the room."""
    if task.slot == "2" and config.images > room:
        raise OutOfMemory(f"{config.images} images a batch do not fit; lower them")
    return Made(files={"out": str(config.images).encode()}, counts={"kept": 1})


def tasks(_source: Source) -> Sequence[Task]:
    return [Task(slot=str(number), reads={}, facts={"number": number}) for number in range(4)]


def greedy(config: Batch, room: int) -> Step:
    half = config.model_copy(update={"images": config.images // 2})
    return Step(
        name="greedy",
        settings=config,
        tasks=tasks,
        open=lambda: functools.partial(do, config=config, room=room),
        smaller=functools.partial(greedy, half, room) if half.images else None,
    )


def run(source: Built, step: Step, log: Log, engine: Engine | None = None) -> Artifact:
    return build.run_step(source, step, engine or Inline(), log)


@pytest.fixture
def empty(tmp_path: Path) -> Built:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    return Built(corpus=corpus, version=corpus.head())


def test_all_shards_of_an_artifact_are_of_the_batch_that_fitted(empty: Built) -> None:
    log = Log()
    artifact = run(empty, greedy(Batch(asked=32, images=32), room=10), log)
    store = empty.store
    assert {store.read(shard.name("out")) for shard in artifact.shards.values()} == {b"8"}
    assert artifact.settings == {"asked": 32, "images": 8}
    failed = [event["settings"]["images"] for event in log.events if event["event"] == "out_of_memory"]
    assert failed == [32, 16]


def test_a_version_goes_on_with_the_batch_that_fitted_before(empty: Built) -> None:
    first = run(empty, greedy(Batch(asked=32, images=32), room=10), Log())
    step = greedy(Batch(asked=32, images=32), room=100)
    built = Built(corpus=empty.corpus, version=build.listing(empty.version, step, first))
    log = Log()
    assert run(built, step, log) == first
    assert [event["event"] for event in log.events] == ["found"]


def test_another_batch_that_is_asked_for_is_taken(empty: Built) -> None:
    first = run(empty, greedy(Batch(asked=32, images=32), room=10), Log())
    step = greedy(Batch(asked=64, images=64), room=100)
    built = Built(corpus=empty.corpus, version=build.listing(empty.version, step, first))
    assert run(built, step, Log()).settings == {"asked": 64, "images": 64}


def test_what_does_not_fit_one_by_one_fails_with_what_to_lower(empty: Built) -> None:
    with pytest.raises(OutOfMemory, match="1 images a batch do not fit; lower them"):
        run(empty, greedy(Batch(asked=4, images=4), room=0), Log())
    assert not empty.store.names("artifacts/")
