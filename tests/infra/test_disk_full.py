"""A disk that is full: nothing half-written looks whole, and what can go on without room does."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
import xxhash

from infra.artifact import Made, find_shard, publish_shard
from infra.ending import FAILED, ending
from infra.pieces import Piece, Pieces, PiecesSection
from infra.storage import LocalStore, NoRoom, Store
from tests.infra.disks import MIB, Disk, mounted

LARGE = os.urandom(3 * MIB)
SMALL = b"small"


@pytest.fixture(params=["tmpfs", pytest.param("ext4", marks=pytest.mark.long)])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with mounted(request.param, tmp_path) as found:
        yield found


@pytest.mark.parametrize("operation", ["write", "create"])
def test_what_has_no_room_is_not_there_and_the_error_says_what_to_do(disk: Disk, operation: str) -> None:
    store = LocalStore(str(disk.folder / "store"))
    store.write("a/before", SMALL)
    disk.fill(but=MIB)
    for name in ("a/new", "b/c/new"):
        with pytest.raises(NoRoom) as raised:
            getattr(store, operation)(name, LARGE)
        assert f"no room for {len(LARGE)} bytes of {store.root}/{name} (No space left" in str(raised.value)
        assert "free some there and run again" in str(raised.value)
        assert raised.value.errno == errno.ENOSPC
        assert ending(raised.value, []).code == FAILED
        assert ending(raised.value, []).text == str(raised.value)
    assert disk.files() == ["store/a/before"]
    assert store.hidden() == {}
    disk.free()
    getattr(store, operation)("a/new", LARGE)
    assert store.read("a/new") == LARGE


def test_what_would_be_replaced_stays_when_there_is_no_room(disk: Disk) -> None:
    store = LocalStore(str(disk.folder))
    store.write("a", SMALL)
    disk.fill(but=MIB)
    with pytest.raises(NoRoom):
        store.write("a", LARGE)
    assert store.read("a") == SMALL


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_says_it_is_full_only_when_it_syncs_is_as_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As network file systems do, and quotas."""
    store = LocalStore(str(tmp_path))
    store.write("a", SMALL)

    def full(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    for operation, name in ((store.write, "a"), (store.create, "b")):
        with pytest.raises(NoRoom, match=r"no room for 5 bytes of .*; free some there"):
            operation(name, b"other")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert store.read("a") == SMALL


def test_of_many_writers_that_fill_a_disk_each_wrote_all_or_nothing(disk: Disk) -> None:
    store = LocalStore(str(disk.folder / "store"))
    objects = {f"{number:02d}": bytes([number]) * (MIB - number * 4096) for number in range(20)}

    def wrote(name: str) -> bool:
        try:
            store.write(name, objects[name])
        except NoRoom:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = dict(zip(objects, pool.map(wrote, objects), strict=True))
    assert 0 < sum(done.values()) < len(objects)
    assert store.names() == [name for name, whole in done.items() if whole]
    assert all(store.read(name) == objects[name] for name in store.names())
    assert store.hidden() == {}


def test_a_shard_that_had_no_room_is_none_and_is_made_again(disk: Disk) -> None:
    store = LocalStore(str(disk.folder))
    made = Made(files={"a.bin": SMALL, "b.bin": LARGE}, counts={"kept": 1})
    disk.fill(but=MIB)
    with pytest.raises(NoRoom, match=r"shards/step/key/.*b\.bin"):
        publish_shard(store, "step", "key", made)
    assert find_shard(store, "step", "key") is None
    disk.free()
    shard = publish_shard(store, "step", "key", made)
    assert find_shard(store, "step", "key") == shard
    assert store.read(shard.name("b.bin")) == LARGE


class Counting(LocalStore):
    """Tells how often it was asked for a range."""

    __slots__ = ()
    asked: ClassVar[list[str]] = []

    def range(self, name: str, offset: int, size: int) -> bytes:
        self.asked.append(name)
        return super().range(name, offset, size)


def pieces_of(store: Store, *, num: int = 12) -> list[Piece]:
    data = {f"{number}": os.urandom(MIB) for number in range(num)}
    for name, one in data.items():
        store.write(name, one)
    return [
        Piece(
            title="block",
            store=store,
            name=name,
            offset=0,
            size=MIB,
            xxh3=xxhash.xxh3_64_hexdigest(one),
        )
        for name, one in data.items()
    ]


def read_all(pieces: Pieces, wanted: list[Piece]) -> None:
    """In two epochs, told of before in the first."""
    pieces.expect(wanted)
    for piece in (*wanted, *wanted):
        assert pieces.get(piece).to_pybytes() == piece.store.read(piece.name)


@pytest.mark.parametrize("left", [0, MIB // 2])
def test_a_cache_that_others_have_filled_is_done_without_and_told_of_once(
    disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str], left: int
) -> None:
    store = Counting(str(tmp_path / "store"))
    store.asked.clear()
    wanted = pieces_of(store, num=4)
    disk.fill(but=left)
    pieces = Pieces(PiecesSection(), disk.folder / "cache")
    read_all(pieces, wanted)
    assert len(store.asked) == 2 * len(wanted)  # what was fetched ahead is not fetched twice
    told = capsys.readouterr().err
    assert told.count(f"no room for {MIB} bytes in {disk.folder}/cache") == 1
    assert "free some there, or set XDG_CACHE_HOME" in told
    assert [name for name in disk.files() if "/." not in name] == []
    disk.free()
    pieces.get(wanted[0])
    assert [Path(name).name for name in disk.files() if "/." not in name] == [wanted[0].key]
    pieces.close()


def test_a_cache_that_fills_its_disk_keeps_what_came_last(
    disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = pieces_of(LocalStore(str(tmp_path / "store")))
    pieces = Pieces(PiecesSection(connections=2), disk.folder / "cache")
    read_all(pieces, wanted)
    assert capsys.readouterr().err == ""
    kept = {Path(name).name for name in disk.files() if "/." not in name}
    assert wanted[-1].key in kept
    pieces.close()


@pytest.mark.long
def test_an_object_of_s3_that_has_no_room_here_is_named_with_what_to_do(
    disk: Disk, s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.write("index.faiss", LARGE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk.folder))
    disk.fill(but=MIB)
    with pytest.raises(NoRoom) as raised:
        s3.local("index.faiss").close()
    assert f"{s3.uri}/index.faiss has {len(LARGE)} bytes, and {disk.folder}/pardalis" in str(raised.value)
    assert "set XDG_CACHE_HOME to a folder of a larger disk" in str(raised.value)
    assert [name for name in disk.files() if "/.lock-" not in name] == []
    disk.free()
    with s3.local("index.faiss") as file:
        assert file.read() == LARGE
