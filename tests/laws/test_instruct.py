"""Instruction data by command: made of a corpus, traced to its assets, trained on, and taken back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.cli import MISTAKE, run
from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import contract, packs, refs, tables
from pipeline.blocks import Blocks
from pipeline.packed import Modality, Role
from pipeline.split import TRAIN, VALIDATION
from tokenizer_service import vocabulary
from trainer import sources, tasks
from trainer.affected import affected
from trainer.checkpoint import Checkpoints, load_model, read_state
from trainer.evaluation import known
from trainer.instruct import build, listing
from trainer.instruct.importing import UNCAPTIONED, encoded
from trainer.order import MAIN
from trainer.sources import SourceSection
from trainer.tasks import Captioned, Edited, Picture
from trainer.training import metrics

from .conftest import TINY, Deliveries, license_, revoke, sample, standing
from .test_training import TRAINER

pytestmark = [pytest.mark.plan, pytest.mark.timeout(300)]
SETTINGS = TINY.replace("context = 96", "context = 320\nmax_spans = 2") + TRAINER.replace(
    "context = 100", "context = 320"
)
AMOUNTS = [
    word
    for name in ("controls", "edits", "scene_edits", "scenes", "signs", "questions")
    for word in ("--set", f"trainer.instruct.each.{name} = 1")
]
PROVIDER = contract.template()["asset"]["provider"]
EDIT = Edited(before=Picture("a0001"), instruction="shake it", after=Picture("a0002"))
BROUGHT = {
    **{
        n: {"instruct.0": encoded(Captioned(caption=f"brought by {n}", image=Picture(f"a{n:04d}")))}
        for n in (4, 9)
    },
    2: {"instruct.0": encoded(EDIT), "note": "not ours"},
    5: {UNCAPTIONED: "yes"},
    7: {"instruct.0": '[{"text": "no task says so"}]'},
}
"""What some assets bring along, by their numbers."""
SECTIONS = {"instruct": SourceSection(step="instruct")}


@dataclass(frozen=True, slots=True)
class World:
    corpus: Corpus
    version: Version
    options: list[str]
    deliveries: Deliveries
    folder: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Thirty pictures, every third under a licence by which nothing may be derived of them."""
    folder = tmp_path_factory.mktemp("instruct")
    file = folder / "tiny.toml"
    file.write_text(SETTINGS)
    free = license_(license_id="free")
    plain = license_(license_id="plain", uses={**free.uses.model_dump(), "derived_captions": "deny"})
    samples = [
        standing(n, license_ids=["plain" if n % 3 == 0 else "free"], extra=BROUGHT.get(n, {}))
        for n in range(30)
    ]
    deliveries = Deliveries(folder)
    uri = deliveries.write(samples, {"free": free, "plain": plain})
    options = ["--corpus", str(folder / "corpus"), "--config", str(file), "--engine", "inline"]
    torch.set_num_threads(1)
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *options]) == 0
    assert run(["build", *options]) == 0
    assert run(["instruct", "make", *options, *AMOUNTS]) == 0
    corpus = Corpus(Store.at(folder / "corpus"))
    return World(corpus, corpus.newest(), options, deliveries, folder)


def records(world: World, kind: str) -> Iterator[dict[str, Any]]:
    for shard in packs.slots(world.corpus, world.version, kind, step=build.STEP):
        yield from tables.read_rows(refs.of(world.corpus.store, shard, listing.RECORDS))


def rows(world: World, kind: str, revoked: frozenset[str] = frozenset()) -> Iterator[tuple[Any, Any]]:
    """Tokens and facts of every row."""
    read = {"instruct": (world.corpus, world.version), MAIN: (world.corpus, world.version)}
    blocks = Blocks(sources.listed(read, SECTIONS, "instruct", kind, revoked=revoked), keep=1)
    for number in range(len(blocks)):
        block = blocks.block(number)
        yield from zip(block.tokens_RT, block.record.to_pylist(), strict=True)


def split_of(world: World) -> dict[str, str]:
    found = {}
    for shard in world.corpus.artifact(world.version, "split").shards.values():
        table = tables.read_parquet(refs.of(world.corpus.store, shard, "rows.parquet"))
        found |= dict(zip(table["uid"].to_pylist(), table["split"].to_pylist(), strict=True))
    return found


def test_every_task_that_a_corpus_can_serve_has_examples_in_both_splits(world: World) -> None:
    for kind in (TRAIN, VALIDATION):
        made = {row["task"] for row in records(world, kind)}
        assert made == set(tasks.TASKS) - {"reasoning"}


def test_an_example_is_read_from_its_prompt_and_packed_as_often_as_it_says(world: World) -> None:
    for kind in (TRAIN, VALIDATION):
        packed = [d["example_id"].partition("#")[0] for _, row in rows(world, kind) for d in row["documents"]]
        for row in records(world, kind):
            said = [one["text"] or Picture(one["picture"]) for one in row["prompt"]]
            assert tasks.NAMES[type(tasks.parse(said))] == row["task"]
            assert packed.count(row["example"]) == row["copies"] > 0
        assert len(packed) == sum(row["copies"] for row in records(world, kind))


def test_every_token_of_content_is_some_assets_or_derived_from_some(world: World) -> None:
    splits = split_of(world)
    for kind in (TRAIN, VALIDATION):
        sources_of = {uid: row["sources"] for row in records(world, kind) for uid in row["derived"]}
        for ids_T, row in rows(world, kind):
            covered = np.zeros(len(ids_T), bool)
            for span in row["spans"]:
                for uid in sources_of.get(span["uid"], [span["uid"]]):
                    assert splits[uid] == kind
                covered[span["start"] : span["start"] + span["length"]] = True
                images = vocabulary.is_image(ids_T[span["start"] : span["start"] + span["length"]])
                assert images.all() if span["modality"] == Modality.IMAGE else not images.any()
            assert covered[vocabulary.is_image(ids_T)].all()
            asked = Counter(span["document"] for span in row["spans"] if span["role"] == Role.TARGET)
            assert asked == dict.fromkeys(range(len(row["documents"])), 1)
            assert {span["role"] for span in row["spans"]} <= {Role.TARGET, Role.GIVEN}


def test_nothing_is_derived_of_an_asset_whose_licence_does_not_grant_it(world: World) -> None:
    for kind in (TRAIN, VALIDATION):
        for row in records(world, kind):
            for uid in row["sources"]:
                if int(uid.rpartition("a")[2]) % 3 == 0:
                    assert (row["task"], row["derived"]) == ("caption", [])
            assert row["licenses"] == ([] if not row["sources"] else sorted(set(row["licenses"])))
            assert bool(row["sources"]) == (row["task"] != "sign")


def test_a_record_that_an_asset_brings_is_an_example_where_all_of_its_pictures_are(world: World) -> None:
    splits = split_of(world)
    for number in (4, 9):
        (found,) = (
            row
            for row in records(world, splits[f"{PROVIDER}:a{number:04d}"])
            if row["prompt"][0]["text"] == f"Describe the given picture. brought by {number}"
        )
        assert (found["task"], found["sources"]) == ("caption", [f"{PROVIDER}:a{number:04d}"])
    pair = [f"{PROVIDER}:a0001", f"{PROVIDER}:a0002"]
    together = splits.get(pair[0]) == splits.get(pair[1])
    edits = [row for kind in (TRAIN, VALIDATION) for row in records(world, kind) if row["sources"] == pair]
    assert len([row for row in edits if row["task"] == "edit" and not row["derived"]]) == together
    shards = world.corpus.artifact(world.version, build.STEP).shards.values()
    total = sum((Counter(shard.facts["brought"]) for shard in shards), Counter())
    assert total == {"taken": 2 + together, **({} if together else {"apart": 1}), "unreadable": 1}


def test_of_an_asset_without_a_caption_nothing_is_made(world: World) -> None:
    bare = f"{PROVIDER}:a0005"
    assert bare in split_of(world)
    for kind in (TRAIN, VALIDATION):
        assert bare not in {uid for row in records(world, kind) for uid in row["sources"]}


def test_held_out_examples_bring_their_pictures_and_training_ones_do_not(world: World) -> None:
    found = list(known.listed(world.corpus, world.version, VALIDATION))
    assert len(found) == sum(1 for _ in records(world, VALIDATION))
    pictures = known.pictures(world.corpus, world.version, {one.name for one in found})
    for one in found:
        assert set(pictures[one.name]) == {picture.uid for picture in tasks.pictures(one.record)}
        assert {picture.shape for picture in pictures[one.name].values()} == {(32, 32, 3)}
    assert not any(row["pictures"] for row in records(world, TRAIN))


def test_made_again_it_is_found_and_a_version_without_packs_is_refused(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    capsys.readouterr()
    assert run(["instruct", "make", *world.options, *AMOUNTS, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert world.corpus.newest().artifacts["instruct"] == world.version.artifacts["instruct"]
    assert all(one["documents"] == one["examples"] for one in told["train"]["tasks"].values())
    uri = Deliveries(tmp_path).write([sample(1)])
    options = ["--corpus", str(tmp_path / "corpus"), *world.options[2:]]
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *options]) == 0
    assert run(["instruct", "make", *options]) == MISTAKE
    assert "has no packs; run `pardalis build`" in capsys.readouterr().err


SHORT = [
    word
    for line in ("optimizer.num_steps = 4", "optimizer.warmup_steps = 1", "loop.validate_every = 2")
    for word in ("--set", f"trainer.{line}")
]


@pytest.fixture(scope="module")
def runs(world: World) -> tuple[Path, Path]:
    """A trained run, and one that was tuned from it."""
    base, tuned = world.folder / "base", world.folder / "tuned"
    assert run(["train", "--run", str(base), *world.options, *SHORT]) == 0
    words = ["tune", "--run", str(tuned), "--base", str(base), "--corpus", str(world.folder / "corpus")]
    assert run([*words, "--engine", "inline", *SHORT]) == 0
    return base, tuned


def test_a_tuned_run_begins_with_the_weights_of_its_base_and_reads_both_kinds_of_rows(
    world: World, runs: tuple[Path, Path]
) -> None:
    base, tuned = runs
    assert any(name.startswith("instruct/") for name in metrics(tuned)[-1])
    last = Checkpoints(folder=tuned).latest()
    assert last is not None
    state = read_state(last)
    taken = {name: one["epoch"] * one["rows"] + one["row"] for name, one in state.stream["sources"].items()}
    assert sum(taken.values()) == 8  # two rows a step
    assert taken["instruct"] > taken[MAIN] > 0
    began = json.loads((tuned / "run.json").read_text())["config"]
    assert began["base"]["identity"] == json.loads((base / "run.json").read_text())["identity"]
    assert began["optimizer"]["learning_rate"] == 5e-5
    one, other = (
        dict(load_model(path).named_parameters()) for path in (last, base / began["base"]["checkpoint"])
    )
    moved = max(float((weight - other[name]).detach().abs().max()) for name, weight in one.items())
    assert 0 < moved < 1e-3


def test_models_affected_follows_an_asset_into_what_was_derived_and_into_tuned_weights(
    world: World, runs: tuple[Path, Path]
) -> None:
    uid = next(row["sources"][0] for row in records(world, TRAIN) if row["task"] == "grounded")
    identities = [json.loads((folder / "run.json").read_text())["identity"] for folder in runs]
    found = affected(world.corpus, uid)
    assert {one.identity for one in found} == set(identities)
    holding = sum(
        uid in {source for span in row["spans"] for source in derived(world).get(span["uid"], [span["uid"]])}
        for _, row in rows(world, TRAIN)
    )
    (mine,) = (one for one in found if one.source == "instruct" and one.through is None)
    assert (mine.identity, mine.num_sequences) == (identities[1], holding)
    for one in found:
        if one.through is not None:
            assert (one.identity, one.through) == (identities[1], identities[0])


def derived(world: World) -> dict[str, list[str]]:
    return {uid: row["sources"] for row in records(world, TRAIN) for uid in row["derived"]}


def test_a_base_with_other_tokenizers_or_none_is_refused(
    world: World, runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", "--run", str(tmp_path / "run"), *world.options, *SHORT]
    assert run([*words, "--base", str(tmp_path)]) == MISTAKE
    assert "holds no checkpoint" in capsys.readouterr().err
    assert run([*words, "--base", str(runs[0]), "--set", "trainer.model.num_layers = 3"]) == MISTAKE
    assert "another shape" in capsys.readouterr().err


def test_what_is_taken_back_takes_what_was_derived_of_it(world: World, runs: tuple[Path, Path]) -> None:
    """The last test here: it adds versions, and takes the one before away."""
    gone = next(row["sources"][0] for row in records(world, TRAIN) if row["task"] == "edit")
    uri = world.deliveries.write([sample(100)])
    revoke(uri, target_type="asset", targets=[gone.partition(":")[2]])
    assert run(["ingest", uri, "--as-of", "2026-06-02T00:00:00Z", *world.options]) == 0
    read = sources.opened(world.corpus, world.version, SECTIONS)
    refused = sources.taken_back(read)["instruct"]
    assert refused == {gone}
    of = derived(world)
    blanked = 0
    for (ids_T, row), (plain_T, _) in zip(rows(world, TRAIN, refused), rows(world, TRAIN), strict=True):
        out = {span["document"] for span in row["spans"] if gone in of.get(span["uid"], [span["uid"]])}
        for number, document in enumerate(row["documents"]):
            here = slice(document["start"], document["start"] + document["length"])
            assert (ids_T[here] == (vocabulary.PAD if number in out else plain_T[here])).all()
        blanked += len(out)
    assert blanked > 5
    shown = [ids_T for ids_T, _ in rows(world, TRAIN, refused)]
    assert run(["revoke", "--as-of", "2026-06-02T00:00:00Z", *world.options]) == 0
    newest = world.corpus.newest()
    for version in (world.version, newest):  # of the one before there is what is left
        left = World(world.corpus, version, world.options, world.deliveries, world.folder)
        assert all(map(np.array_equal, (ids_T for ids_T, _ in rows(left, TRAIN)), shown))
        assert not any(gone in row["sources"] for row in records(left, TRAIN))
    held = [name for name in world.corpus.store.names() if gone.encode() in world.corpus.store.read(name)]
    assert {name.partition("/")[0] for name in held} <= {"registers", "audit", "receipts", "logs"}
    words = ["tune", "--run", str(runs[1]), "--base", str(runs[0]), "--corpus", world.corpus.store.uri]
    longer = ["--set", "trainer.optimizer.num_steps = 8", "--resume", "--engine", "inline"]
    assert run([*words, *SHORT, *longer]) == 0
    last = Checkpoints(folder=runs[1]).latest()
    assert last is not None
    state = read_state(last)
    assert sum(one["epoch"] * one["rows"] + one["row"] for one in state.stream["sources"].values()) == 16
