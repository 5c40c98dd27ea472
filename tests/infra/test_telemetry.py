"""The log of a command: of every command, also of one that failed, was stopped, or was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra import logs
from infra.forecast import Ahead, Known, Part
from infra.storage import LocalStore, Store
from infra.telemetry import TERMINATED, Log, clock, known, say, told_ahead


def kinds(store: Store, job: str) -> list[str]:
    return [event["event"] for event in logs.read(store, job)]


def test_a_failed_commands_log_ends_with_the_error(store: Store) -> None:
    log = Log()
    with pytest.raises(ValueError, match="no such row"):
        try:
            log.event("step", step="dedup")
            raise ValueError("no such row")
        finally:
            log.save(store, "train")
    events = list(logs.read(store, logs.jobs(store)[-1]))
    assert [event["event"] for event in events] == ["step", "error"]
    assert (events[-1]["kind"], events[-1]["message"]) == ("ValueError", "no such row")
    assert not logs.is_live(events)


def test_a_log_without_an_error_names_none(store: Store) -> None:
    log = Log()
    log.event("step", step="dedup")
    assert log.save(store, "train") == store.names("logs/")[0]
    assert kinds(store, logs.jobs(store)[0]) == ["step"]


def test_commands_at_the_same_instant_all_keep_their_logs(store: Store) -> None:
    names = []
    for number in range(20):
        log = Log()
        log.event("step", number=number)
        names.append(log.save(store, "train"))
    assert store.names("logs/") == names
    assert [json.loads(store.read(name))["number"] for name in names] == list(range(20))


def test_neither_an_event_nor_a_line_holds_a_credential(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "canary-1")
    told = "canary-1 at https://user:canary-2@host/?canary-3"
    log = Log()
    with pytest.raises(ValueError, match="canary"), log.kept(store, "build", where=told) as job:
        log.event("step", where=told, parts=[{"password": "canary-4"}], rows=3)
        log.shard(rows=1, node=told)
        raise ValueError(told)
    say(told)
    begun, step, _, error = (event for event in logs.read(store, job) if event["event"] != "progress")
    assert "canary" not in "".join(map(str, [*logs.read(store, job), *log.events, capsys.readouterr().err]))
    masked = "*** at https://***@host/?***"
    assert (step["rows"], error["message"], begun["where"]) == (3, masked, masked)


def test_a_log_is_written_as_it_comes_and_says_how_it_ended(store: Store) -> None:
    log = Log()
    with log.kept(store, "build", lease=7) as job:
        log.event("begin", step="dedup")
        log.shard(rows=2, step="dedup", slot="00000-000000", key="k")
        assert logs.head(store, job)[0]["lease"] == 7
    events = list(logs.read(store, job))
    assert [one["event"] for one in events if one["event"] != "progress"] == ["job", "begin", "shard", "done"]
    assert [event["event"] for event in log.events] == ["job", "begin", "done"]  # none of a single shard
    assert logs.jobs(store) == [job]
    assert logs.last(store, job)[-1]["event"] == "done"


@pytest.mark.parametrize(
    ("error", "told"),
    [(KeyError("x"), ("failed", "KeyError")), (KeyboardInterrupt(), ("stopped", "KeyboardInterrupt"))],
)
def test_what_ended_it_is_the_last_that_is_told(
    tmp_path: Path, error: BaseException, told: tuple[str, str]
) -> None:
    store, log = Store.at(tmp_path), Log()
    with pytest.raises(type(error)), log.kept(store, "build") as job:
        raise error
    last = logs.last(store, job)[-1]
    assert (last["event"], last["kind"]) == told


def written(store: Store, log: Log, *, shards: int) -> str:
    with log.kept(store, "build") as job:
        for number in range(shards):
            log.shard(
                rows=1, step="s", slot=f"00000-{number:06d}", key=f"{number:032x}", node="host", seconds=0.1
            )
    return job


@pytest.mark.long
def test_what_many_shards_tell_goes_into_segments_of_a_megabyte(tmp_path: Path) -> None:
    store, log = Store.at(tmp_path), Log()
    job = written(store, log, shards=12_000)
    sizes = store.sizes(f"{logs.SEGMENTS}{job}/")
    assert len(sizes) >= 3
    longest_line = 2000
    assert max(sizes.values()) < logs.SEGMENT_BYTES + longest_line
    events = [event for event in logs.read(store, job) if event["event"] == "shard"]
    assert [event["slot"] for event in events] == [f"00000-{number:06d}" for number in range(12_000)]
    assert len(log.events) == 2
    assert sum(sizes.values()) / 12_000 < 250  # bytes a shard: 340,000 shards of a step are 80 MB


@dataclass(frozen=True, slots=True)
class Away(LocalStore):
    """A store that cannot be used while a file says so; of one more write the answer is lost."""

    def create(self, name: str, data: bytes) -> bool:
        away = (Path(self.root) / "away").exists() and logs.SEGMENTS in name
        if away and not (Path(self.root) / "lost").exists():
            raise OSError("no route to host")
        is_made = LocalStore.create(self, name, data)
        if away:
            (Path(self.root) / "lost").unlink()
            raise OSError("reset")
        return is_made


def test_a_store_that_is_away_for_a_while_loses_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "EVERY_S", 0.01)
    store, log = Away(str(tmp_path)), Log()
    (tmp_path / "away").touch()
    with log.kept(store, "build") as job:
        for number in range(50):
            log.event("step", number=number)
            time.sleep(0.002)
        assert not store.names(logs.SEGMENTS)
        (tmp_path / "lost").touch()
        while (tmp_path / "lost").exists():
            time.sleep(0.002)
        log.event("step", number=50)
        (tmp_path / "away").unlink()
    events = [event["number"] for event in logs.read(store, job) if event["event"] == "step"]
    assert events == list(range(51))
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_a_store_that_stays_away_does_not_hide_what_the_command_died_of(tmp_path: Path) -> None:
    store = Away(str(tmp_path))
    (tmp_path / "away").touch()
    with pytest.raises(ValueError, match="the real one"), Log().kept(store, "build"):
        raise ValueError("the real one")


def test_memory_is_bounded_while_the_store_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PENDING_BYTES", 2000)
    store, log = Away(str(tmp_path)), Log()
    (tmp_path / "away").touch()
    with log.kept(store, "build") as job:
        for number in range(1000):
            log.shard(rows=1, slot=str(number))
        (tmp_path / "away").unlink()
    events = list(logs.read(store, job))
    told = sum(event["event"] == "shard" for event in events)
    (lost,) = (event["events"] for event in events if event["event"] == "lost")
    assert 10 < told < 100
    assert told + lost == 1000
    assert events[-1]["event"] == "done"


KILLED = """
import sys, time
from infra import logs
from infra.storage import Store
from infra.telemetry import Log
logs.EVERY_S = 0.1
log = Log()
with log.kept(Store.at(sys.argv[1]), "build"):
    for number in range(10_000):
        log.event("step", number=number)
        time.sleep(0.01)
"""


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose log is being written."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stderr=subprocess.PIPE)
    store = Store.at(tmp_path)
    for _ in range(600):
        if len(store.names(logs.SEGMENTS)) >= 2:
            break
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate(timeout=20)


@pytest.mark.long
def test_a_killed_driver_leaves_all_but_the_last_moment(
    tmp_path: Path, at_work: subprocess.Popen[bytes]
) -> None:
    before = len(list(logs.read(Store.at(tmp_path), logs.jobs(Store.at(tmp_path))[0])))
    at_work.kill()
    at_work.wait(timeout=20)
    store = Store.at(tmp_path)
    (job,) = logs.jobs(store)
    events = list(logs.read(store, job))
    assert len(events) >= before > 5
    told = [event["number"] for event in events if event["event"] == "step"]
    assert told == list(range(len(told)))
    assert not logs.CLOSING.intersection(event["event"] for event in events)


@pytest.mark.long
def test_a_driver_that_is_asked_to_end_says_so(tmp_path: Path, at_work: subprocess.Popen[bytes]) -> None:
    os.kill(at_work.pid, signal.SIGTERM)
    assert at_work.wait(timeout=20) == TERMINATED
    store = Store.at(tmp_path)
    last = logs.last(store, logs.jobs(store)[0])[-1]
    assert (last["event"], last["kind"]) == ("stopped", "SystemExit")


def test_the_next_job_knows_what_the_one_before_measured(store: Store) -> None:
    log = Log()
    log.forecast.plan([Part(name="embed")])
    with log.kept(store, "build"):
        log.forecast.begin(Part(name="embed"), found=3, missing=4)
        with log.bar("embed", total=4, unit="shards"):
            log.forecast.made("embed", 2.0)
    Log().save(store, "train")  # tells nothing of steps, and is looked over
    assert known(store) == {"embed": Known(there=4, total=7, seconds=2.0)}
    following = Log()
    with following.kept(store, "build"):
        assert following.forecast.earlier == known(store)


def test_logs_expire_but_for_the_newest(store: Store) -> None:
    old, new = (written(store, Log(), shards=3) for _ in range(2))
    now = datetime.now(UTC)
    assert logs.expired(store, now) == {}
    expired = logs.expired(store, now + timedelta(days=logs.KEPT_DAYS + 1))
    assert expired == {
        logs.head_name(old): store.size(logs.head_name(old)),
        **store.sizes(f"{logs.SEGMENTS}{old}/"),
    }
    assert len(expired) >= 2
    assert new in logs.jobs(store)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0:00"), (187.9, "3:07"), (3599, "59:59"), (3787, "1:03:07"), (90_000, "25:00:00")],
)
def test_a_time_is_told_as_a_clock_does(seconds: float, told: str) -> None:
    assert clock(seconds) == told


def test_a_plan_is_told_in_a_line() -> None:
    known = Ahead(steps=18, done=5, share=0.614, left_s=250.0)
    assert told_ahead(known) == "plan 5/18 steps, 61 % of the known work, about 4:10 left"
    assert told_ahead(Ahead(steps=18, done=0, unknown=("filter",))) == "plan 0/18 steps, ? left"


def test_telling_of_a_shard_costs_far_less_than_the_engine_may(tmp_path: Path) -> None:
    """20 ms a shard are the engine's bound; this is to take a twentieth of it."""
    log, counts = Log(), {"kept": 100, "rejected:exact_duplicate": 3}
    with log.kept(Store.at(tmp_path), "build"):
        began = time.process_time()
        for number in range(2000):
            log.shard(
                rows=103, step="dedup", slot=f"00000-{number:06d}", key="0" * 32, node="host", counts=counts
            )
        assert (time.process_time() - began) / 2000 < 0.001
