"""Laws of the engines: the same bytes in process and on Ray, whoever dies on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from ray.exceptions import RayError

from infra import cluster
from infra.artifact import Made
from infra.corpus import Corpus
from infra.settings import Section
from infra.storage import Store
from infra.telemetry import Log
from pipeline import build, pool, refs
from pipeline.config import Config
from pipeline.engine import Done, Inline, JobFailed
from pipeline.pool import OnRay
from pipeline.scheduling import WorkersConfig
from pipeline.step import OutOfMemory, Report, Source, Step, Task, Workers

from .conftest import TINY, Build, Deliveries, sample
from .test_build import contents
from .test_revocation import revocation, revoked

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def on_ray() -> Iterator[OnRay]:
    with cluster.joined(None):
        engine = OnRay()
        yield engine
        engine.close()


def test_inline_and_ray_write_the_same_bytes(
    on_ray: OnRay, tmp_path: Path, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    uri = deliveries.write([sample(number) for number in range(20)])
    here, there = (Corpus(Store.at(tmp_path / name)) for name in ("here", "there"))
    assert built(here, [uri], Inline()) == built(there, [uri], on_ray)
    prefixes = ("shards/", "artifacts/", "versions/", "registers/", "deliveries/")
    assert contents(here.store, *prefixes) == contents(there.store, *prefixes)
    lines = [revocation("a0003", "a0012")]
    assert revoked(here, tiny, lines) == revoked(there, tiny, lines, engine=on_ray)
    assert contents(here.store, *prefixes) == contents(there.store, *prefixes)


def numbered(source: Source) -> Sequence[Task]:
    names = [str(number) for number in range(6)]
    return [Task(slot=name, reads={"in": (refs.Ref(source.store, name, digest(name)),)}) for name in names]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def fragile_step(trap: Path, *, deaths: int) -> Step:
    """Its worker kills itself on shard 3, so many times."""

    def do(task: Task, _report: Report) -> Made:
        died = len(list(trap.glob("*")))
        if task.slot == "3" and died < deaths:
            (trap / str(died)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Made(files={"out": task.only("in").read() * 2}, counts={"kept": 1})

    return Step(name=f"fragile-{deaths}", settings=Section(), tasks=numbered, open=lambda: do)


def run_fragile(root: Path, on_ray: OnRay, *, deaths: int) -> tuple[Corpus, dict[str, str]]:
    corpus = Corpus(Store.at(root / "corpus"))
    trap = root / "trap"
    trap.mkdir()
    for number in range(6):
        corpus.store.write(str(number), str(number).encode())
    source = build.Built(corpus=corpus, version=corpus.head())
    artifact = build.run_step(source, fragile_step(trap, deaths=deaths), on_ray, Log())
    return corpus, {
        slot: refs.of(corpus.store, shard, "out").read().decode() for slot, shard in artifact.shards.items()
    }


def test_a_killed_worker_changes_nothing(on_ray: OnRay, tmp_path: Path) -> None:
    _, found = run_fragile(tmp_path, on_ray, deaths=1)
    assert found == {str(number): str(number) * 2 for number in range(6)}
    assert len(list((tmp_path / "trap").glob("*"))) == 1


def test_a_shard_that_kills_every_worker_fails_the_job_by_its_name(on_ray: OnRay, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="'fragile-100', shard 3"):
        run_fragile(tmp_path, on_ray, deaths=100)
    assert not Corpus(Store.at(tmp_path / "corpus")).store.names("artifacts/")
    on_ray.close()


def sleeping_step(trap: Path, seconds: float) -> Step:
    """Shard 3 sleeps where nobody was before; the others take no time."""

    def do(task: Task, _report: Report) -> Made:
        if task.slot == "3":
            with contextlib.suppress(FileExistsError):
                (trap / "first").touch(exist_ok=False)
                time.sleep(seconds)
        return Made(files={"out": task.only("in").read() * 2}, counts={"kept": 1})

    return Step(name="sleeping", settings=Section(), tasks=numbered, open=lambda: do)


def run_sleeping(root: Path, config: WorkersConfig) -> dict[str, Done]:
    corpus = Corpus(Store.at(root / "corpus"))
    (root / "trap").mkdir()
    for number in range(6):
        corpus.store.write(str(number), str(number).encode())
    source = build.Built(corpus=corpus, version=corpus.head())
    step = sleeping_step(root / "trap", 600)
    with contextlib.closing(OnRay(config)) as engine, Log().bar("sleeping", total=6, unit="shards") as bar:
        done = list(engine.run(step, step.tasks(source), corpus.store, bar))
    assert sorted(one.slot for one in done) == [str(number) for number in range(6)]
    return {one.slot: one for one in done}


def test_an_idle_worker_begins_a_slow_shard_too_and_the_slow_one_is_not_waited_for(
    on_ray: OnRay, tmp_path: Path
) -> None:
    on_ray.close()
    done = run_sleeping(tmp_path, WorkersConfig(slow_s=0.5))
    assert done["3"].tries == 2
    assert done["3"].seconds < 600


@pytest.mark.slow
def test_a_worker_that_gives_no_sign_of_life_is_killed_and_its_shard_made_by_another(
    on_ray: OnRay, tmp_path: Path
) -> None:
    on_ray.close()
    done = run_sleeping(tmp_path, WorkersConfig(deadline_s=25, slow_s=900))
    assert done["3"].tries == 2


def test_a_directory_is_of_its_own_run_whatever_lay_in_its_place_before(
    on_ray: OnRay, tmp_path: Path
) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    source = build.Built(corpus=corpus, version=corpus.head())

    def do(task: Task, _report: Report) -> Made:
        return Made(files={"out": task.directories["all"].files[task.slot].read()}, counts={"kept": 1})

    for round_ in range(8):
        text = f"round {round_}"
        corpus.store.write(text, text.encode())

        def tasks(_source: Source, text: str = text) -> Sequence[Task]:
            files = {str(slot): refs.Ref(corpus.store, text, digest(text)) for slot in range(6)}
            every = {"all": refs.Directory.of(files, files)}
            return [Task(slot=slot, reads={}, directories=every) for slot in files]

        step = Step(name="looking", settings=Section(), tasks=tasks, open=lambda: do)
        artifact = build.run_step(source, step, on_ray, Log())
        found = {corpus.store.read(shard.name("out")) for shard in artifact.shards.values()}
        assert found == {text.encode()}


@pytest.mark.slow
def test_a_worker_that_opens_files_is_alive_however_long_its_shard_takes(
    on_ray: OnRay, tmp_path: Path
) -> None:
    on_ray.close()
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    corpus.store.write("0", b"0")
    source = build.Built(corpus=corpus, version=corpus.head())

    def do(task: Task, _report: Report) -> Made:
        for _ in range(25):
            time.sleep(1)
            task.only("in").read()
        return Made(files={"out": b""}, counts={"kept": 1})

    def tasks(source: Source) -> Sequence[Task]:
        return numbered(source)[:1]

    step = Step(name="reading", settings=Section(), tasks=tasks, open=lambda: do)
    engine = OnRay(WorkersConfig(deadline_s=12))
    with contextlib.closing(engine), Log().bar("reading", total=1, unit="shards") as bar:
        (done,) = engine.run(step, step.tasks(source), corpus.store, bar)
    assert done.tries == 1
    assert done.seconds > 24


def test_workers_that_die_together_as_they_start_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of sixteen that goes while its workers come up is no sign of wrong packages."""
    engine = OnRay()
    for _ in range(16):
        engine.count_stillborn(RayError("the node is gone"))
    monkeypatch.setattr(pool, "TOGETHER_S", 0.0)
    with pytest.raises(JobFailed, match=r"5 times in a row workers died .*the node is gone"):
        for _ in range(5):
            engine.count_stillborn(RayError("the node is gone"))


ASKING = """
import os, ray
from infra import cluster
with cluster.joined(None):
    told = ray.remote(lambda: os.environ.get("PARDALIS_S3_PATIENCE_S"))
    print(ray.get(told.remote()))
"""


@pytest.mark.slow
def test_workers_are_as_patient_with_a_store_as_their_driver_is_told_to_be() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASKING],
        env={**os.environ, "PARDALIS_S3_PATIENCE_S": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.strip() == "77"


def test_where_no_worker_can_start_the_job_says_what_it_waited_for(on_ray: OnRay, tmp_path: Path) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    corpus.store.write("0", b"0")
    source = build.Built(corpus=corpus, version=corpus.head())
    wants = dataclasses.replace(sleeping_step(tmp_path, 0), workers=Workers(gpus=1))
    on_ray.close()
    engine = OnRay(WorkersConfig(start_s=2))
    with (
        contextlib.closing(engine),
        Log().bar("sleeping", total=6, unit="shards") as bar,
        pytest.raises(JobFailed, match=r"no worker of 1 CPUs, 1 GPUs and .* GiB came up within 2 s"),
    ):
        list(engine.run(wants, wants.tasks(source), corpus.store, bar))


class Images(Section):
    images: int


def hungry_step(images: int) -> Step:
    """A batch of more than two images is too large for the last shard, and the others take their time."""

    def do(task: Task, _report: Report) -> Made:
        if task.slot == "5" and images > 2:
            raise OutOfMemory(f"{images} images do not fit")
        time.sleep(0.05)
        return Made(files={"out": bytes([images])}, counts={"kept": 1})

    smaller = functools.partial(hungry_step, images // 2) if images > 1 else None
    return Step(
        name="hungry", settings=Images(images=images), tasks=numbered, open=lambda: do, smaller=smaller
    )


@pytest.mark.slow
def test_a_device_that_is_full_makes_all_workers_begin_again_with_smaller_batches(
    on_ray: OnRay, tmp_path: Path
) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    for number in range(6):
        corpus.store.write(str(number), str(number).encode())
    source = build.Built(corpus=corpus, version=corpus.head())
    artifact = build.run_step(source, hungry_step(8), on_ray, Log())
    assert artifact.settings == {"images": 2}
    assert {corpus.store.read(shard.name("out")) for shard in artifact.shards.values()} == {b"\2"}


def pardalis(*words: str) -> list[str]:
    return [sys.executable, "-m", "infra.cli", *words]


def whole_job(build: psutil.Process) -> list[psutil.Process]:
    """The command and all that it started: Ray's head, its raylet, their workers."""
    return [build, *build.children(recursive=True)]


def one_worker(build: psutil.Process) -> list[psutil.Process]:
    """A worker of the engine's pool. Ray writes the class of an actor into its process's title."""
    return [one for one in build.children(recursive=True) if "ray::Worker" in " ".join(one.cmdline())][:1]


@pytest.mark.slow
@pytest.mark.timeout(600)  # six commands, each with a cluster of its own
@pytest.mark.parametrize("victims", [whole_job, one_worker])
def test_a_build_that_was_shot_at_ends_with_the_bytes_of_an_undisturbed_one(
    victims: Callable[[psutil.Process], list[psutil.Process]],
    tmp_path: Path,
    deliveries: Deliveries,
) -> None:
    """``kill -9`` in the middle of ``build``: of a worker, which the build survives; of the whole job."""
    uri = deliveries.write([sample(number) for number in range(24)])
    (tmp_path / "tiny.toml").write_text(TINY)

    def flags(name: str) -> list[str]:
        return ["--corpus", str(tmp_path / name), "--config", str(tmp_path / "tiny.toml")]

    for name in ("calm", "shot"):
        subprocess.run(pardalis("ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *flags(name)), check=True)
    calm, shot = (Store.at(tmp_path / name) for name in ("calm", "shot"))
    ingested = steps_done(shot)
    subprocess.run(pardalis("build", *flags("calm")), check=True)

    with subprocess.Popen(pardalis("build", *flags("shot"))) as build:
        found: list[psutil.Process] = []
        while not found:
            assert build.poll() is None, "the build ended before anything could be killed"
            if len(steps_done(shot) - ingested) >= 2:
                found = victims(psutil.Process(build.pid))
            time.sleep(0.02)
        for process in found:
            process.kill()
        survives = victims is one_worker
        assert (build.wait() == 0) == survives
    assert (steps_done(shot) == steps_done(calm)) == survives
    subprocess.run(pardalis("build", *flags("shot")), check=True)
    prefixes = ("shards/", "artifacts/", "versions/", "registers/")
    assert contents(shot, *prefixes) == contents(calm, *prefixes)


def steps_done(store: Store) -> set[str]:
    """Names of the steps whose artifact is published."""
    return {name.split("/")[1] for name in store.names("artifacts/")}
