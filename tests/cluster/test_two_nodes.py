"""A Ray cluster of two nodes that somebody else started: join it, and hand it a job."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.cluster import Unauthenticated, refuse_open
from infra.corpus import Corpus
from infra.storage import Store

pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True, slots=True)
class Nodes:
    address: str
    jobs: str


def ray(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("ray")), *words]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("cluster")
    port, dashboard = 26379, 28265
    # One CPU each: a pool of two workers has to span both nodes.
    head = ["start", "--head", "--block", f"--port={port}", "--num-cpus=1", "--node-ip-address=127.0.0.1"]
    head += ["--include-dashboard=true", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    other = ["start", "--block", f"--address=127.0.0.1:{port}", "--num-cpus=1"]
    other += ["--node-ip-address=127.0.0.1"]
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    with (folder / "log").open("w") as log:
        started = [subprocess.Popen(ray(*head), stdout=log, stderr=log, env=environment)]
        wait_for(f"http://127.0.0.1:{dashboard}/api/version")
        started.append(subprocess.Popen(ray(*other), stdout=log, stderr=log, env=environment))
    try:
        yield Nodes(address=f"127.0.0.1:{port}", jobs=f"http://127.0.0.1:{dashboard}")
    finally:
        for node in reversed(started):
            node.terminate()
            node.wait(30)


def wait_for(url: str) -> None:
    for _ in range(120):
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310  # an address that this test made
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    raise TimeoutError(f"{url} did not answer within 60 s")


def pardalis(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.ray
@pytest.mark.slow
def test_a_command_joins_a_cluster_and_a_submitted_job_finds_its_work_done(
    nodes: Nodes, tmp_path: Path, delivery: str
) -> None:
    corpus = str(tmp_path / "corpus")
    words = ["ingest", delivery, "--corpus", corpus, "--as-of", "2026-06-01T00:00:00Z"]
    joined = pardalis(*words, "--address", nodes.address)
    assert joined.returncode == 0, joined.stderr
    made = Corpus(Store.at(corpus)).newest()
    submitted = pardalis("submit", "--address", nodes.jobs, "--", *words, "--json")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "job raysubmit_" in submitted.stderr
    assert '"version": 1' in submitted.stdout
    assert Corpus(Store.at(corpus)).newest() == made


@pytest.mark.ray
@pytest.mark.slow
def test_a_submitted_job_that_fails_gives_its_exit_code_and_its_message(nodes: Nodes, tmp_path: Path) -> None:
    failed = pardalis("submit", "--address", nodes.jobs, "--", "build", "--corpus", str(tmp_path / "nothing"))
    assert failed.returncode == 2
    assert "holds no corpus" in failed.stdout


@pytest.mark.parametrize("address", ["10.1.2.3:6379", "ray://head.example:10001", "http://head:8265"])
def test_a_remote_cluster_without_a_token_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(Unauthenticated, match="RAY_AUTH_MODE=token"):
        refuse_open(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    refuse_open(address)


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "localhost:6379", "auto", "http://127.0.0.1:8265"])
def test_this_machine_needs_no_token(address: str) -> None:
    refuse_open(address)
