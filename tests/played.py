"""A small corpus of drawn shapes with a run that was tuned on it, and the playground on both."""

from __future__ import annotations

import contextlib
import functools
import io
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from infra.cli import run
from tests.laws.conftest import Deliveries, license_, sample
from tests.laws.served import Process, begun
from tests.laws.test_instruct import AMOUNTS, SETTINGS, SHORT

NUM, HIDDEN_EVERY = 30, 4
"""Pictures, and of how many one may not be shown."""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Sums depend on the number of threads: the service has as many as the tests, which repeat its commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    folder: Path

    @property
    def corpus(self) -> str:
        return str(self.folder / "corpus")

    @property
    def tuned(self) -> Path:
        return self.folder / "tuned"


@functools.cache
def world(root: Path) -> World:
    """Every fourth picture is under a licence that lets it be retrieved, and not be shown."""
    made = World(folder=root / "played")
    made.folder.mkdir()
    file = made.folder / "tiny.toml"
    file.write_text(SETTINGS)
    shown = license_(license_id="for-all")
    hidden = license_(license_id="not-shown", uses={**shown.uses.model_dump(), "retrieval_display": "deny"})
    samples = [
        sample(number, license_ids=["for-all" if number % HIDDEN_EVERY else "not-shown"])
        for number in range(NUM)
    ]
    uri = Deliveries(made.folder).write(samples, {"for-all": shown, "not-shown": hidden})
    options = ["--corpus", made.corpus, "--config", str(file), "--engine", "inline"]
    base = ["--run", str(made.folder / "base"), *options, *SHORT]
    tuned = ["--run", str(made.tuned), "--base", str(made.folder / "base"), "--corpus", made.corpus]
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *options]) == 0
    assert run(["build", *options]) == 0
    assert run(["instruct", "make", *options, *AMOUNTS]) == 0
    assert run(["train", *base]) == 0
    assert run(["tune", *tuned, "--engine", "inline", *SHORT]) == 0
    return made


@contextlib.contextmanager
def playing(world: World, *words: str) -> Iterator[Process]:
    given = ["playground", "--run", str(world.tuned), "--corpus", world.corpus, *words]
    with begun(given, ONE_THREAD) as process:
        yield process


def repeated(command: str, folder: Path) -> str:
    """What a command that the page told prints, run in a folder that holds what it reads."""
    first, *words = shlex.split(command)
    assert first == "pardalis"
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as out:
        assert run([*words, "--json"]) == 0
    return out.getvalue()


def answered(http: httpx.Client, wish: dict[str, Any]) -> dict[str, Any]:
    """What a job that is asked for is in the end."""
    asked = http.post("/jobs", json=wish)
    assert asked.status_code == 202, asked.text
    job: dict[str, Any] = asked.json()
    while job["state"] in ("waiting", "running"):
        time.sleep(0.1)  # the door counts requests
        job = http.get(f"/jobs/{job['job']}").json()
    return job
