"""How often answers named an asset: counted, written, added up, and never lost without a word."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.artifact import Corrupt
from infra.storage import LocalStore, Store
from pipeline.searching import usage
from pipeline.searching.usage import Served, Usage

UIDS = ["acme:a", "acme:b", "acme:c"]


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 6, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


def counting(store: Store) -> Usage:
    facts = {"corpus": "c", "version": "3", "service": "http://127.0.0.1:1", "door": "d"}
    return Usage(store=store, facts=facts, uids=pa.array(UIDS), now=Clock())


def added(*stores: Store) -> Served:
    found = Served()
    for store in stores:
        found.add(store)
    return found


def test_answers_are_counted_in_small_files_that_add_up(store: Store) -> None:
    mine = counting(store)
    mine.begin()
    for rows in ([0, 2], [2], []):
        mine.served(np.array(rows, np.int64))
    asyncio.run(mine.flush())
    asyncio.run(mine.flush())  # nothing new
    mine.served(np.array([1, 2]))
    asyncio.run(mine.flush())
    names = store.names()
    assert len(names) == 3
    assert all(usage.NAME.fullmatch(name) for name in names)
    found = added(store)
    assert found.times == {"acme:a": 1, "acme:b": 1, "acme:c": 3}
    assert (found.since, found.until) == ("2026-06-01T00:00:01+00:00", "2026-06-01T00:00:04+00:00")
    assert added(store, store).times["acme:c"] == 6


def test_a_file_tells_who_counted_and_no_query(tmp_path: Path) -> None:
    mine = counting(Store.at(tmp_path))
    mine.served(np.array([0]))
    asyncio.run(mine.flush())
    (path,) = tmp_path.iterdir()
    table = pq.read_table(path)
    assert table.to_pylist() == [{"uid": "acme:a", "times": 1}]
    told = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    assert told == {
        **mine.facts,
        "since": "2026-06-01T00:00:01+00:00",
        "until": "2026-06-01T00:00:02+00:00",
    }


class Broken(LocalStore):
    """Cannot be written while there is a file BROKEN in it."""

    def create(self, name: str, data: bytes) -> bool:
        if self.exists("BROKEN"):
            raise OSError(28, "No space left on device")
        return LocalStore.create(self, name, data)


def test_what_cannot_be_written_waits_and_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = counting(Broken(str(tmp_path)))
    mine.begin()
    (tmp_path / "BROKEN").touch()
    for _ in range(3):
        mine.served(np.array([0]))
        asyncio.run(mine.flush())
    assert capsys.readouterr().err.count("cannot be written now ([Errno 28]") == 1
    assert added(mine.store).times == {}
    (tmp_path / "BROKEN").unlink()
    asyncio.run(mine.flush())
    found = added(mine.store)
    assert found.times == {"acme:a": 3}
    assert found.num_files == 2


def test_a_folder_that_cannot_be_written_is_refused_before_anybody_is_served(tmp_path: Path) -> None:
    (tmp_path / "BROKEN").touch()
    with pytest.raises(ValueError, match=r"--usage .* cannot be written: .*; name a folder that can be"):
        counting(Broken(str(tmp_path))).begin()


def test_what_is_counted_is_written_every_few_seconds_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "EVERY_S", 0.01)
    mine = counting(Store.at(tmp_path))

    async def served() -> int:
        async with mine.kept():
            mine.served(np.array([0]))
            async with asyncio.timeout(30):
                while not added(mine.store).times:  # noqa: ASYNC110  # what a thread writes
                    await asyncio.sleep(0.01)
            monkeypatch.setattr(usage, "EVERY_S", 3600)
            await asyncio.sleep(0.05)  # it has begun to wait so long
            mine.served(np.array([1]))
            return added(mine.store).num_files

    assert asyncio.run(served()) == 1
    assert added(mine.store).times == {"acme:a": 1, "acme:b": 1}


def test_answers_that_are_in_no_file_at_the_end_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = counting(Broken(str(tmp_path)))
    (tmp_path / "BROKEN").touch()

    async def served() -> None:
        async with mine.kept():
            mine.served(np.array([0, 1]))

    asyncio.run(served())
    assert "could not be written: 2 answers are in no file" in capsys.readouterr().err


def test_a_file_that_was_changed_is_refused_and_others_are_passed_over(tmp_path: Path) -> None:
    mine = counting(Store.at(tmp_path))
    mine.begin()
    (path,) = tmp_path.iterdir()
    (tmp_path / "README").write_text("counts of the search")
    assert added(mine.store).num_files == 1
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Corrupt, match=f"{path.name} is not what its name says"):
        added(mine.store)
