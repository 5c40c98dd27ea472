"""``pardalis status`` of a driver that works, is killed, and is followed by one that goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import logs, metrics
from infra.cli import run
from infra.storage import Store
from tests.laws.conftest import TINY, Deliveries, sample
from tests.seaweed import free_ports

pytestmark = [pytest.mark.plan, pytest.mark.long, pytest.mark.timeout(400)]

INLINE = ("--engine", "inline")
ENDLESS = ("--set", "tokenizer.image.fit.steps = 10_000_000")
PATIENCE_S = 150


def status(capsys: pytest.CaptureFixture[str], at: list[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["status", "--json", *at]) == 0
    return dict(json.loads(capsys.readouterr().out))


def until(is_true: Callable[[], bool], what: str) -> None:
    for _ in range(PATIENCE_S * 2):
        if is_true():
            return
        time.sleep(0.5)
    raise TimeoutError(f"{what}: not in {PATIENCE_S} s")


@pytest.fixture
def corpus(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Until split; what it is asked for by."""
    (tmp_path / "tiny.toml").write_text(TINY)
    at = ["--corpus", store.uri]
    uri = Deliveries(tmp_path).write([sample(number) for number in range(24)])
    told = [*at, "--config", str(tmp_path / "tiny.toml"), *INLINE]
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *told]) == 0
    assert run(["build", "--to", "split", *told]) == 0
    return at


@pytest.fixture
def driver(corpus: list[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A build that is at work, in a process of its own, and the port at which it tells its metrics."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "build", *INLINE, *ENDLESS, *corpus],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, metrics.ADDRESS: str(port)},
    )
    yield process, port
    process.kill()
    process.communicate(timeout=60)


def test_a_job_is_seen_at_work_then_gone_then_gone_on_with(
    corpus: list[str], driver: tuple[subprocess.Popen[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    process, port = driver
    store = Store.at(corpus[1])

    def is_fitting() -> bool:
        assert process.poll() is None
        progress = (status(capsys, corpus)["job"] or {}).get("progress") or {}
        return progress.get("step") == "vq" and progress["done"] > 0

    until(is_fitting, "a build fits its tokenizer")
    job = status(capsys, corpus)["job"]
    assert (job["command"], job["pid"], job["host"]) == ("pardalis build", process.pid, socket.gethostname())
    assert (job["driver"], job["version"], job["engine"]) == ("alive", 2, "inline")
    assert job["id"] == logs.jobs(store)[-1]
    ahead = job["progress"]["ahead"]
    assert ahead["step_left_s"] > 60
    # Of what comes after no job has ever told how long it takes.
    assert (ahead["done"], ahead["unknown"][0]) == (7, "tokenize")
    assert ahead["left_s"] >= ahead["step_left_s"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    assert 'pardalis_shards_total{how="found",step="filter"} 3.0' in text
    assert 'pardalis_shards_total{how="made",step="bpe"} 1.0' in text

    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
    killed = time.time()
    found = status(capsys, corpus)
    assert (found["version"], found["job"]["driver"], found["job"]["id"]) == (2, "gone", job["id"])
    written = [event["time"] for event in logs.read(store, job["id"])]
    assert killed - max(written) < 15  # five seconds, on a machine that is not busy
    assert run(["status", *corpus]) == 0
    assert "is gone since 20" in (out := capsys.readouterr().out)
    assert "run the command again, it goes on" in out
    assert run(["logs", "--follow", *corpus]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[1] == "gone"

    assert run(["build", "--to", "bpe", *corpus, *INLINE]) == 0
    after = status(capsys, corpus)
    assert (after["job"], after["version"]) == (None, 3)
    assert "bpe" in after["models"]
    events = list(logs.read(store, logs.jobs(store)[-1]))
    assert "shard" not in {
        event["event"] for event in events
    }  # of what the killed one made nothing is made again
    assert events[-1]["event"] == "done"


def test_before_the_first_version_there_is_the_job_that_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = (
        "import sys, time\nfrom infra.corpus import Corpus\nfrom infra.storage import Store\n"
        "from infra.telemetry import Log\n"
        "corpus = Corpus(Store.at(sys.argv[1]))\n"
        "with corpus.writing(purpose='pardalis ingest') as lease:\n"
        "    with Log().kept(corpus.store, 'ingest', lease=lease.number):\n"
        "        print('here', flush=True)\n        time.sleep(300)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        found = status(capsys, ["--corpus", str(tmp_path)])
        assert (found["version"], found["job"]["command"]) == (0, "pardalis ingest")
        process.terminate()
        process.wait(timeout=30)
        assert logs.last(Store.at(tmp_path), found["job"]["id"])[-1]["event"] == "stopped"
        assert run(["status", "--corpus", str(tmp_path)]) == 2
        assert "holds no corpus" in capsys.readouterr().err
    finally:
        process.kill()
        process.communicate(timeout=20)
