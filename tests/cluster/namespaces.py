"""Hosts on one machine: network namespaces on one switch, each with an address and a name of its own.

The surprising rule: the switch is a namespace too, so that all that is made lies in namespaces and goes with
them. Their names tell the process that made them; what a run that crashed left behind, the next one removes.
Files and the numbers of processes are shared; ``/tmp/ray``, the hostname and ``/etc/hosts`` are a host's own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.corpus import born

REQUIRED = "PARDALIS_CLUSTER"
"""Where this variable is ``required``, the tests that need hosts fail instead of being skipped."""
PREFIX = "pardalis"
SWITCH = "switch"
PATIENCE_S = 20.0
"""For a command of iproute2, and for the end of processes that were killed."""
ENTER = 'hostname "$1"; mount --bind "$2" /tmp/ray; shift 2; exec "$@"'
NUMBERS = itertools.count()
"""Of the switches that this process made."""
ETC = Path("/etc/netns")
"""What stands here under a namespace's name, ``ip netns exec`` lays over /etc."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    name: str
    namespace: str
    switch: str
    address: str
    folder: Path
    """What it has as /tmp/ray: Ray's sessions, with their sockets and logs."""

    def command(self, words: Sequence[str]) -> list[str]:
        """The command there. It takes the place of what leads to it, so a process started so is its own."""
        entered = ["unshare", "--uts", "sh", "-ec", ENTER, "sh", self.name, str(self.folder)]
        return ["ip", "netns", "exec", self.namespace, *entered, *words]

    def run(
        self, words: Sequence[str], *, environment: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(words),
            capture_output=True,
            text=True,
            check=False,
            env=dict(environment),
            timeout=timeout_s,
        )

    def processes(self) -> set[int]:
        return processes(self.namespace)

    def kill(self) -> None:
        """All that runs there, as when the power fails."""
        kill(self.namespace)

    def freeze(self) -> None:
        """Stop all that runs there; also what was started while others were being stopped."""
        stopped: set[int] = set()
        while fresh := self.processes() - stopped:
            send(signal.SIGSTOP, fresh)
            stopped |= fresh

    def thaw(self) -> None:
        send(signal.SIGCONT, self.processes())

    def cut_off(self) -> None:
        """Pull its cable: nothing is refused there, and nothing answers."""
        ip("-netns", self.switch, "link", "set", self.name, "down")

    def rejoin(self) -> None:
        ip("-netns", self.switch, "link", "set", self.name, "up")


@contextlib.contextmanager
def hosts(names: Sequence[str], folder: Path) -> Iterator[dict[str, Host]]:
    """Hosts by name, which this process reaches too. All that runs there ends with the block."""
    sweep()
    number = next(NUMBERS)
    mark = f"{PREFIX}-{os.getpid()}-{born(os.getpid())}-{number}-"
    subnet = free_subnet()
    made = {
        name: Host(
            name=name,
            namespace=mark + name,
            switch=mark + SWITCH,
            address=f"{subnet}.{place}",
            folder=folder / name,
        )
        for place, name in enumerate(names, start=2)
    }
    try:
        # Names of interfaces have at most 15 characters.
        add_switch(mark + SWITCH, cable=f"pd{os.getpid()}n{number}", gateway=f"{subnet}.1")
        for host in made.values():
            add_host(host, gateway=f"{subnet}.1", known=made.values())
        yield made
    finally:
        for namespace in namespaces():
            if namespace.startswith(mark):
                remove(namespace)


def add_switch(switch: str, *, cable: str, gateway: str) -> None:
    ip("netns", "add", switch)
    ip("-netns", switch, "link", "add", "bridge", "type", "bridge")
    ip("-netns", switch, "link", "set", "bridge", "up")
    ip("link", "add", cable, "type", "veth", "peer", "name", "uplink", "netns", switch)
    ip("-netns", switch, "link", "set", "uplink", "master", "bridge", "up")
    ip("addr", "add", f"{gateway}/24", "dev", cable)
    ip("link", "set", cable, "up")


def add_host(host: Host, *, gateway: str, known: Iterable[Host]) -> None:
    """Others are known by name: torch.distributed asks for the address of its own hostname."""
    host.folder.mkdir(parents=True)
    Path("/tmp/ray").mkdir(exist_ok=True)  # noqa: S108  # what the host's own folder is laid over
    etc = ETC / host.namespace
    etc.mkdir(parents=True)
    lines = ["127.0.0.1 localhost", *(f"{other.address} {other.name}" for other in known)]
    (etc / "hosts").write_text("\n".join(lines) + "\n")
    ip("netns", "add", host.namespace)
    ip("-netns", host.namespace, "link", "set", "lo", "up")
    cable = ("-netns", host.switch, "link", "add", host.name)
    ip(*cable, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    ip("-netns", host.switch, "link", "set", host.name, "master", "bridge", "up")
    ip("-netns", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
    ip("-netns", host.namespace, "link", "set", "eth0", "up")
    # Ray learns a host's address by asking which way leads outside.
    ip("-netns", host.namespace, "route", "add", "default", "via", gateway)


def free_subnet() -> str:
    """Three numbers of an address; two runs at once begin to look at different places."""
    taken = ip("-oneline", "-4", "addr")
    for offset in range(254):
        subnet = f"10.213.{(os.getpid() + offset) % 254 + 1}"
        if f" {subnet}." not in taken:
            return subnet
    raise RuntimeError("all subnets of 10.213.0.0/16 are taken; remove some with `ip link delete`")


def namespaces() -> list[str]:
    names = [line.split()[0] for line in ip("netns", "list").splitlines()]
    return sorted(name for name in names if name.startswith(f"{PREFIX}-"))


def sweep() -> None:
    """Remove what processes that are gone left behind."""
    for namespace in namespaces():
        _, pid, began, *_ = namespace.split("-")
        if born(int(pid)) != began:
            remove(namespace)


def remove(namespace: str) -> None:
    kill(namespace)
    ip("netns", "delete", namespace)
    shutil.rmtree(ETC / namespace, ignore_errors=True)


def processes(namespace: str) -> set[int]:
    return {int(pid) for pid in ip("netns", "pids", namespace).split()}


def kill(namespace: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while found := processes(namespace):
        send(signal.SIGKILL, found)
        if time.monotonic() > end:
            raise TimeoutError(f"processes {sorted(found)} of {namespace} outlived SIGKILL by {PATIENCE_S} s")
        time.sleep(0.05)


def send(one: signal.Signals, pids: Collection[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, one)


def ip(*words: str) -> str:
    done = subprocess.run(
        ["ip", *words],  # noqa: S607  # where it lies differs by distribution
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    if done.returncode:
        raise OSError(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout


def missing() -> str | None:
    """Why there can be no hosts here; None where there can."""
    for command in ("ip", "unshare", "hostname"):
        if shutil.which(command) is None:
            return f"there is no `{command}`; install iproute2, util-linux and hostname"
    if os.geteuid() != 0:
        return f"network namespaces need root, and this is user {os.geteuid()}"
    trial = f"{PREFIX}-{os.getpid()}-{born(os.getpid())}-{next(NUMBERS)}-trial"
    try:
        ip("netns", "add", trial)
        ip("netns", "delete", trial)
    except OSError as error:
        return f"no network namespace can be made: {error}"
    return None


def need_hosts() -> None:
    """Skip the test that asks, or fail it where hosts are required."""
    reason = missing()
    if reason is None:
        return
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(f"{REQUIRED}=required, and {reason}")
    pytest.skip(f"no cluster of several hosts: {reason}")
