"""Laws of the tokenizer's service on Ray Serve, asked over HTTP as ``pardalis tokenizer serve`` runs it."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
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
from .served import PATIENCE_S, Process, begun

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
SIDE, MAX_BATCH = 32, 8
IMAGES = [picture(seed) for seed in range(48)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running(Process):
    def post(self, path: str, **words: Any) -> httpx.Response:
        headers = {**BEARER, **words.pop("headers", {})}
        return httpx.post(self.url + path, headers=headers, timeout=60, **words)

    def encode(self, numbers: list[int]) -> httpx.Response:
        files = [base64.b64encode(IMAGES[number]).decode() for number in numbers]
        return self.post("/encode", json={"images": files})


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Running]:
    """With its token in the environment."""
    (folder / "model.safetensors").write_bytes(weights())
    words = ["tokenizer", "serve", "--model", str(folder / "model.safetensors"), "--side", str(SIDE)]
    words += ["--max-batch", str(MAX_BATCH), "--rate", "100000"]
    with begun(words, {"PARDALIS_SERVICE_TOKEN": TOKEN}) as found:
        yield Running(url=found.url, process=found.process, folder=found.folder)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("model")) as found:
        yield found


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
        waiting, images = inside(running, callers)
        running.process.send_signal(signal.SIGTERM)
        statuses = [status(one) for one in waiting]
    assert running.process.wait(60) == 0, (running.folder / "err").read_text()
    assert statuses.count(200) >= images / 48
    assert set(statuses) <= {200, 503}
    logs = [path for path in running.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in logs)
    assert not [path for path in logs if TOKEN.encode() in path.read_bytes()]


def inside(running: Running, callers: ThreadPoolExecutor) -> tuple[list[Future[httpx.Response]], float]:
    """Requests of 48 images, some of which were seen inside, and the images of those.

    On a busy machine one is answered before anybody has looked: so they are sent until one is seen.
    """
    waiting: list[Future[httpx.Response]] = []
    images = 0.0
    while not images:
        waiting += [callers.submit(running.encode, list(range(48))) for _ in range(4)]
        images = running.metric("pardalis_queue_images")
    return waiting, images


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
def test_ctrl_c_ends_it_as_gently(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        with ThreadPoolExecutor(4) as callers:
            waiting, images = inside(running, callers)
            os.killpg(running.process.pid, signal.SIGINT)
            statuses = [status(one) for one in waiting]
        assert statuses.count(200) >= images / 48
        assert set(statuses) <= {200, 503}
        assert running.process.wait(60) == 0, (running.folder / "err").read_text()
