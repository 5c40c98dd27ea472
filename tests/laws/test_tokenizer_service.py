"""Laws of the tokenizer's service on Ray Serve, asked over HTTP as ``pardalis tokenizer serve`` runs it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.cli import run
from infra.corpus import Corpus
from infra.options import ReadOptions
from infra.storage import Store
from pipeline.encoding import square
from pipeline.tokenizer.serving import ServeOptions, chosen
from pipeline.tokenizer.tokenizing import load_vq
from tests.tokenizer_service.served import BEARER, JPEG, TOKEN, bomb, picture, weights
from tokenizer_service import coding, vq
from tokenizer_service.coding import NUMERICS, Numerics
from tokenizer_service.vq import Preprocessing

from .conftest import TINY, Deliveries, sample

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
SIDE, MAX_BATCH = 32, 8
PATIENCE_S = 120
IMAGES = [picture(seed) for seed in range(48)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    url: str
    process: subprocess.Popen[str]
    folder: Path

    def post(self, path: str, **words: Any) -> httpx.Response:
        headers = {**BEARER, **words.pop("headers", {})}
        return httpx.post(self.url + path, headers=headers, timeout=60, **words)

    def encode(self, numbers: list[int]) -> httpx.Response:
        files = [base64.b64encode(IMAGES[number]).decode() for number in numbers]
        return self.post("/encode", json={"images": files})

    def metric(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(httpx.get(f"{self.url}/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def started(folder: Path) -> Running:
    """In a process group of its own, with its token in the environment."""
    (folder / "model.safetensors").write_bytes(weights())
    words = ["--model", str(folder / "model.safetensors"), "--side", str(SIDE), "--port", "0", "--json"]
    words += ["--max-batch", str(MAX_BATCH), "--rate", "100000"]
    environment = {
        **os.environ,
        "PARDALIS_SERVICE_TOKEN": TOKEN,
        "RAY_TMPDIR": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    with (folder / "err").open("w") as err, (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "tokenizer", "serve", *words],
            stdout=out,
            stderr=err,
            text=True,
            env=environment,
            start_new_session=True,
        )
    until = time.monotonic() + PATIENCE_S
    while not (told := (folder / "out").read_text()).endswith("}\n"):
        assert process.poll() is None, (folder / "err").read_text()
        assert time.monotonic() < until, (folder / "err").read_text()
        time.sleep(0.1)
    return Running(url=json.loads(told)["address"], process=process, folder=folder)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    # Sockets of Ray lie below it, and their paths are short ones.
    with tempfile.TemporaryDirectory(prefix="serve", ignore_cleanup_errors=True) as folder:
        found = started(Path(folder))
        try:
            yield found
        finally:
            if found.process.poll() is None:
                os.killpg(found.process.pid, signal.SIGKILL)
            found.process.wait(30)


def alone(number: int) -> list[int]:
    squares = square(IMAGES[number], SIDE, Preprocessing())[None]
    numerics = Numerics(batch_images=MAX_BATCH)
    codes: list[int] = coding.encode_images(vq.load(weights()), squares, numerics=numerics)[0].tolist()
    return codes


def test_codes_are_the_same_whoever_else_is_in_the_batch(running: Running) -> None:
    rng = np.random.default_rng(0)
    asked = [rng.integers(0, 48, rng.integers(1, 6)).tolist() for _ in range(60)]
    before = {name: running.metric(f"pardalis_batch_images_{name}") for name in ("count", "sum")}
    with ThreadPoolExecutor(12) as callers:
        answers = list(callers.map(running.encode, asked))
    expected = {number: alone(number) for number in range(48)}
    for numbers, answer in zip(asked, answers, strict=True):
        assert answer.json()["codes"] == [expected[number] for number in numbers]
    num = sum(map(len, asked))
    assert running.metric("pardalis_batch_images_sum") - before["sum"] == num
    assert running.metric("pardalis_batch_images_count") - before["count"] <= num / 2  # they did share


def test_hostile_requests_are_refused_and_the_next_is_answered(running: Running) -> None:
    asked = [
        (413, {"content": bytes(30_000_000), "headers": JPEG}),
        (422, {"content": bomb(30_000, 30_000), "headers": JPEG}),
        (401, {"content": IMAGES[0], "headers": {**JPEG, "Authorization": f"Bearer wrong-{TOKEN}"}}),
        (415, {"content": b"no image", "headers": JPEG}),
    ]
    for status, request in asked:
        answer = running.post("/encode", **request)
        assert (answer.status_code, set(answer.json())) == (status, {"error", "value", "fix"})
    assert running.post("/encode", content=IMAGES[0], headers=JPEG).json()["codes"] == alone(0)


def replicas(running: Running) -> list[psutil.Process]:
    children = psutil.Process(running.process.pid).children(recursive=True)
    return [one for one in children if "ServeReplica" in " ".join(one.cmdline())]


@pytest.mark.slow
def test_a_killed_replica_is_told_without_a_trace_and_comes_back(running: Running) -> None:
    (replica,) = replicas(running)
    with ThreadPoolExecutor(4) as callers:
        waiting = [callers.submit(running.encode, list(range(48))) for _ in range(4)]
        time.sleep(0.05)
        replica.kill()
        answers = [one.result() for one in waiting]
    for answer in answers:
        assert answer.status_code in (200, 503)
        assert "Traceback" not in answer.text
        assert answer.status_code == 200 or answer.headers["retry-after"] == "1"
    until = time.monotonic() + PATIENCE_S
    while (again := running.encode([5])).status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert again.json()["codes"] == [alone(5)]


def test_no_process_but_the_first_is_given_the_token(running: Running) -> None:
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert len(replicas(running)) == 1
    assert not [one.pid for one in children if TOKEN in str(one.environ()) + str(one.cmdline())]


def test_the_end_answers_those_inside_and_its_logs_hold_no_token(running: Running) -> None:
    """The last of this module."""
    with ThreadPoolExecutor(8) as callers:
        waiting = [callers.submit(running.encode, list(range(48))) for _ in range(8)]
        while not (images := running.metric("pardalis_queue_images")):
            time.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)
        statuses = [status(one) for one in waiting]
    assert running.process.wait(60) == 0, (running.folder / "err").read_text()
    assert statuses.count(200) >= images / 48
    assert set(statuses) <= {200, 503}
    logs = [path for path in running.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in logs)
    assert not [path for path in logs if TOKEN.encode() in path.read_bytes()]


def status(answer: Future[httpx.Response]) -> int:
    try:
        return answer.result().status_code
    except httpx.TransportError:  # it was not inside when the signal came, and nobody listens any more
        return 503


@pytest.mark.plan
def test_a_corpus_serves_the_model_that_its_version_pins(tmp_path: Path, deliveries: Deliveries) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    corpus = str(tmp_path / "corpus")
    words = ["--corpus", corpus, "--config", str(tmp_path / "tiny.toml"), "--engine", "inline"]
    uri = deliveries.write([sample(number) for number in range(12)])
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *words]) == 0
    assert run(["build", "--to", "vq", *words]) == 0
    found, numerics, side = chosen(ReadOptions(corpus=corpus), ServeOptions())
    opened = Corpus(Store.at(corpus))
    assert (side, numerics) == (32, NUMERICS)
    assert vq.save(load_vq(opened, opened.newest())) == found.read()


@pytest.mark.slow
def test_ctrl_c_ends_it_as_gently() -> None:
    with tempfile.TemporaryDirectory(prefix="serve", ignore_cleanup_errors=True) as folder:
        running = started(Path(folder))
        with ThreadPoolExecutor(1) as callers:
            waiting = callers.submit(running.encode, list(range(48)))
            while not running.metric("pardalis_queue_images"):
                time.sleep(0.01)
            os.killpg(running.process.pid, signal.SIGINT)
            assert status(waiting) == 200
        assert running.process.wait(60) == 0, (running.folder / "err").read_text()
