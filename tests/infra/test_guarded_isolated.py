"""Isolated functions: whatever the process does of an item, the next one is answered, and nothing leaks.

The functions stand in a module of their own, as the process imports it; they act on it from inside, as
whoever takes it over would.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.guarded.isolated import LENGTH, MALLOC, Died, Isolated, Limits

pytestmark = pytest.mark.long
WORK = '''
import os, resource, time
from pathlib import Path

PIPE = 3

def echo(data, settings):
    print("to nowhere", flush=True)
    os.write(1, b"neither here")
    return {"pid": os.getpid(), "settings": dict(settings), "length": len(data)}, [data, data[::-1]]

def told(data, settings):
    return {"environment": sorted(os.environ), "files": resource.getrlimit(resource.RLIMIT_NOFILE)}, []

def written(data, settings):
    Path(settings["at"]).write_bytes(data)
    return {}, []

def done(data, settings):
    """``VERB NUMBER``: what may become of the process."""
    verb, number = data.split()
    if verb == b"kill":
        os.kill(os.getpid(), int(number))
    elif verb == b"exit":
        os._exit(int(number))
    elif verb == b"raise":
        raise KeyError(number)
    elif verb == b"sleep":
        time.sleep(float(number))
    elif verb == b"hoard":
        bytearray(int(number))
    elif verb == b"spin":
        end = time.process_time() + float(number)
        while time.process_time() < end:
            pass
    return {"done": True}, []

def lingered(data, settings):
    """The first process touches a file of its name and waits for its end."""
    at = Path(settings["at"])
    if not any(at.iterdir()):
        (at / str(os.getpid())).touch()
        time.sleep(60)
    return {"pid": os.getpid()}, []

def forked(data, settings):
    """A process of its own that outlives its parent, unless somebody ends it."""
    pid = os.fork()
    if not pid:
        time.sleep(60)
        os._exit(0)
    if data == b"goes":
        os._exit(3)
    return {"pid": pid, "leader": os.getpid()}, []

def mistold(data, settings):
    os.write(PIPE, data)
    return {}, []
'''


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "isolated_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path))


def isolated(function: str, settings: dict[str, Any] | None = None, **limits: Any) -> Isolated:
    return Isolated(function=f"isolated_work:{function}", settings=settings or {}, limits=Limits(**limits))


def ends(pid: int) -> bool:
    """Within ten seconds. A process whose parent was killed may stay a zombie, if no one above it looks."""
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


def test_what_goes_in_comes_back_whatever_is_printed_on_the_way() -> None:
    with isolated("echo", {"side": 3}) as work:
        for data in (b"", b"one", bytes(range(256)) * 20_000):
            value, parts = work.call(data)
            assert (value["settings"], value["length"]) == ({"side": 3}, len(data))
            assert parts == [data, data[::-1]]


def test_one_process_serves_all_items_and_is_gone_when_it_is_closed_or_forgotten() -> None:
    work = isolated("echo")
    first, second = work.call(b"a")[0]["pid"], work.call(b"b")[0]["pid"]
    assert first == second
    assert first != os.getpid()
    work.close()
    assert not psutil.pid_exists(first)
    third = work.call(b"c")[0]["pid"]
    assert third != first
    del work
    gc.collect()
    assert not psutil.pid_exists(third)


def test_what_the_process_has_started_ends_with_it() -> None:
    with isolated("forked", deaths=1) as work:
        told, _ = work.call(b"")
        work.close()
        assert ends(told["pid"])
        leader = work.call(b"stays")[0]["leader"]
        with pytest.raises(Died, match="exit 3"):
            work.call(b"goes")
    assert all(ends(one.pid) for one in psutil.process_iter() if group_of(one.pid) == leader)


def group_of(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid)
    return None


def test_the_environment_holds_no_secret_and_few_files_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "RAY_AUTH_TOKEN", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "secret")
    with isolated("told") as work:
        told, _ = work.call(b"")
    allowed = {"PATH", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH"}
    threads = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}
    assert set(told["environment"]) <= {*allowed, *threads, *MALLOC, "PYTHONDONTWRITEBYTECODE"}
    assert told["files"] == [64, 64]


@pytest.mark.parametrize(
    ("item", "limits", "how"),
    [
        (b"kill 9", {}, "SIGKILL"),
        (b"kill 11", {}, "SIGSEGV"),
        (b"exit 3", {}, "exit 3"),
        (b"raise 0", {}, "KeyError"),
        (b"spin 30", {"cpu_s": 1}, "SIGXCPU"),
        (b"sleep 30", {"wall_s": 0.2}, "no answer in time"),
        (b"hoard 300000000", {"memory_bytes": 64 << 20}, "MemoryError"),
    ],
)
def test_an_item_that_ends_its_process_is_told_by_how_and_the_next_one_is_answered(
    item: bytes, limits: dict[str, Any], how: str
) -> None:
    with isolated("done", deaths=1, **limits) as work:
        with pytest.raises(Died) as died:
            work.call(item)
        assert str(died.value) == died.value.how == how
        assert work.call(b"rest 0") == ({"done": True}, [])


def test_no_file_is_written(tmp_path: Path) -> None:
    with isolated("written", {"at": str(tmp_path / "loot")}, deaths=1) as work:
        work.call(b"")
        with pytest.raises(Died, match="OSError"):
            work.call(b"x")
    assert (tmp_path / "loot").stat().st_size == 0


def test_every_item_has_its_own_seconds() -> None:
    with isolated("done", cpu_s=1) as work:
        for _ in range(3):
            work.call(b"spin 0.8")


def test_an_item_whose_process_was_killed_by_another_is_tried_again(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    def kill() -> None:
        while not (found := list(marks.iterdir())):
            time.sleep(0.01)
        os.kill(int(found[0].name), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with isolated("lingered", {"at": str(marks)}) as work:
        value, _ = work.call(b"")
    killer.join()
    (first,) = marks.iterdir()
    assert value["pid"] != int(first.name)


def test_an_item_costs_so_many_processes_and_no_more(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with isolated("lingered", {"at": str(marks)}, deaths=1, wall_s=0.5) as work, pytest.raises(Died):
        work.call(b"")
    assert len(list(marks.iterdir())) == 1


def framed(head: bytes, *parts: bytes) -> bytes:
    return LENGTH.pack(len(head)) + head + b"".join(parts)


@pytest.mark.parametrize(
    ("raw", "how"),
    [
        (b"\xff" * 64, "malformed answer"),
        (framed(b"\x80\x04cos\nsystem\n."), "malformed answer"),
        (framed(b'{"value": {}, "parts": [-1]}'), "malformed answer"),
        (framed(b'{"value": {}, "parts": [true]}', b"x"), "malformed answer"),
        (framed(b'{"value": 1, "parts": []}'), "malformed answer"),
        (framed(b'{"value": {}, "value": {}, "parts": []}'), "malformed answer"),
        (framed(b"[" * 10_000), "malformed answer"),
        (framed(b'{"value": {"x": NaN}, "parts": []}'), "malformed answer"),
        (framed(b'{"value": {"x": 1e999}, "parts": []}'), "malformed answer"),
        (framed(b'{"value": {"x": "\\ud800"}, "parts": []}'), "malformed answer"),
        (framed(b'{"value": {}, "parts": [' + b"0," * 64 + b"0]}"), "malformed answer"),
        (framed(b'{"raised": "a b\\u001b[2J"}'), "malformed answer"),
        (framed(b'{"value": {}, "parts": [600, 600]}'), "an answer of over 1000 bytes"),
        (framed(b'{"value": {}, "parts": [900]}', b"x"), "malformed answer"),
    ],
)
def test_what_is_no_answer_is_refused_before_it_is_read(raw: bytes, how: str) -> None:
    with isolated("mistold", deaths=1, answer_bytes=1000, wall_s=1) as work:
        with pytest.raises(Died) as died:
            work.call(raw)
        assert died.value.how == how
        assert work.call(b"") == ({}, [])


def test_a_function_that_is_not_there_fails_before_the_first_item_and_not_of_it() -> None:
    work = isolated("nowhere")
    with pytest.raises(RuntimeError, match=r"isolated_work:nowhere ended before .*exit 1.*see why with"):
        work.call(b"")


JOB = """
import sys
from infra.guarded.isolated import Isolated
work = Isolated(function="isolated_work:echo")
print(work.call(b"")[0]["pid"], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("shot", [False, True])
def test_the_process_ends_with_whoever_started_it(shot: bool) -> None:  # noqa: FBT001  # pytest's parameter
    pipe, paths = subprocess.PIPE, {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", JOB], stdin=pipe, stdout=pipe, env=paths) as job:
        assert job.stdin is not None
        assert job.stdout is not None
        pid = int(job.stdout.readline())
        assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        job.kill() if shot else job.stdin.close()
        job.wait()
        assert ends(pid)
