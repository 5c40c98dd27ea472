"""What breaks on a cluster of four nodes while a job runs, and what was promised of it.

The job of most is one whose shards take seconds and tell where they are made (tests/cluster/work.py), so that
each fault strikes a shard in the middle. Every wait here is bounded.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from infra.artifact import load_artifact
from infra.corpus import LEASE_S
from infra.storage import Store
from tests.cluster.clusters import (
    HEAD,
    LOST_S,
    NODES,
    OBJECTS_BYTES,
    Cluster,
    cluster,
    raylets,
    until,
    workers,
)
from tests.cluster.faults import Recovered, fault, seldom
from tests.cluster.namespaces import need_hosts
from tests.cluster.work import STEP, prepare, words

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]
NUM, SECONDS = 12, 2.0
JOB_S = 150.0
"""For a job that undisturbed takes 15 s, most of it to start workers."""
GOES_ON = "the job goes on; the shards that were lost are made again, with the same bytes"
FAILS = "the job ends with exit 1 and names the shard; nothing looks complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """On a corpus of its own, and one host; something is to break under it."""

    cluster: Cluster
    store: Store
    told: Path
    """Where shards tell on which host they begin."""
    driver: str
    command: list[str]

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        host, environment = self.cluster.hosts[self.driver], self.cluster.environment(self.driver)
        with (self.told / "err").open("a") as err:
            process = subprocess.Popen(host.command(self.command), env=environment, stderr=err, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def err(self) -> str:
        return (self.told / "err").read_text()

    def begun(self) -> dict[str, list[str]]:
        """By shard: the hosts on which it was begun."""
        found: dict[str, list[str]] = {}
        for told in self.told.glob("begun-*"):
            found.setdefault(told.name.split("-")[1], []).append(told.read_text())
        return found

    def at_work(self) -> dict[str, str]:
        """By shard that is begun and not done: the host that began it last."""
        begun = sorted(self.told.glob("begun-*"), key=lambda told: told.stat().st_mtime)
        found = {told.name.split("-")[1]: told.read_text() for told in begun}
        return {slot: host for slot, host in found.items() if not (self.told / f"ended-{slot}").exists()}

    def until_begun_apart(self, process: subprocess.Popen[str]) -> str:
        """A host with a shard at work, which has neither the head nor the driver."""

        def apart() -> list[str]:
            assert process.poll() is None, self.err()
            return sorted({*self.at_work().values()} - {HEAD, self.driver, ""})

        until(lambda: bool(apart()), JOB_S, "a shard is begun beside the head")
        return apart()[0]

    def ended(self, process: subprocess.Popen[str]) -> int:
        try:
            return process.wait(JOB_S)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the job did not end within {JOB_S:g} s: {self.err()}") from None

    def until_begun_again(self, lost: Mapping[str, str]) -> float:
        """Seconds until one more worker began each shard that was at work, wherever it is."""
        return until(
            lambda: all(len(self.begun()[slot]) > 1 for slot in lost) or self.is_whole(),
            JOB_S,
            f"shards {sorted(lost)} are begun again",
        )

    def artifacts(self) -> list[str]:
        return self.store.names(f"artifacts/{STEP}/")

    def is_whole(self) -> bool:
        """Its artifact is there, with what an undisturbed job would have written."""
        names = self.artifacts()
        if not names:
            return False
        artifact = load_artifact(self.store, STEP, Path(names[0]).stem)
        found = {slot: self.store.read(shard.name("out")) for slot, shard in artifact.shards.items()}
        return found == {str(slot): str(slot).encode() * 1000 for slot in range(NUM)}


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    need_hosts()
    with cluster(tmp_path_factory.mktemp("faults")) as found:
        found.start(*NODES)
        yield found


@pytest.fixture
def job(four: Cluster, tmp_path: Path) -> Job:
    return on(four, tmp_path)


def on(
    found: Cluster,
    folder: Path,
    *,
    store: Store | None = None,
    driver: str = HEAD,
    seconds: float = SECONDS,
    **workers: float,
) -> Job:
    """With all nodes alive, whatever became of them before."""
    for name in {*found.hosts} & {*NODES}:
        if name not in found.started or found.started[name].poll() is not None:
            found.restart(name)
    found.start()
    store, told = store or found.corpus(folder.name), folder / "told"
    prepare(store, NUM)
    told.mkdir()
    command = words(store, told, found.address, num=NUM, seconds=seconds, **workers)
    return Job(cluster=found, store=store, told=told, driver=driver, command=command)


def lost_with(job: Job, host: str) -> dict[str, str]:
    return {slot: where for slot, where in job.at_work().items() if where == host}


@fault("a worker process is killed", GOES_ON)
@seldom
def test_a_killed_worker(job: Job, recovered: Recovered) -> None:
    with job.running() as process:
        host = job.until_begun_apart(process)
        lost = lost_with(job, host)
        for one in workers(job.cluster.hosts[host]):
            one.kill()
        recovered(job.until_begun_again(lost))
        assert job.ended(process) == 0, job.err()
    assert job.is_whole()


@fault("a raylet is killed", GOES_ON)
@seldom
def test_a_killed_raylet(job: Job, recovered: Recovered) -> None:
    with job.running() as process:
        host = job.until_begun_apart(process)
        lost = lost_with(job, host)
        for one in raylets(job.cluster.hosts[host]):
            one.kill()
        recovered(job.until_begun_again(lost))
        assert job.ended(process) == 0, job.err()
    assert job.is_whole()


@fault("all of a node is killed, and it does not come back", GOES_ON)
@seldom
def test_a_killed_node(job: Job, recovered: Recovered) -> None:
    with job.running() as process:
        host = job.until_begun_apart(process)
        lost = lost_with(job, host)
        job.cluster.kill(host)
        recovered(job.until_begun_again(lost))
        assert job.ended(process) == 0, job.err()
    assert job.is_whole()


@fault("a node is frozen for longer than Ray's health check, and thaws", GOES_ON)
@seldom
def test_a_frozen_node(job: Job, recovered: Recovered) -> None:
    with job.running() as process:
        host = job.until_begun_apart(process)
        lost = lost_with(job, host)
        job.cluster.hosts[host].freeze()
        try:
            recovered(job.until_begun_again(lost))
            assert job.ended(process) == 0, job.err()
            until(lambda: host not in job.cluster.alive(), 2 * LOST_S, f"{host} counts as dead")
        finally:
            job.cluster.hosts[host].thaw()
    time.sleep(SECONDS)  # its worker finishes the shard that it was at, and may publish it
    assert job.is_whole()
    job.cluster.restart(host)
    job.cluster.start()


@fault("a node is cut off the network, and rejoins", GOES_ON)
@seldom
def test_a_node_that_is_cut_off(job: Job, recovered: Recovered) -> None:
    with job.running() as process:
        host = job.until_begun_apart(process)
        lost = lost_with(job, host)
        job.cluster.hosts[host].cut_off()
        try:
            recovered(job.until_begun_again(lost))
            assert job.ended(process) == 0, job.err()
        finally:
            job.cluster.hosts[host].rejoin()
    assert job.is_whole()
    job.cluster.restart(host)
    job.cluster.start()


@fault("a node joins", "the job that runs uses it")
def test_a_node_that_joins(four: Cluster, tmp_path: Path, recovered: Recovered) -> None:
    job = on(four, tmp_path, seconds=8.0)
    four.kill("fourth")
    until(lambda: "fourth" not in four.alive(), 2 * LOST_S, "the node counts as dead")
    with job.running() as process:
        job.until_begun_apart(process)
        four.restart("fourth")
        recovered(until(lambda: "fourth" in job.at_work().values(), JOB_S, "it has a shard"))
        assert job.ended(process) == 0, job.err()
    assert job.is_whole()


@fault("a shard kills every worker that begins it", FAILS)
def test_a_poison_shard(job: Job, recovered: Recovered) -> None:
    (job.told / "poison-5").touch()
    began = time.monotonic()
    with job.running() as process:
        assert job.ended(process) == 1, job.err()
    recovered(time.monotonic() - began)
    assert "shard 5" in job.err()
    assert not job.artifacts()
    assert not [name for name in job.store.names(f"shards/{STEP}/") if b"5" * 1000 in job.store.read(name)]
    (job.told / "poison-5").unlink()
    with job.running() as process:
        assert job.ended(process) == 0, job.err()
    assert job.is_whole()


@fault("a shard is stuck", "an idle worker begins it too, and the first that makes it is taken")
def test_a_straggler(four: Cluster, tmp_path: Path, recovered: Recovered) -> None:
    job = on(four, tmp_path, slow=2.0, slow_s=5.0)
    (job.told / "stuck-3").touch()
    with job.running() as process:
        until(lambda: "3" in job.begun(), JOB_S, "the shard is begun")
        began = time.monotonic()
        until(lambda: len(job.begun()["3"]) > 1, JOB_S, "another worker begins it")
        recovered(time.monotonic() - began)
        assert job.ended(process) == 0, job.err()
    assert job.is_whole()


@fault(
    "the driver is killed",
    "running the command again finishes it: at once on the same host, on another as soon as the lease ends",
)
@seldom
def test_a_killed_driver(job: Job, recovered: Recovered) -> None:
    with job.running() as process:
        job.until_begun_apart(process)
        process.kill()
        process.wait()
    other = replace(job, driver="second")
    with other.running() as process:
        assert other.ended(process) == 1
    assert "wait for it, or for" in other.err()
    began = time.monotonic()
    with job.running() as process:
        assert job.ended(process) == 0, job.err()
    recovered(time.monotonic() - began)
    assert job.is_whole()


@fault(
    "the driver's host is gone",
    f"another takes over as soon as the lease ends, {LEASE_S:.0f} s after the host was last heard of",
)
@seldom
def test_a_lease_of_a_host_that_is_gone(job: Job, recovered: Recovered) -> None:
    with job.running() as process:
        job.until_begun_apart(process)
        process.kill()
        process.wait()
    other = replace(job, driver="second")
    began = time.monotonic()
    while True:
        with other.running() as process:
            if other.ended(process) == 0:
                break
        assert time.monotonic() - began < LEASE_S + JOB_S, other.err()
    recovered(time.monotonic() - began)
    assert other.is_whole()


FILLING = """
import sys, time
import numpy as np, ray
ray.init(address=sys.argv[1], log_to_driver=False)
kept = [ray.put(np.full(8 << 20, part, dtype=np.uint8)) for part in range(int(sys.argv[2]) // (8 << 20))]
print("full", flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def filled(found: Cluster, name: str) -> Iterator[None]:
    """A driver on that node keeps twice what its object store holds: half of it is on disk."""
    command = [sys.executable, "-c", FILLING, found.address, str(2 * OBJECTS_BYTES)]
    path = found.folder / f"filling-{name}"

    with path.open("w") as told:
        process = subprocess.Popen(
            found.hosts[name].command(command), env=found.environment(name), stdout=told, stderr=told
        )
    try:
        until(lambda: "full" in path.read_text(), JOB_S, f"the store of {name} is full")
        yield
    finally:
        process.kill()
        process.wait()


@fault("the object store of every node is full", "the job goes on: no image passes through it")
@seldom
def test_full_object_stores(job: Job, recovered: Recovered) -> None:
    with contextlib.ExitStack() as stack:
        for name in NODES:
            stack.enter_context(filled(job.cluster, name))
        began = time.monotonic()
        with job.running() as process:
            assert job.ended(process) == 0, job.err()
        recovered(time.monotonic() - began)
    assert job.is_whole()


@pytest.fixture
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The head keeps what it knows on its disk, and is away from the driver."""
    need_hosts()
    folder = tmp_path_factory.mktemp("disk")
    stored = {"gcs_storage": "rocksdb", "gcs_storage_path": str(folder / "gcs")}
    with cluster(folder, names=NODES[:3], **stored) as found:
        found.start(*NODES[:3])
        yield found


@pytest.mark.parametrize("returns", [True, False], ids=["returns", "stays away"])
@fault(
    "the head is killed, and its state is on disk",
    "the command goes on, or ends with exit 1 and a message; run again, it finishes with the same bytes",
)
@seldom
def test_a_killed_head(on_disk: Cluster, tmp_path: Path, recovered: Recovered, *, returns: bool) -> None:
    job = on(on_disk, tmp_path, driver="second")
    with job.running() as process:
        until(lambda: bool(job.at_work()), JOB_S, "a shard is begun")
        began = time.monotonic()
        if returns:
            on_disk.restart(HEAD)
        else:
            on_disk.kill(HEAD)
        code = job.ended(process)
        told = job.err()
    recovered(time.monotonic() - began)
    assert code in (0, 1), told
    # Ray ends a driver whose head is away for 60 s, at once and with a message of its own.
    assert code == 0 or "pardalis: " in told or "Failed to connect to GCS" in told, told
    for name in NODES[:3]:
        on_disk.restart(name)
    on_disk.start()
    with job.running() as process:
        assert job.ended(process) == 0, job.err()
    assert job.is_whole()
