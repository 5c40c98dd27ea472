"""A run goes on as if nothing had stopped it, however its ranks are killed, dealt or counted anew.

Ranks are processes that ``torchrun`` starts, with gloo between them, or Ray Train. What a run is, is compared
as a whole: weights, moments, random states, where its stream stands, and every number that it reported.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from infra.cli import FAILED, MISTAKE, run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline import packs
from pipeline.split import TRAIN
from trainer import checkpoint

from .conftest import TINY, Deliveries, sample

pytestmark = [pytest.mark.plan, pytest.mark.timeout(300)]

TRAINER = """
[trainer.admission]
as_of = "2026-06-01T00:00:00Z"
[trainer.model]
num_layers = 2
width = 32
num_heads = 2
context = 100
dropout = 0.1
init_std = 0.02
[trainer.masking]
max_spans = 1
[trainer.stream]
rows_per_step = 2
[trainer.optimizer]
num_steps = 200
warmup_steps = 10
learning_rate = 2e-3
[trainer.loop]
threads = 1
validate_every = 50
checkpoint_every = 20
report_every = 1
"""
NO_DROPOUT = ["--set", "trainer.model.dropout = 0.0"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of every command on a corpus that ``ingest`` and ``build`` made."""
    root = tmp_path_factory.mktemp("training")
    file = root / "tiny.toml"
    file.write_text(TINY.replace("max_spans = 4", "") + TRAINER)
    options = ["--corpus", str(root / "corpus"), "--config", str(file)]
    uri = Deliveries(root).write([sample(number) for number in range(24)])
    torch.set_num_threads(1)
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *options, "--engine", "inline"]) == 0
    assert run(["build", *options, "--engine", "inline"]) == 0
    return options


def started(folder: Path, words: list[str], *, ranks: int = 1) -> subprocess.Popen[bytes]:
    """``pardalis train`` as processes of its own."""
    command = [sys.executable, "-m", "infra.cli", "train", "--run", str(folder), *words, "--engine", "inline"]
    if ranks > 1:
        # Behind "--", since torchrun takes our --run for one of its own options.
        group = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m", "--"]
        command = [sys.executable, *group, *command[2:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder.parent / f"{folder.name}.log").open("ab") as told:
        return subprocess.Popen(command, env=environment, stderr=told)


def finished(folder: Path, words: list[str], *, ranks: int = 1) -> None:
    assert started(folder, words, ranks=ranks).wait(timeout=240) == 0, log(folder)


def log(folder: Path) -> str:
    return (folder.parent / f"{folder.name}.log").read_text()[-3000:]


def killed(folder: Path, words: list[str], *, ranks: int = 1, step: int) -> None:
    """All its processes at once, with -9, as soon as it has reported ``step``."""
    process = started(folder, words, ranks=ranks)
    deadline = time.monotonic() + 200
    while len(reports(folder)) < step:
        assert process.poll() is None, log(folder)
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for one in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
        one.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
    assert len(reports(folder)) < 200


def reports(folder: Path) -> list[Mapping[str, float]]:
    """Without what depends on the machine."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [
        {name: value for name, value in json.loads(line).items() if not name.startswith("speed/")}
        for line in lines
        if line.endswith("\n")
    ]


def arrays(folder: Path) -> dict[str, torch.Tensor]:
    """Of the last checkpoint."""
    files = (folder / "step-00000200").glob("*.safetensors")
    return {name: array for path in sorted(files) for name, array in load_file(path).items()}


def state(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "step-00000200" / checkpoint.STATE).read_text())
    return facts


def assert_same(one: Path, two: Path) -> None:
    assert reports(one) == reports(two)
    one_state, two_state = state(one), state(two)
    for facts in (one_state, two_state):
        facts["note"]["config"].pop("loader")
    assert one_state == two_state
    left, right = arrays(one), arrays(two)
    assert left.keys() == right.keys()
    assert {name for name, array in left.items() if not torch.equal(array, right[name])} == set()


@pytest.mark.long
@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_ends_bit_by_bit_as_one_that_was_not(
    corpus: list[str], tmp_path: Path, ranks: int
) -> None:
    finished(tmp_path / "straight", corpus, ranks=ranks)
    # Who makes the batches is no part of the result.
    beside = [*corpus, "--set", "trainer.loader.workers = 1"]
    killed(tmp_path / "halves", beside, ranks=ranks, step=100)
    finished(tmp_path / "halves", [*beside, "--resume"], ranks=ranks)
    assert len(reports(tmp_path / "straight")) == 200
    assert_same(tmp_path / "straight", tmp_path / "halves")
    assert (tmp_path / "halves" / "curves.html").is_file()
    assert (tmp_path / "halves" / "model" / "model.safetensors").is_file()


def close(
    one: list[Mapping[str, float]], two: list[Mapping[str, float]], names: list[str], rel: float
) -> None:
    for name in names:
        left, right = ([line[name] for line in lines if name in line] for lines in (one, two))
        assert left == pytest.approx(right, rel=rel), name


@pytest.mark.slow
def test_a_run_of_two_ranks_goes_on_with_one_and_keeps_every_sequence(
    corpus: list[str], tmp_path: Path
) -> None:
    """Each step has the tokens and the masks that it has in a run of one rank, so the same sequences."""
    finished(tmp_path / "one", [*corpus, *NO_DROPOUT])
    killed(tmp_path / "fewer", [*corpus, *NO_DROPOUT], ranks=2, step=100)
    finished(tmp_path / "fewer", [*corpus, *NO_DROPOUT, "--resume"])
    one, fewer = reports(tmp_path / "one"), reports(tmp_path / "fewer")
    exact = ["step", "tokens", *(name for name in one[0] if name.startswith("masks/"))]
    for name in exact:
        assert [line[name] for line in one] == [line[name] for line in fewer], name
    assert state(tmp_path / "one")["stream"] == state(tmp_path / "fewer")["stream"]
    close(one, fewer, ["loss"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["paper", "modern"])
def test_sharded_ranks_have_the_loss_curve_of_one_process(
    corpus: list[str], tmp_path: Path, variant: str
) -> None:
    """FSDP2 over two ranks, with blocks computed again, within 1e-4; and it goes on unsharded."""
    words = [*corpus, *NO_DROPOUT, "--set", f"trainer.model.variant = '{variant}'"]
    short = ["--set", "trainer.optimizer.num_steps = 60"]
    finished(tmp_path / "one", [*words, *short])
    sharded = ["--set", "trainer.loop.strategy = 'fsdp'", "--set", "trainer.loop.recompute = 'blocks'"]
    finished(tmp_path / "two", [*words, *short, *sharded], ranks=2)
    one, two = reports(tmp_path / "one"), reports(tmp_path / "two")
    assert len(two) == 60
    close(one, two, ["loss", "gradient_norm", "alone/loss", "neighbors/loss/image"], rel=1e-4)
    whole, parts = (
        checkpoint.load_model(tmp_path / name / "step-00000060").state_dict() for name in ("one", "two")
    )
    for name, weight in whole.items():
        assert torch.allclose(weight, parts[name], atol=1e-3), name


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_shard_lost_on_the_way_is_one_clear_error_and_the_run_goes_on_when_it_is_back(
    corpus: list[str], tmp_path: Path, ranks: int
) -> None:
    folder, short = tmp_path / "run", ["--set", "trainer.optimizer.num_steps = 40"]
    finished(folder, [*corpus, *short], ranks=ranks)
    reported = reports(folder)
    shutil.rmtree(folder / "step-00000040")
    good = arrays_at(folder / "step-00000020")
    store = Corpus(Store.at(corpus[1]))
    lost = [Path(corpus[1]) / one.name for one in packs.listed(store, store.newest(), TRAIN)]
    held = {path: path.read_bytes() for path in lost}
    for path in lost:
        path.unlink()
    try:
        began = time.monotonic()
        assert started(folder, [*corpus, *short, "--resume"], ranks=ranks).wait(timeout=90) != 0
        assert any(path.name in log(folder) for path in lost), log(folder)
        assert time.monotonic() - began < 80
    finally:
        for path, data in held.items():
            path.write_bytes(data)
    again = arrays_at(folder / "step-00000020")
    assert all(torch.equal(array, again[name]) for name, array in good.items())
    finished(folder, [*corpus, *short, "--resume"], ranks=ranks)
    assert reports(folder) == reported


def test_a_run_goes_on_with_a_lower_rate_other_numerics_and_more_steps(
    corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the messages of a divergence advise. What it was before is kept."""
    folder = tmp_path / "run"
    words = ["train", "--run", str(folder), *corpus, "--engine", "inline"]
    assert run([*words, "--set", "trainer.optimizer.num_steps = 20"]) == 0
    changed = ["--set", "trainer.optimizer.learning_rate = 1e-4", "--set", "trainer.loop.dtype = 'bfloat16'"]
    assert run([*words, "--resume", *changed, "--set", "trainer.optimizer.num_steps = 30"]) == 0
    assert [line["step"] for line in reports(folder)] == list(range(1, 31))
    told = json.loads((folder / "run.json").read_text())
    assert [one["optimizer"]["num_steps"] for one in (*told["before"], told["config"])] == [20, 30]
    capsys.readouterr()
    assert run([*words, "--resume", "--set", "trainer.model.num_layers = 1"]) == MISTAKE
    assert "another trainer.model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workers", "0"], "--workers is 0"),
        (["--workers", "2"], "leave one out, or run `torchrun --nproc-per-node 2"),
        (["--plan", "--workers", "3"], "rows_per_step 2 is no multiple of 3 ranks"),
    ],
)
def test_ranks_that_cannot_be_are_refused(
    corpus: list[str], tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--run", str(tmp_path / "run"), *corpus, "--engine", "inline", *words]) == MISTAKE
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_checkpoint_that_finds_no_room_is_one_clear_error_and_the_last_one_is_whole(
    corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of the process may have 100 kB: enough for the journal, not for the weights."""
    folder, short = tmp_path / "run", ["--set", "trainer.optimizer.num_steps = 40"]
    words = ["train", "--run", str(folder), *corpus, *short, "--engine", "inline"]
    assert run(words) == 0
    shutil.rmtree(folder / "step-00000040")
    good = arrays_at(folder / "step-00000020")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    capsys.readouterr()
    try:
        ended = run([*words, "--resume"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ended == FAILED
    told = capsys.readouterr().err
    assert f"no checkpoint could be written to {folder}" in told
    assert "make room" in told
    again = arrays_at(folder / "step-00000020")
    assert all(torch.equal(array, again[name]) for name, array in good.items())
    assert not list(folder.glob(".*"))


def ranks_of(pid: int) -> list[psutil.Process]:
    """Ray Train's workers that this process's cluster holds, oldest first."""
    found = [
        one
        for one in psutil.Process(pid).children(recursive=True)
        if "RayTrainWorker" in "".join(one.cmdline())
    ]
    return sorted(found, key=lambda one: one.create_time())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_group_that_loses_a_worker_starts_again_and_repeats_no_sequence(
    corpus: list[str], tmp_path: Path
) -> None:
    """Two ranks of Ray Train, one of them killed with -9 on the way: they end as two that were left alone."""
    finished(tmp_path / "straight", corpus, ranks=2)
    folder = tmp_path / "group"
    words = ["train", "--run", str(folder), *corpus, "--workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "group.log").open("ab") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", *words], env=environment, stderr=told, stdout=told
        )
    try:
        deadline = time.monotonic() + 200
        while len(reports(folder)) < 70:
            assert process.poll() is None, log(folder)
            assert time.monotonic() < deadline, log(folder)
            time.sleep(0.02)
        ranks_of(process.pid)[-1].send_signal(signal.SIGKILL)
        assert process.wait(timeout=200) == 0, log(folder)
    finally:
        process.kill()
        process.wait()
    assert [line["step"] for line in reports(folder)] == list(range(1, 201))
    assert_same(tmp_path / "straight", folder)


def arrays_at(folder: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.load_model(folder).state_dict())
