"""The stream from an object store: the same rows, and what happens when something dies in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from infra import copies, pieces
from infra.artifact import Corrupt
from infra.pieces import Piece, Pieces, PiecesSection, Unreachable
from infra.storage import Store, cache_folder
from pipeline import shards
from pipeline.blocks import Shard
from pipeline.pack import Document, PackConfig, Pair, lay_out
from pipeline.packed import Via
from tests import seaweed as servers
from tests.seaweed import BUCKET, Seaweed
from tokenizer_service import vocabulary
from trainer.loader import Loader, LoaderSection
from trainer.stream import PackedStream, tokens

from . import streamed
from .streamed import ORDER, stream

pytestmark = pytest.mark.long
NUM_ROWS = 400
ROOT = Path(__file__).parents[2]


def put(store: Store) -> None:
    """400 rows, each with its number as first text token, in blocks of 8."""
    pairs = (
        Pair(
            uid=f"a:{number}",
            revision=0,
            text_ids=np.array([7, number], np.uint16),
            code_ids=np.full(40, number % 8192, np.uint16),
            via=Via.NOTHING,
        )
        for number in range(NUM_ROWS)
    )
    rows = [(lay_out(Document(example_id=pair.uid, pairs=(pair,))),) for pair in pairs]
    config = PackConfig(context=63, max_spans=2, block_rows=8, shard_bytes=20_000)
    infos = {}
    for number, (data, info) in enumerate(shards.write(rows, config, fingerprint="f")):
        infos[f"{number:05d}.arrow"] = info
        store.write(f"{number:05d}.arrow", data)
    assert len(infos) > 3
    store.write("infos.json", json.dumps(infos).encode())


@pytest.fixture
def packs(s3: Store) -> Store:
    put(s3)
    return s3


def numbers(batch: torch.Tensor) -> list[int]:
    return [int(row[2]) - vocabulary.TEXT_START for row in batch]


def expected(store: Store, steps: int) -> list[list[int]]:
    """From the files themselves, which are read as they lie."""
    folder = cache_folder() / "whole"
    folder.mkdir(parents=True)
    local = []
    for shard in streamed.listed(store):
        (folder / shard.name).write_bytes(store.read(shard.name))
        local.append(Shard.file(folder / shard.name, shard.info))
    return [numbers(batch) for batch in islice(iter(PackedStream(local, stream=ORDER, view=tokens)), steps)]


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_come_as_from_a_disk_and_every_one_once(packs: Store, workers: int) -> None:
    section = LoaderSection(workers=workers)
    found = [numbers(batch) for batch in islice(Loader(stream(packs, section), section), 100)]
    assert found == expected(packs, 100)
    assert Counter(number for step in found for number in step) == dict.fromkeys(range(NUM_ROWS), 2)


def test_the_cache_keeps_to_its_bound_and_no_row_is_lost(
    packs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block takes 1.6 kB; the bound of the least section, a mebibyte, is made smaller here."""
    monkeypatch.setattr(copies, "trim", lambda folder, _most: trim(folder, 20_000))
    monkeypatch.setattr(pieces, "SLACK", 1 << 20)
    section = PiecesSection(cache_mib=1, ahead_mib=1)
    found = [numbers(batch) for batch in islice(iter(stream(packs, section)), 100)]
    assert found == expected(packs, 100)
    kept = [path.stat().st_size for path in (cache_folder() / "pieces").iterdir() if path.name[0] != "."]
    assert 0 < sum(kept) <= 25_000


trim = copies.trim


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}  # noqa: S108  # where its names are


def litter() -> list[str]:
    """Files with a name that are no pieces: what a killed process could have left half-written."""
    folder = cache_folder() / "pieces"
    return [
        path.name for path in folder.iterdir() if len(path.name) != 40 and not path.name.startswith(".lock-")
    ]


def begun(store: Store, out: Path, *, workers: int, steps: int, patience: float) -> subprocess.Popen[str]:
    return started(store.uri, out, workers, steps, patience)


def started(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.trainer.streamed", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def midway(store: Store, out: Path) -> subprocess.Popen[str]:
    """A run with two workers that has taken some of many steps."""
    run = begun(store, out, workers=2, steps=4000, patience=60)
    until(lambda: len(lines(out)) > 30, 60)
    return run


def until(what: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def lines(out: Path) -> list[list[int]]:
    told = out.read_text().splitlines() if out.exists() else []
    return [[number - vocabulary.TEXT_START for number in json.loads(line)] for line in told]


def children(pid: int) -> list[int]:
    told = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return sorted(int(word) for words in told for word in words.split())


def gone(pids: list[int]) -> bool:
    """Ended, and be it that nobody has asked for its end yet."""
    states = (Path(f"/proc/{pid}/stat") for pid in pids)
    return all(not path.exists() or path.read_text().rpartition(")")[2].split()[0] == "Z" for path in states)


def test_a_worker_that_is_killed_ends_the_run_with_one_error_and_it_goes_on_where_it_was(
    packs: Store, tmp_path: Path
) -> None:
    before, out = shared_memory(), tmp_path / "out"
    run = midway(packs, out)
    workers = children(run.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 1
    assert errors.strip().splitlines()[-1].startswith("RuntimeError: DataLoader worker (pid")
    until(lambda: gone(workers), 15)
    assert shared_memory() == before
    assert not litter()
    goes_on(packs, out)


@pytest.mark.slow
def test_all_that_are_killed_leave_nothing_and_the_run_goes_on_where_it_was(
    packs: Store, tmp_path: Path
) -> None:
    before, out = shared_memory(), tmp_path / "out"
    run = midway(packs, out)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=30)
    assert shared_memory() == before
    assert not litter()
    goes_on(packs, out)


@pytest.mark.slow
def test_workers_whose_rank_is_killed_end_by_themselves(packs: Store, tmp_path: Path) -> None:
    before, out = shared_memory(), tmp_path / "out"
    run = midway(packs, out)
    workers = children(run.pid)
    run.kill()
    run.communicate(timeout=30)
    until(lambda: gone(workers), 30)
    assert shared_memory() == before
    assert not litter()


def large(folder: Path) -> None:
    """200 rows of 4,225 tokens."""
    pair = Pair(
        uid="a:1",
        revision=0,
        text_ids=np.arange(8, dtype=np.uint16),
        code_ids=np.arange(4000, dtype=np.uint16),
        via=Via.NOTHING,
    )
    rows = [(lay_out(Document(example_id="a:1", pairs=(pair,))),)] * 200
    infos = {}
    for number, (data, info) in enumerate(shards.write(rows, PackConfig(block_rows=32), fingerprint="f")):
        (folder / f"{number:05d}.arrow").write_bytes(data)
        infos[f"{number:05d}.arrow"] = info
    (folder / "infos.json").write_text(json.dumps(infos))


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_worker_that_is_killed_is_told_of_in_a_thread_too_and_with_batches_larger_than_a_pipe(
    tmp_path: Path, victim: int
) -> None:
    large(tmp_path)
    before = shared_memory()
    run = started("thread", tmp_path)
    assert run.stdout is not None
    for _ in range(4):
        assert run.stdout.readline() == "batch\n"
    workers = children(run.pid)
    os.kill(workers[victim], signal.SIGKILL)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 1
    assert errors.strip().splitlines()[-1].startswith("RuntimeError: ")
    until(lambda: gone(workers), 15)
    assert shared_memory() == before


@pytest.mark.slow
def test_workers_with_batches_larger_than_a_pipe_end_with_their_rank(tmp_path: Path) -> None:
    large(tmp_path)
    run = started("thread", tmp_path)
    assert run.stdout is not None
    assert run.stdout.readline() == "batch\n"
    workers = children(run.pid)
    run.kill()
    run.communicate(timeout=30)
    until(lambda: gone(workers), 30)


def goes_on(packs: Store, out: Path) -> None:
    """With one worker more; what was written before and after is the epochs from the beginning."""
    done = len(lines(out))
    run = begun(packs, out, workers=3, steps=done + 60, patience=60)
    _, errors = run.communicate(timeout=90)
    assert run.returncode == 0, errors
    assert lines(out) == expected(packs, done + 60)


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Seaweed, Store]]:
    """One that may be killed: the session's is for the other tests too."""
    folder = tmp_path / "s3"
    folder.mkdir()
    with servers.serving(folder) as server:
        for name, value in {**server.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
            monkeypatch.setenv(name, value)
        pieces.s3.forget()
        store = Store.at(f"s3://{BUCKET}/own")
        put(store)
        yield server, store
        pieces.s3.forget()


@pytest.mark.slow
def test_a_store_that_is_gone_for_twenty_seconds_is_waited_for(
    own_server: tuple[Seaweed, Store], tmp_path: Path
) -> None:
    server, store = own_server
    wanted, out = expected(store, 150), tmp_path / "out"
    run = begun(store, out, workers=2, steps=150, patience=90)
    until(lambda: len(lines(out)) > 3, 60)
    server.kill()
    assert run.poll() is None
    # What was fetched ahead is read on; a small corpus is fetched whole, so the cache goes too.
    for path in (cache_folder() / "pieces").iterdir():
        path.unlink(missing_ok=True)
    time.sleep(5)  # what was open is read on
    waiting = len(lines(out))
    time.sleep(15)
    assert run.poll() is None
    assert len(lines(out)) == waiting < 150
    server.start()
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert lines(out) == wanted


@pytest.mark.slow
def test_a_store_that_stays_away_ends_the_run_with_one_error_that_names_the_block(
    own_server: tuple[Seaweed, Store],
) -> None:
    server, store = own_server
    before = shared_memory()
    packs = streamed.listed(store)
    server.kill()
    section = PiecesSection(patience_s=3)
    began = time.monotonic()
    with pytest.raises(
        Unreachable, match=r"block \d+ of s3://corpora/own/\d+\.arrow could not be read for \d+ s .*"
    ):
        next(iter(PackedStream(packs, stream=ORDER, view=tokens, pieces=section)))
    assert time.monotonic() - began < 30
    assert shared_memory() == before


def test_a_block_that_is_spoilt_in_the_store_is_named_and_never_served(packs: Store) -> None:
    shard = streamed.listed(packs)[1]
    place = shard.info["blocks"][2]
    spoilt = bytearray(packs.read(shard.name))
    spoilt[place["offset"] + place["bytes"] // 2] ^= 1
    packs.write(shard.name, bytes(spoilt))
    seen: list[int] = []
    with pytest.raises(Corrupt, match=rf"block 2 of {shard.where} has xxh3 "):
        for batch in islice(iter(stream(packs)), 60):
            seen += numbers(batch)
    first = sum(b["rows"] for b in streamed.listed(packs)[0].info["blocks"]) + 16
    assert not set(seen) & set(range(first, first + 8))


def test_a_stream_goes_on_when_all_that_was_fetched_is_forgotten(packs: Store) -> None:
    wanted, found = expected(packs, 60), []
    for step, batch in enumerate(islice(iter(stream(packs)), 60)):
        found.append(numbers(batch))
        if step % 7 == 3:
            pieces.forget()
    assert found == wanted
    pieces.forget()
    assert [path for path in (cache_folder() / "pieces").iterdir() if path.name[0] != "."] == []


def test_a_block_that_is_spoilt_in_the_cache_is_fetched_again(packs: Store) -> None:
    wanted = expected(packs, 50)
    assert [numbers(batch) for batch in islice(iter(stream(packs)), 50)] == wanted
    kept = [path for path in (cache_folder() / "pieces").iterdir() if path.name[0] != "."]
    for path in kept:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert [numbers(batch) for batch in islice(iter(stream(packs)), 50)] == wanted


def test_a_piece_is_fetched_by_one_of_many_readers(packs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = streamed.listed(packs)[0]
    place = shard.info["blocks"][0]
    piece = Piece(
        title="block 0",
        store=packs,
        name=shard.name,
        offset=place["offset"],
        size=place["bytes"],
        xxh3=place["xxh3"],
    )
    asked: list[str] = []
    plain = type(packs).range

    def told(store: Store, name: str, offset: int, size: int) -> bytes:
        asked.append(name)
        time.sleep(0.2)
        return plain(store, name, offset, size)

    monkeypatch.setattr(type(packs), "range", told)
    readers = [Pieces(PiecesSection()) for _ in range(4)]
    for reader in readers:
        reader.expect([piece])
    assert {reader.get(piece).to_pybytes() for reader in readers} == {
        packs.read(shard.name)[place["offset"] :][: place["bytes"]]
    }
    assert asked == [shard.name]
