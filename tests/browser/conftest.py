"""Chromium, a small corpus of drawn shapes, and the search service on it, started as anybody would."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from infra.cli import run
from pipeline.contract import Asset
from tests.laws.conftest import TINY, Deliveries, sample

PATIENCE_S = 120
WIDE = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
NUM_PICTURES = 48
CATEGORIES = ("shapes", "signs", "toys")


# Ends with this package: playwright leaves an event loop running in the thread, beside which no other can
# begin.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a page complained of in its console; a test that expects some says so by clearing it."""

    errors: list[str] = field(default_factory=list)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def page(chromium: Browser, heard: Heard) -> Iterator[Page]:
    context = chromium.new_context(viewport=WIDE, permissions=["clipboard-read", "clipboard-write"])
    opened = context.new_page()
    opened.set_default_timeout(10_000)
    opened.on("pageerror", lambda error: heard.errors.append(str(error)))
    opened.on("console", lambda told: told.type == "error" and heard.errors.append(told.text))
    yield opened
    opened.unroute_all(behavior="ignoreErrors")
    context.close()
    # That an answer was 404 or none is told in the console whatever the page makes of it.
    assert not [error for error in heard.errors if "Failed to load resource" not in error]


def described(number: int) -> tuple[Asset, bytes]:
    """A drawn shape of a category, a contributor and a month."""
    category, contributor = {"name": CATEGORIES[number % 3]}, {"id": f"c-{number % 5}"}
    created = f"2025-{number % 12 + 1:02d}-15T12:00:00Z"
    return sample(number, categories=[category], contributor=contributor, date_created=created)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("browser")
    (folder / "tiny.toml").write_text(TINY)
    uri = Deliveries(folder).write([described(number) for number in range(NUM_PICTURES)])
    words = ["--corpus", str(folder / "corpus"), "--config", str(folder / "tiny.toml"), "--engine", "inline"]
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *words]) == 0
    assert run(["build", *words]) == 0
    return str(folder / "corpus")


def served(corpus: str, folder: Path, *words: str) -> tuple[subprocess.Popen[str], str]:
    """The process, in a group of its own, and its address."""
    command = [
        sys.executable,
        "-m",
        "infra.cli",
        "index",
        "serve",
        "--corpus",
        corpus,
        "--port",
        "0",
        "--json",
    ]
    environment = {**os.environ, "RAY_TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    with (folder / "err").open("w") as err, (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [*command, *words], stdout=out, stderr=err, text=True, env=environment, start_new_session=True
        )
    until = time.monotonic() + PATIENCE_S
    while not (told := (folder / "out").read_text()).endswith("}\n"):
        assert process.poll() is None, (folder / "err").read_text()
        assert time.monotonic() < until, (folder / "err").read_text()
        time.sleep(0.1)
    return process, json.loads(told)["address"]


@pytest.fixture(scope="package")
def url(corpus: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="serve", ignore_cleanup_errors=True) as folder:
        process, address = served(corpus, Path(folder), "--open")
        with ended(process):
            yield address


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
