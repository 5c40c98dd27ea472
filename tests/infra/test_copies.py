"""Copies of whole objects on a machine: fetched by one process, part by part, in a folder that is bounded."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra import copies, storage
from infra import s3 as s3_clients
from infra.artifact import Corrupt
from infra.refs import Ref
from infra.s3 import Unavailable
from infra.storage import Missing, Store
from tests.infra.disks import MIB, Disk, mounted
from tests.infra.faulty_s3 import Fault, FaultyS3
from tests.seaweed import Seaweed

pytestmark = pytest.mark.long

PART = storage.PART_BYTES
LARGE = os.urandom(2 * PART + 12_345)


@pytest.fixture
def proxy(s3: Store, seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """Before the server, which has the object ``large``."""
    s3.write("large", LARGE)
    upstream = urlsplit(seaweed.endpoint)
    with FaultyS3((upstream.hostname or "", upstream.port or 0)) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
        s3_clients.forget()
        yield made


def copied() -> list[Path]:
    """Whatever is there but what processes take turns by."""
    return [path for path in storage.objects().iterdir() if not path.name.startswith(".lock-")]


def read(store: Store, name: str = "large") -> bytes:
    with store.local(name) as file:
        return file.read()


def fetching(store: Store) -> subprocess.Popen[bytes]:
    """Another process of this machine, that says how much it has read."""
    code = (
        "import sys; from infra.storage import Store; print(len(Store.at(sys.argv[1]).local('large').read()))"
    )
    return subprocess.Popen([sys.executable, "-c", code, store.uri], stdout=subprocess.PIPE)


def test_one_process_of_a_machine_fetches_while_the_others_wait(proxy: FaultyS3, s3: Store) -> None:
    proxy.faults = [Fault(kind="slow", methods=["GET"], first_byte_s=2.0)]
    others = [fetching(s3) for _ in range(4)]
    assert [other.communicate(timeout=120)[0] for other in others] == [b"%d\n" % len(LARGE)] * 4
    assert len(proxy.done) == 3  # parts
    assert [path.read_bytes() == LARGE for path in copied()] == [True]


def test_a_process_that_was_killed_while_it_fetches_leaves_nothing_and_nobody_waits(
    proxy: FaultyS3, s3: Store
) -> None:
    proxy.faults = [Fault(kind="hang", methods=["GET"])]
    other = fetching(s3)
    until = time.monotonic() + 60
    while not proxy.done and time.monotonic() < until:
        time.sleep(0.05)
    other.kill()
    other.communicate()
    assert copied() == []
    proxy.faults = []
    began = time.monotonic()
    assert read(s3) == LARGE
    assert time.monotonic() - began < copies.TURN_S / 2


def test_who_fetches_part_by_part_is_waited_for_and_who_says_nothing_is_not(
    proxy: FaultyS3, s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "TURN_S", 2.0)
    proxy.faults = [Fault(kind="slow", methods=["GET"], first_byte_s=1.0)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: read(s3) == LARGE, range(4))) == [True] * 4
    assert len(proxy.done) == 3
    proxy.faults = []
    (path,) = copied()
    path.unlink()
    (lock,) = storage.objects().iterdir()
    with lock.open() as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert read(s3) == LARGE


def test_an_object_is_in_memory_a_part_at_a_time(s3: Store) -> None:
    data = os.urandom(48 * MIB)
    s3.write("large", data)
    s3_clients.client()
    tracemalloc.start()
    try:
        file = s3.local("large")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 30 * MIB  # a part of 8 as it came, put together, and the one before
    with file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:] == data


@pytest.mark.parametrize("kind", ["reset-midway", "truncated", "slow-down"])
def test_of_an_object_only_the_part_that_failed_is_asked_for_again(
    kind: str, proxy: FaultyS3, s3: Store
) -> None:
    counted = Fault(kind="slow", methods=["GET"])
    proxy.faults = [Fault(kind=kind, methods=["GET"], count=2), counted]  # type: ignore[arg-type]
    assert read(s3) == LARGE
    assert [done.kind for done in proxy.done] == [kind] * 2 + ["slow"] * 3


def test_an_object_that_was_spoilt_on_its_way_is_fetched_again_and_never_kept(
    proxy: FaultyS3, s3: Store
) -> None:
    proxy.faults = [Fault(kind="corrupt", methods=["GET"], count=1)]
    assert read(s3) == LARGE
    storage.forget()
    proxy.faults = [Fault(kind="corrupt", methods=["GET"])]
    with pytest.raises(Unavailable, match="large came 3 times with another CRC32 than the store keeps"):
        s3.local("large").close()
    assert copied() == []


def test_an_empty_object_and_one_that_is_missing(s3: Store) -> None:
    s3.write("empty", b"")
    assert read(s3, "empty") == b""
    with pytest.raises(Missing, match=f"there is no {s3.uri}/none"):
        s3.local("none").close()


def test_what_was_used_longest_ago_goes_and_who_has_it_open_keeps_it(
    s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(copies.CACHE_GIB, str(3.5 / 1024))
    objects = {name: os.urandom(MIB) for name in "abcd"}
    for name, data in objects.items():
        s3.write(name, data)
    for name in "abc":
        assert read(s3, name) == objects[name]
        time.sleep(0.02)
    held = s3.local("b")
    assert read(s3, "a") == objects["a"]  # used last, though it came first
    time.sleep(0.02)
    with s3.local("c") as mapped, mmap.mmap(mapped.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert read(s3, "d") == objects["d"]
        assert len(copied()) == 3
        kept = {path.read_bytes() for path in copied()}
        assert kept == {objects[name] for name in "acd"}
        copies.trim(storage.objects(), 0)
        assert view[:] == objects["c"]
    with held:
        assert held.read() == objects["b"]
    assert read(s3, "b") == objects["b"]
    s3.write("large", LARGE)
    assert read(s3) == LARGE  # larger than all that is kept
    assert len(copied()) == 1


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "much"])
def test_a_bound_that_is_none_is_refused_with_what_to_write(
    s3: Store, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    s3.write("a", b"a")
    monkeypatch.setenv(copies.CACHE_GIB, value)
    with pytest.raises(
        ValueError, match=f"PARDALIS_CACHE_GIB is '{value}'; write a number above 0, or unset"
    ):
        s3.local("a").close()


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with mounted(request.param, tmp_path) as found:
        yield found


@pytest.mark.parametrize("bound", ["", "1000"])
def test_without_a_bound_and_with_one_that_is_larger_a_tenth_of_the_disk_stays_free(
    disk: Disk, s3: Store, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk.folder))
    monkeypatch.setenv(copies.CACHE_GIB, bound)
    told = os.statvfs(disk.folder)
    most = told.f_bavail * told.f_frsize
    objects = {f"{number}": os.urandom(MIB) for number in range(20)}
    for name, data in objects.items():
        s3.write(name, data)
        assert read(s3, name) == data
    assert 0.5 * most < sum(path.stat().st_size for path in copied()) <= 0.9 * most


def test_a_reader_of_more_than_there_is_room_for_has_each_while_it_looks(
    s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an index whose segments are larger than what a machine keeps: each is open before the next comes."""
    monkeypatch.setenv(copies.CACHE_GIB, str(1.5 / 1024))
    objects = {f"{number}": os.urandom(MIB) for number in range(4)}
    for name, data in objects.items():
        s3.write(name, data)
    files = [Ref(s3, name, hashlib.sha256(data).hexdigest()) for name, data in objects.items()]
    for _ in range(2):
        assert [path.read_bytes() for path in Ref.each_mapped(files)] == list(objects.values())
    assert len(copied()) == 1


def test_a_copy_that_was_spoilt_is_fetched_again_and_an_object_that_was_is_named(
    s3: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.write("a", LARGE)
    ref = Ref(s3, "a", hashlib.sha256(LARGE).hexdigest())
    with ref.mapped() as path:
        assert path.read_bytes() == LARGE
    (copy,) = copied()
    copy.write_bytes(LARGE[::-1])
    with ref.mapped() as path:
        assert path.read_bytes() == LARGE
    assert f"the copy here of {s3.uri}/a was spoilt; it is fetched again" in capsys.readouterr().err
    storage.forget()
    s3.write("a", LARGE[::-1])
    said = f"{s3.uri}/a has sha256 .*, its manifest says .*; delete its folder"
    with pytest.raises(Corrupt, match=said), ref.mapped():
        pass


def test_where_files_have_to_have_names_they_come_whole_all_the_same(
    s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS."""
    s3.write("large", LARGE)
    opened = os.open

    def refused(path: os.PathLike[str], flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(copies.NO_NAMELESS_FILES[0], "Operation not supported")
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refused)
    assert read(s3) == LARGE
    assert [path.read_bytes() == LARGE for path in copied()] == [True]
