"""The fit of an image tokenizer on a corpus: as a command, stopped and resumed, by one worker and by two."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file
from torch import distributed

from infra import cluster, launch
from infra.cli import MISTAKE, run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline import given, refs
from pipeline.rows import training
from pipeline.step import ROWS
from pipeline.tokenizer import fitrun, fitting, lanes
from pipeline.tokenizer.fitrun import Plan
from pipeline.tokenizer.lanes import CorpusSquares, Shown, StreamConfig
from tests.tokenizer_service import published
from tests.tokenizer_service.published import Description
from tokenizer_service import checkpoints, resume, vq
from tokenizer_service.descent import Batch
from tokenizer_service.discriminator import GanConfig
from tokenizer_service.vq import Preprocessing

from .conftest import TINY, Deliveries, revoke, sample

pytestmark = [pytest.mark.plan, pytest.mark.timeout(240)]

FIT = """
[tokenizer.run]
validate_every = 4
checkpoint_every = 4
[tokenizer.run.stream]
lanes = 4
window_images = 12
threads = 1
"""
STEPS = "tokenizer.image.fit.steps = 10"


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of every command on a corpus of 40 pictures in shards of six, as far as its split."""
    folder = tmp_path_factory.mktemp("fitting")
    (folder / "tiny.toml").write_text(TINY + FIT)
    found = ["--corpus", str(folder / "corpus"), "--config", str(folder / "tiny.toml"), "--engine", "inline"]
    uri = Deliveries(folder).write([sample(number) for number in range(40)], shard_samples=6)
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *found]) == 0
    assert run(["build", "--to", "split", *found]) == 0
    return found


@pytest.fixture(scope="module")
def corpus(options: list[str]) -> Corpus:
    return Corpus(Store.at(options[1]))


@pytest.fixture(scope="module")
def fitted(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that went through."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert run(["tokenizer", "fit", "--run", str(folder), "--set", STEPS, *options]) == 0
    return folder


def test_a_run_leaves_a_model_its_manifest_its_curves_and_a_page_that_stands_alone(fitted: Path) -> None:
    manifest = json.loads((fitted / "manifest.json").read_text())
    data = (fitted / "vq.safetensors").read_bytes()
    assert manifest["fingerprint"] == hashlib.sha256(data).hexdigest()
    assert vq.load(data).config.codebook_size == 32
    assert manifest["weights"] is None
    curves = [json.loads(line) for line in (fitted / "curves.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curves] == [4, 8, 10]
    assert {"loss", "psnr", "used", "perplexity", "held_out_psnr", "watched_psnr"} <= curves[-1].keys()
    assert manifest["last"] == curves[-1]
    page = (fitted / "page" / "index.html").read_text()
    assert page.count('alt="true"') == page.count('alt="drawn"') > 0
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


class Dies(CorpusSquares):
    """A stream whose process is killed after so many batches."""

    left = 7

    def __next__(self) -> Batch:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().__next__()


def test_a_run_that_died_goes_on_to_the_same_bytes(
    fitted: Path, options: list[str], corpus: Corpus, tmp_path: Path
) -> None:
    folder = tmp_path / "again"
    told = json.loads((fitted / "config.json").read_text())
    plan = Plan.model_validate_json(json.dumps({**told, "folder": str(folder)}))
    version = corpus.version(plan.version)
    fitting.claim(plan)
    shares = fitrun.opened(corpus, version, plan)
    dying = Dies(shares.lanes, shares.shown, lane_images=shares.lane_images)
    with pytest.raises(KeyboardInterrupt):
        fitrun.run(plan, fitrun.begun(plan, dying), dying, fitrun.held_out(corpus, version, plan))
    dying.close()
    shares.close()
    command = ["tokenizer", "fit", "--run", str(folder)]
    assert run([*command, "--set", STEPS, *options]) == MISTAKE
    # Without a word about settings: they are the run's own.
    assert run([*command, "--resume", "--corpus", options[1], "--engine", "inline"]) == 0
    for name in ("vq.safetensors", "curves.jsonl", "step-00000010/arrays.safetensors", "manifest.json"):
        assert (folder / name).read_bytes() == (fitted / name).read_bytes(), name


def test_a_run_goes_on_with_its_own_version_unless_an_image_of_it_was_refused_since(
    fitted: Path, options: list[str], tmp_path: Path
) -> None:
    copied, folder = (
        shutil.copytree(options[1], tmp_path / "corpus"),
        shutil.copytree(fitted, tmp_path / "run"),
    )
    (folder / "manifest.json").unlink()
    goes_on = ["tokenizer", "fit", "--run", str(folder), "--resume", "--corpus", str(copied)]
    ingest = ["--as-of", "2026-06-01T00:00:00Z", "--corpus", str(copied), *options[2:]]
    later = Deliveries(tmp_path)
    later.write([sample(40)])
    assert run(["ingest", second := later.write([sample(41)]), *ingest]) == 0
    assert run([*goes_on, "--engine", "inline"]) == 0
    assert (folder / "manifest.json").read_bytes() == (fitted / "manifest.json").read_bytes()
    (folder / "manifest.json").unlink()
    third = later.write([sample(42)])
    revoke(third, target_type="asset", targets=[sample(number)[0].uid for number in range(40)])
    assert run(["ingest", second, third, *ingest]) == 0
    assert run([*goes_on, "--engine", "inline"]) == MISTAKE


def test_a_build_takes_a_published_checkpoint_with_its_licence(options: list[str], tmp_path: Path) -> None:
    shape = Description(names="taming", multipliers=(1, 2), attends=(1,), blocks=1)
    save_file(published.state(shape), tmp_path / "vqgan.safetensors")
    copied = shutil.copytree(options[1], tmp_path / "corpus")
    build = ["build", "--to", "tokenize", "--corpus", str(copied), *options[2:]]
    build += ["--set", f'tokenizer.image.model = "{tmp_path}/vqgan.safetensors"']
    build += ["--set", "pipeline.purpose.commercial = true"]
    assert run(build) == MISTAKE
    assert run([*build, "--set", 'tokenizer.image.model_license = "MIT"']) == 0
    corpus = Corpus(Store.at(copied))
    artifact = corpus.artifact(corpus.newest(), "vq")
    assert artifact.only.facts["weights"]["license"] == "MIT"
    model = checkpoints.load(tmp_path / "vqgan.safetensors", license="MIT")
    assert artifact.only.sha256("vq.safetensors") == vq.fingerprint(model)


def test_a_codebook_that_there_are_no_ids_for_is_told_before_the_build(options: list[str]) -> None:
    large = ["--set", "tokenizer.image.fit.vq.codebook_size = 16384"]
    assert run(["build", *options, *large]) == MISTAKE


def test_a_run_goes_on_with_no_other_images_though_their_version_has_the_same_number(
    fitted: Path, options: list[str], tmp_path: Path
) -> None:
    folder, other = shutil.copytree(fitted, tmp_path / "run"), str(tmp_path / "other")
    uri = Deliveries(tmp_path).write([sample(number) for number in range(100, 130)])
    there = ["--corpus", other, *options[2:]]
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *there]) == 0
    assert run(["build", "--to", "split", *there]) == 0
    goes_on = ["tokenizer", "fit", "--run", str(folder), "--resume", "--engine", "inline"]
    assert run([*goes_on, "--corpus", other]) == MISTAKE
    assert run(goes_on) == 0  # on the corpus that it began with, whatever the command would take else
    assert json.loads((folder / "config.json").read_text())["corpus"] == options[1]


def test_settings_that_came_to_nothing_do_not_bind_the_next_attempt(
    options: list[str], tmp_path: Path
) -> None:
    command = ["tokenizer", "fit", "--run", str(tmp_path), *options]
    none_held_out = "tokenizer.image.side = 4096"
    assert run([*command, "--set", none_held_out]) == MISTAKE
    (tmp_path / "config.json").write_text("{}")
    assert run([*command, "--set", "tokenizer.image.fit.steps = 1"]) == 0


def test_a_folder_of_another_run_is_refused(fitted: Path, options: list[str]) -> None:
    other = ["tokenizer", "fit", "--run", str(fitted), "--resume", *options]
    assert run([*other, "--set", "tokenizer.image.fit.steps = 11"]) == MISTAKE


def test_a_build_takes_a_fitted_file_and_its_path_is_no_part_of_the_result(
    fitted: Path, options: list[str], tmp_path: Path
) -> None:
    copied = shutil.copytree(options[1], tmp_path / "corpus")
    moved = shutil.copy(fitted / "vq.safetensors", tmp_path / "elsewhere.safetensors")
    there = ["--corpus", str(copied), *options[2:]]
    assert run(["build", "--to", "tokenize", *there, "--set", f'tokenizer.image.model = "{moved}"']) == 0
    corpus = Corpus(Store.at(copied))
    shard = corpus.artifact(corpus.newest(), "vq").only
    assert shard.sha256("vq.safetensors") == hashlib.sha256(moved.read_bytes()).hexdigest()
    files = ("vq.safetensors", "curves.json")
    one, two = (
        given.step(str(path), side=32, license=None, files=files)
        for path in (moved, fitted / "vq.safetensors")
    )
    assert one.identity() == two.identity()
    assert run(["build", *there, "--set", 'tokenizer.image.model = "/no/such/file"']) == MISTAKE


def test_a_run_goes_on_from_weights_and_keeps_their_shape(
    fitted: Path, options: list[str], tmp_path: Path
) -> None:
    start = str(fitted / "vq.safetensors")
    command = ["tokenizer", "fit", "--run", str(tmp_path), "--init", start, *options]
    assert run([*command, "--set", STEPS, "--set", "tokenizer.image.fit.vq.codebook_size = 64"]) == 0
    tuned = vq.load((tmp_path / "vq.safetensors").read_bytes())
    assert tuned.config == vq.load(Path(start).read_bytes()).config
    last = [json.loads((folder / "manifest.json").read_text())["last"] for folder in (fitted, tmp_path)]
    assert last[1]["held_out_psnr"] > last[0]["held_out_psnr"]


SHOWN = Shown(
    side=32,
    preprocessing=Preprocessing(),
    seed=0,
    flip_share=0.5,
    config=StreamConfig(lanes=4, window_images=12, threads=1),
)


def seen(corpus: Corpus, batches: int, *, ranks: int = 1, shown: Shown = SHOWN) -> list[Counter[bytes]]:
    """The images of each step, over all ranks."""
    version = corpus.newest()
    shares = [
        lanes.opened(corpus, version, shown, batch_images=8, rank=rank, ranks=ranks) for rank in range(ranks)
    ]
    steps = [
        Counter(image.tobytes() for share in shares for image in next(share).images_BHWC)
        for _ in range(batches)
    ]
    for share in shares:
        share.close()
    return steps


def test_a_step_sees_the_same_images_for_every_number_of_workers(corpus: Corpus) -> None:
    alone = seen(corpus, 12)
    assert all(seen(corpus, 12, ranks=ranks) == alone for ranks in (2, 4))
    other = Shown(side=32, preprocessing=Preprocessing(), seed=1, flip_share=0.5, config=SHOWN.config)
    assert seen(corpus, 12, shown=other) != alone


def test_a_stream_goes_on_from_where_it_stood(corpus: Corpus) -> None:
    version = corpus.newest()
    first, second = (lanes.opened(corpus, version, SHOWN, batch_images=8, rank=0, ranks=1) for _ in range(2))
    for _ in range(9):
        next(first)
    second.seek(json.loads(json.dumps(first.state())))
    for _ in range(5):
        assert np.array_equal(next(first).images_BHWC, next(second).images_BHWC)
    first.close()
    second.close()


@pytest.mark.parametrize("number", [1, 2, 3, 5, 16])
def test_every_training_image_is_shown_once_in_an_epoch_of_the_lanes(corpus: Corpus, number: int) -> None:
    version = corpus.newest()
    config = StreamConfig(lanes=number, window_images=8)
    shown = Shown(side=32, preprocessing=Preprocessing(), seed=0, flip_share=0.0, config=config)
    uids: Counter[str] = Counter()
    for lane in (lanes.Lane(corpus, version, number=n, shown=shown) for n in range(number)):
        while (entry := lane.take()).epoch == 0:
            uids[entry.uid] += 1
    assert set(uids.values()) == {1}
    rows = [refs.of(corpus.store, shard, ROWS) for shard in corpus.artifact(version, "split").shards.values()]
    assert len(uids) == sum(training(ref).num_rows for ref in rows) > 20


def test_settings_that_no_run_can_be_made_of_are_refused_and_leave_nothing(
    options: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="lanes = 4 must be a multiple of the 3 workers"):
        lanes.check(SHOWN.config, batch_images=8, ranks=3)
    for line in ("tokenizer.image.fit.batch_images = 6", "tokenizer.image.fit.crops = {}"):
        assert run(["tokenizer", "fit", "--run", str(tmp_path), *options, "--set", line]) == MISTAKE
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*")
def test_what_a_rank_refuses_is_told_as_it_is_and_tried_once(tmp_path: Path) -> None:
    def refuses(config: dict[str, Any]) -> None:
        with (tmp_path / "attempts").open("a") as file:
            file.write("x")
        lanes.check(StreamConfig(lanes=3), **config)

    with (
        cluster.joined(None),
        pytest.raises(ValueError, match="lanes = 3 must be a multiple of the 2 workers"),
    ):
        launch.launch(refuses, {"batch_images": 6, "ranks": 2}, folder=tmp_path, workers=1, cpus=1)
    assert (tmp_path / "attempts").read_text() == "x"
    assert not (tmp_path / launch.REFUSED).exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*")  # Ray Train reads what Ray Data gave up
def test_two_workers_keep_one_codebook_and_equal_weights_also_where_they_go_on(
    fitted: Path, tmp_path: Path
) -> None:
    def on_a_rank(config: dict[str, Any]) -> None:
        """A whole run, then its last two steps once more; this rank writes what it ended with."""
        fitrun.execute(config)
        first, again = Path(config["folder"]), Path(config["folder"], "again")
        if not distributed.get_rank():
            shutil.copytree(first / "step-00000008", again / "step-00000008")
        distributed.barrier()
        plan = Plan.model_validate_json(json.dumps({**config, "folder": str(again)}))
        corpus = Corpus(Store.at(plan.corpus))
        version = corpus.version(plan.version)
        stream = fitrun.opened(corpus, version, plan)
        descent = fitrun.begun(plan, stream)
        fitrun.run(plan, descent, stream, fitrun.held_out(corpus, version, plan))
        stream.close()
        found = {name: digest(array.detach().numpy()) for name, array in resume.arrays(descent).items()}
        (first / f"rank-{distributed.get_rank()}.json").write_text(json.dumps(found))

    def digest(array: np.ndarray) -> str:
        return hashlib.sha256(array.tobytes()).hexdigest()

    told = json.loads((fitted / "config.json").read_text())
    gan = {"begin": 2, "alone_steps": 2, "ramp_steps": 2, "channels": 8}
    told["image"]["fit"]["gan"] = GanConfig.model_validate(gan).model_dump()
    with cluster.joined(None):
        launch.launch(on_a_rank, {**told, "folder": str(tmp_path)}, folder=tmp_path, workers=2, cpus=1)
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    last = "step-00000010/arrays.safetensors"
    assert (tmp_path / last).read_bytes() == (tmp_path / "again" / last).read_bytes()
    assert vq.load((tmp_path / "vq.safetensors").read_bytes()).config.codebook_size == 32
