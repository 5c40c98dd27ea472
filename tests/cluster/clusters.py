"""A Ray cluster whose nodes are hosts of their own, and an S3 server on one more that holds the corpora.

Nodes have one CPU each, so that work which wants several has to be spread. They share the files of this
machine, as nodes of a real one may share a file system: a run's folder has to be shared, a corpus need not.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra import s3 as s3_clients
from infra.storage import Store
from tests.cluster.namespaces import Host, hosts
from tests.laws.test_build import contents
from tests.seaweed import BUCKET, Seaweed

HEAD, STORE = "head", "store"
NODES = (HEAD, "second", "third", "fourth")
PORT, DASHBOARD = 6379, 8265
START_S = 120.0
"""For nodes to be alive: 12 s for one, and 40 s for four that begin together on two cores."""
COMMAND_S = 240.0
ROOT = Path(__file__).parents[2]
MADE = ("artifacts/", "shards/", "versions/", "registers/", "deliveries/")
"""All that a corpus is, without what is told of its making: logs and leases."""
SETTINGS = {
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 4000,
    "health_check_failure_threshold": 3,
    "worker_niceness": 0,
}
"""A node that says nothing is dead after 15 s: Ray's 65 s would be most of the time of these tests. Ray gives
workers a niceness of 15, with which they starve where others are at work on the same two cores.
"""
LOST_S = 15.0
OBJECTS_BYTES = 80 << 20
"""Ray's least is 75 MiB."""


class Bridged(Seaweed):
    """The S3 server, on a host of its own."""

    def __init__(self, folder: Path, host: Host) -> None:
        self._host = host
        super().__init__(folder)

    def start(self) -> None:
        if "127.0.0.1" in self.endpoint:
            self.endpoint = self.endpoint.replace("127.0.0.1", self._host.address)
            words = [word.replace("127.0.0.1", self._host.address) for word in self._command]
            self._command = self._host.command(words)
        super().start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    hosts: Mapping[str, Host]
    s3: Seaweed
    folder: Path
    settings: Mapping[str, str]
    """Of Ray, as variables for its nodes."""
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """By node: ``ray start --block``, which ends with any process of the node."""

    @property
    def head(self) -> Host:
        return self.hosts[HEAD]

    @property
    def address(self) -> str:
        return f"{self.head.address}:{PORT}"

    @property
    def jobs(self) -> str:
        return f"http://{self.head.address}:{DASHBOARD}"

    @property
    def token(self) -> Path:
        return self.folder / "token"

    def environment(self, host: str) -> dict[str, str]:
        """Of those who work there: the token, the store's credentials, a cache of their own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return {
            **inherited,
            **self.s3.environment,
            **self.settings,
            "PYTHONPATH": str(ROOT),  # workers import the steps of these tests by name
            "XDG_CACHE_HOME": str(self.folder / "caches" / host),
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_AUTH_MODE": "token",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }

    def start(self, *names: str) -> None:
        """Begin nodes that do not run, and wait until all that were begun are alive."""
        for name in names:
            self.begin(name)
        until(lambda: self.alive() >= set(self.started), START_S, f"the nodes {', '.join(names)} are alive")

    def begin(self, name: str) -> None:
        host, head = self.hosts[name], name == HEAD
        where = ["--head", f"--port={PORT}", "--include-dashboard=true", "--dashboard-host=0.0.0.0"]
        words = [ray(), "start", "--block", "--disable-usage-stats", f"--node-name={name}"]
        words += where if head else [f"--address={self.address}"]
        words += ["--num-cpus=1", f"--resources={json.dumps({name: 1})}", f"--node-ip-address={host.address}"]
        words += [f"--object-store-memory={OBJECTS_BYTES}"]
        with (self.folder / f"{name}.log").open("a") as log:
            self.started[name] = subprocess.Popen(
                host.command(words), stdout=log, stderr=log, env=self.environment(name)
            )

    def kill(self, name: str) -> None:
        """The whole node, at once."""
        self.hosts[name].kill()
        if name in self.started:
            self.started.pop(name).wait(START_S)

    def restart(self, name: str) -> None:
        """Kill the whole node and begin one in its place, with the same address; nobody waits for it.

        A new one has a new disk: Ray leads a driver to the first raylet that it ever knew at an address, and
        only on a new disk has the socket of the next the same name.
        """
        self.kill(name)
        for left in self.hosts[name].folder.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
        self.begin(name)

    def ask(self, path: str) -> Any:
        bearer = {"Authorization": f"Bearer {self.token.read_text()}"}
        request = urllib.request.Request(self.jobs + path, headers=bearer)  # noqa: S310  # our own address
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  # the same
            return json.load(answer)["data"]["result"]["result"]

    def alive(self) -> set[str]:
        return {row["node_name"] for row in self.ask("/api/v0/nodes") if row["state"] == "ALIVE"}

    def nodes_of(self, actor: str) -> set[str]:
        """Names of nodes on which actors ever ran whose class begins so; those of the engine's pool do with
        ``Worker``.
        """
        names = {row["node_id"]: row["node_name"] for row in self.ask("/api/v0/nodes")}
        actors = self.ask("/api/v0/actors?detail=1")
        return {
            names[row["node_id"]] for row in actors if row["class_name"].startswith(actor) and row["node_id"]
        }

    def pardalis(
        self, host: str, *words: str, timeout_s: float = COMMAND_S
    ) -> subprocess.CompletedProcess[str]:
        return self.hosts[host].run(pardalis(*words), environment=self.environment(host), timeout_s=timeout_s)

    def corpus(self, name: str) -> Store:
        return Store.at(f"s3://{BUCKET}/{name}")


@contextlib.contextmanager
def cluster(
    folder: Path, *, names: Sequence[str] = NODES, others: Sequence[str] = (), **settings: str
) -> Iterator[Cluster]:
    """Hosts for the nodes, the store, and others; no node runs yet. ``settings`` are Ray's own."""
    told = {f"RAY_{name}": str(value) for name, value in (SETTINGS | settings).items()}
    (folder / "token").write_text(secrets.token_hex(16))
    (folder / "s3").mkdir()
    with hosts([*names, *others, STORE], folder / "hosts") as made:
        store = Bridged(folder / "s3", made[STORE])
        found = Cluster(hosts=made, s3=store, folder=folder, settings=told)
        try:
            with reached(store):
                yield found
        finally:
            for name in [*found.started]:
                found.kill(name)
            store.kill()


@contextlib.contextmanager
def reached(store: Seaweed) -> Iterator[None]:
    """This process reads the store as the nodes do."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        s3_clients.forget()
        yield
    s3_clients.forget()


def made(store: Store) -> dict[str, str]:
    """sha256 of every object of a corpus."""
    return contents(store, *MADE)


def of_title(host: Host, title: str) -> list[psutil.Process]:
    """Processes there whose command line holds the title; Ray writes the class of an actor into its own."""
    found = []
    for pid in host.processes():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if title in " ".join(process.cmdline()):
                found.append(process)
    return found


def workers(host: Host) -> list[psutil.Process]:
    return of_title(host, "ray::Worker")


def raylets(host: Host) -> list[psutil.Process]:
    return of_title(host, "/raylet/raylet")


def pardalis(*words: str) -> list[str]:
    return [sys.executable, "-m", "infra.cli", *words]


def ray() -> str:
    return str(Path(sys.executable).with_name("ray"))


def until(holds: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Seconds until it holds; TimeoutError if it does not within so many."""
    began = time.monotonic()
    while time.monotonic() < began + timeout_s:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError, KeyError):
            if holds():
                return time.monotonic() - began
        time.sleep(0.2)
    raise TimeoutError(f"it did not come to be within {timeout_s:g} s that {what}")
