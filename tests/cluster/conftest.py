"""A Ray cluster of two nodes that the commands under test did not start; and what tests tell of faults."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray.util import get_node_ip_address

from tests.cluster import faults
from tests.cluster.faults import Recovered
from tests.laws.conftest import Deliveries, sample

PATIENCE_S = 90


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(what, promise): a line of the table of faults")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    told = faults.line(item, report)
    if told is not None and faults.FILE in os.environ:
        with Path(os.environ[faults.FILE]).open("a") as lines:
            lines.write(json.dumps(told) + "\n")
    return report


@pytest.fixture
def recovered(record_property: Callable[[str, object], None]) -> Recovered:
    """Tells how many seconds it took until all was well again."""

    def tell(seconds: float) -> None:
        record_property(faults.SECONDS, seconds)

    return tell


PORT, DASHBOARD = 26379, 28265


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    address: str
    jobs: str
    token: Path

    def environment(self) -> dict[str, str]:
        """For those who come to the cluster: the token, and no word about whether to show it."""
        inherited = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
        return {
            **inherited,
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }

    def ask(self, path: str) -> Any:
        bearer = {"Authorization": f"Bearer {self.token.read_text()}"}
        request = urllib.request.Request(self.jobs + path, headers=bearer)  # noqa: S310  # our own address
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  # the same
            return json.load(answer)

    def alive(self) -> int:
        rows = self.ask("/api/v0/nodes")["data"]["result"]["result"]
        return sum(row["state"] == "ALIVE" for row in rows)

    def nodes_of_workers(self) -> set[str]:
        """Nodes on which an actor of the engine's pool ever ran."""
        rows = self.ask("/api/v0/actors?detail=1")["data"]["result"]["result"]
        return {row["node_id"] for row in rows if row["class_name"] == "Worker"}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """One CPU each, so that a pool of two workers has to span both."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "token").write_text(secrets.token_hex(16))
    host = get_node_ip_address()  # Ray takes no loopback address for a node
    made = Nodes(address=f"{host}:{PORT}", jobs=f"http://127.0.0.1:{DASHBOARD}", token=folder / "token")
    started: list[subprocess.Popen[bytes]] = []
    with (folder / "log").open("w") as log:

        def start(*words: str) -> None:
            ray = str(Path(sys.executable).with_name("ray"))
            command = [ray, "start", "--block", "--num-cpus=1", "--disable-usage-stats", *words]
            environment = {**made.environment(), "RAY_AUTH_MODE": "token"}
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))

        try:
            dashboard = ["--include-dashboard=true", f"--dashboard-port={DASHBOARD}"]
            start("--head", f"--port={PORT}", *dashboard)
            until(lambda: made.alive() == 1)
            start(f"--address={made.address}")
            until(lambda: made.alive() == 2)
            yield made
        finally:
            for node in reversed(started):
                node.terminate()
            for node in started:
                node.wait(30)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            if holds():
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.5)
    raise TimeoutError(f"the cluster was not ready within {PATIENCE_S} s")


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> str:
    samples = [sample(number) for number in range(24)]
    return Deliveries(tmp_path_factory.mktemp("delivered")).write(samples)
