"""Laws of scale: what steers a build grows with the shards and no faster, and a forecast writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.corpus import Corpus, Version
from infra.storage import Store
from infra.telemetry import Log, known
from pipeline import plan
from pipeline.config import Config
from pipeline.engine import Inline
from pipeline.scale import foresight, rates
from pipeline.scale.cluster import here
from pipeline.scale.model import MANIFEST_BOUND
from pipeline.scale.shapes import SHAPES, Scene
from tests.benchmarks import control_plane

from .conftest import Build, Deliveries, sample
from .test_build import contents

SMALL, LARGE = 24, 72
IMAGES = 340_000_000
AT = 340_000
"""Shards of 1,000 images."""


def test_every_step_of_the_plan_has_a_shape_and_each_that_is_timed_has_one(tiny: Config) -> None:
    names = [step.name for step in plan.steps(tiny)]
    assert list(SHAPES) == names
    assert set(rates.load().steps) == {*names} - {"fetch"}


@pytest.fixture(scope="module")
def steered(request: pytest.FixtureRequest) -> dict[int, dict[str, control_plane.Cost]]:
    settings = control_plane.settings_of_a_node()
    return {num: control_plane.steered(num, settings) for num in (SMALL, LARGE)}


@pytest.mark.long
def test_no_step_asks_the_store_more_for_a_shard_than_it_did_of_a_third_as_many(
    steered: dict[int, dict[str, control_plane.Cost]],
) -> None:
    for step, large in steered[LARGE].items():
        small = steered[SMALL][step]
        more = LARGE / SMALL
        assert large.questions <= more * small.questions, step
        assert large.read_bytes <= more * small.read_bytes, step


@pytest.mark.long
def test_a_manifest_of_340_000_shards_is_below_its_bound(
    steered: dict[int, dict[str, control_plane.Cost]],
) -> None:
    for step, large in steered[LARGE].items():
        small = steered[SMALL][step]
        each = (large.manifest_bytes - small.manifest_bytes) / (LARGE - SMALL)
        shards = AT if step != "pack" else IMAGES // control_plane.ROWS_EACH  # packs go with images
        assert large.manifest_bytes + each * (shards - LARGE) <= MANIFEST_BOUND, step


@pytest.mark.long
def test_packs_are_as_many_as_the_model_says_and_name_their_own_shards(
    steered: dict[int, dict[str, control_plane.Cost]],
) -> None:
    measured = rates.load()
    for num, costs in steered.items():
        assert costs["pack"].tasks == SHAPES["pack"].tasks(scene(num), measured)
    told = {num: SHAPES["pack"].refs(scene(num), measured) for num in (1_000, 2_000, 4_000)}
    assert told[4_000] - told[2_000] == pytest.approx(2 * (told[2_000] - told[1_000]), rel=0.01)


def scene(shards: int) -> Scene:
    return Scene(images=shards * control_plane.ROWS_EACH, shard_rows=control_plane.ROWS_EACH)


def predicted(corpus: Corpus, version: Version, settings: Config, to: str = "pack") -> dict[str, Any]:
    steps = plan.up_to(plan.build_steps(settings), to)
    found = foresight.foreseen(corpus, version, steps, Scene(images=1), here(), rates.load())
    return {one.step: one for one in found}


@pytest.mark.plan
def test_a_dry_run_writes_nothing_and_lists_what_the_build_then_makes(
    tmp_path: Path, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    built(corpus, [deliveries.write([sample(number) for number in range(20)])], Inline(), to="filter")
    before = contents(corpus.store, "")
    found = predicted(corpus, corpus.newest(), tiny)
    assert contents(corpus.store, "") == before
    assert found["filter"].make == 0
    assert (found["features"].make, found["features"].estimated) == (3, False)
    assert (found["screen"].make, found["screen"].estimated) == (3, True)
    assert all(one.make and one.seconds > 0 for name, one in found.items() if name != "filter")
    version = built(corpus, [], Inline())
    made = {name: len(corpus.artifact(version, name).shards) for name in found}
    exact = set(made) - {"pack"}
    assert {name: found[name].shards for name in exact} == {name: made[name] for name in exact}


@pytest.mark.plan
def test_of_a_finished_build_nothing_is_left_and_of_one_that_lost_a_shard_that_one(
    tmp_path: Path, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    log = Log()
    with log.kept(corpus.store, "build"):
        uri = deliveries.write([sample(number) for number in range(20)])
        version = built(corpus, [uri], Inline(), log=log)
    assert not any(one.make for one in predicted(corpus, version, tiny).values())
    embed = corpus.artifact(version, "embed")
    lost = embed.shards["00000-000001"]
    corpus.store.delete([f"{lost.folder}/shard.json", f"artifacts/embed/{embed.key}.json"])
    found = predicted(corpus, version, tiny, "embed")
    assert {name: one.make for name, one in found.items() if one.make} == {"embed": 1}
    assert found["embed"].rows == lost.counts["kept"]
    # A shard took so long here: that is nearer the truth than what another machine was measured to take.
    assert found["embed"].by == "corpus"
    assert found["embed"].cpu_s == known(corpus.store)["embed"].seconds
