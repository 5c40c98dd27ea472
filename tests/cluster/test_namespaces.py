"""The hosts that clusters are made of here: each by itself, cut off or frozen when asked, gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import namespaces
from tests.cluster.namespaces import Host, hosts, need_hosts

pytestmark = pytest.mark.long

ANSWERING = """
import http.server, socket
class Name(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(socket.gethostname().encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Name).serve_forever()
"""
ASKING = """
import sys, urllib.request
print(urllib.request.urlopen(f"http://{sys.argv[1]}:8000", timeout=2).read().decode())
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    need_hosts()
    serving = [sys.executable, "-c", ANSWERING]
    with (
        hosts(["first", "second"], tmp_path_factory.mktemp("hosts")) as made,
        subprocess.Popen(made["first"].command(serving)),
    ):
        yield made["first"], made["second"]
        made["first"].kill()


def asked(asker: Host, whom: str) -> str:
    """What the server of that name says its name is; what went wrong, where nothing came within 2 s."""
    done = asker.run([sys.executable, "-c", ASKING, whom], environment=os.environ, timeout_s=20)
    return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]


def until_answered(asker: Host, whom: str) -> str:
    for _ in range(20):
        if "Error" not in (found := asked(asker, whom)):
            break
        time.sleep(0.2)
    return found


def test_a_host_is_asked_by_name_and_by_address(two: tuple[Host, Host]) -> None:
    first, second = two
    assert until_answered(second, "first") == "first"
    assert asked(second, first.address) == "first"
    assert "refused" in asked(second, "second")


def test_a_host_that_was_cut_off_does_not_answer_until_it_rejoins(two: tuple[Host, Host]) -> None:
    first, second = two
    assert until_answered(second, "first") == "first"
    first.cut_off()
    told = asked(second, "first")
    first.rejoin()
    assert "timed out" in told or "No route" in told
    assert until_answered(second, "first") == "first"


def test_a_frozen_host_goes_on_where_it_was(two: tuple[Host, Host]) -> None:
    first, second = two
    assert until_answered(second, "first") == "first"
    before = first.processes()
    first.freeze()
    told = asked(second, "first")
    first.thaw()
    assert "timed out" in told
    assert until_answered(second, "first") == "first"
    assert first.processes() == before


def test_a_host_that_is_killed_runs_nothing(tmp_path: Path) -> None:
    need_hosts()
    with hosts(["only"], tmp_path) as made:
        with subprocess.Popen(made["only"].command(["sleep", "1000"])) as sleeper:
            while not made["only"].processes():
                time.sleep(0.01)
            made["only"].kill()
            assert sleeper.wait(5) == -9
        assert not made["only"].processes()


CRASHING = """
import os, signal, subprocess, sys, time
from pathlib import Path
from tests.cluster.namespaces import hosts
with hosts(["left"], Path(sys.argv[1])) as made:
    subprocess.Popen(made["left"].command(["sleep", "1000"]))
    while not made["left"].processes():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_behind_is_removed_by_the_next(tmp_path: Path) -> None:
    need_hosts()
    root = Path(__file__).parents[2]
    crashed = subprocess.run([sys.executable, "-c", CRASHING, tmp_path / "crashed"], check=False, cwd=root)
    assert crashed.returncode == -9
    left = [name for name in namespaces.namespaces() if name.endswith("-left")]
    assert left
    with hosts(["next"], tmp_path):
        assert not set(left) & set(namespaces.namespaces())
        assert not (namespaces.ETC / left[0]).exists()


@pytest.mark.parametrize(("asked_for", "end"), [("required", "FAILED"), ("", "SKIPPED")])
def test_where_there_can_be_no_hosts_the_reason_is_told(asked_for: str, end: str, tmp_path: Path) -> None:
    """A machine without `ip`: skipped by name, and a failure where CI says that it must not be."""
    test = Path(__file__).with_name("test_namespaces.py")
    chosen = f"{test}::test_a_host_that_is_killed_runs_nothing"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            chosen,
            "-rsf",
            "-p",
            "no:cacheprovider",
            f"--basetemp={tmp_path}/t",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=test.parents[2],
        env={**os.environ, "PATH": str(tmp_path), namespaces.REQUIRED: asked_for},
    )
    assert end in done.stdout, done.stdout + done.stderr
    assert "there is no `ip`" in done.stdout
