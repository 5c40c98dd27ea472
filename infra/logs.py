"""The logs of a corpus: one a job, under a name that sorts by time, written while the job runs.

An object on S3 cannot be appended to, so events go into segments, each written once: one in a few seconds, or
as soon as there is a megabyte of them. Whoever is killed leaves all but the last seconds::

    logs/20261128T083251.004211Z-build.jsonl                            how the job began
    logs/segments/20261128T083251.004211Z-build/000000.jsonl …          what happened, until `done`, `failed`
                                                                         or `stopped`

Heads stand apart from segments, so that jobs are listed without them: of a job of days there are 17,000 a
day. A command that tells all at its end has a head alone, with everything in it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from infra.storage import UNREACHABLE, Missing, Store

HEADS = "logs/2"
"""Begins the names of heads, by their year; segments are in a folder of another name."""
SEGMENTS = "logs/segments/"
SEGMENT_BYTES = 1 << 20
EVERY_S = 5.0
PENDING_BYTES = 16 << 20
"""Kept in memory while the store does not answer; what comes then is counted and not kept."""
CLOSING = frozenset({"done", "failed", "stopped"})
"""Events after which nothing comes."""
KEPT_DAYS = 90
STAMP = "%Y%m%dT%H%M%S.%fZ"

Event = dict[str, Any]


def head_name(job: str) -> str:
    return f"logs/{job}.jsonl"


def segment_name(job: str, number: int) -> str:
    return f"{SEGMENTS}{job}/{number:06d}.jsonl"


def lines(events: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(event, sort_keys=True) + "\n" for event in events).encode()


def begin(store: Store, command: str, events: Sequence[Mapping[str, Any]]) -> str:
    """Write a head with these events; the job's id. Of two at the same microsecond, one takes the next."""
    while True:
        job = f"{datetime.now(UTC).strftime(STAMP)}-{command}"
        if store.create(head_name(job), lines(events)):
            return job


@dataclass(slots=True, kw_only=True)
class Writer:
    """Writes a job's segments from a thread, so that no shard waits for the store."""

    store: Store
    job: str
    say: Callable[[str], None]
    latest: Callable[[bool], Event | None]
    """How far the job is, told once in a segment's time and not at each change: where it moved since it was
    last asked, or in any case.
    """
    _pending: list[bytes] = field(default_factory=list)
    _bytes: int = 0
    _batch: bytes = b""
    """Of a segment that is not written yet."""
    _lost: int = 0
    _number: int = 0
    _failing: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _due: threading.Event = field(default_factory=threading.Event)
    _closed: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._write_until_closed, daemon=True)
        self._thread.start()

    def add(self, event: Event) -> None:
        line = lines([event])
        with self._lock:
            if self._bytes + len(line) > PENDING_BYTES and event["event"] not in CLOSING:
                self._lost += 1
                return
            self._pending.append(line)
            self._bytes += len(line)
            if self._bytes >= SEGMENT_BYTES:
                self._due.set()

    def close(self, closing: Event) -> None:
        """Write what is left, and what ends it; the store's fault is told, and raised by nobody."""
        self._closed = True
        self._due.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._take_latest(in_any_case=True)  # the last segment tells the next job what to expect
        self.add(closing)
        self._flush()

    def _write_until_closed(self) -> None:
        while True:
            self._due.wait(EVERY_S)
            self._due.clear()
            if self._closed:
                return
            with self._lock:
                self._take_latest()
            self._flush()

    def _take_latest(self, *, in_any_case: bool = False) -> None:
        lost = {"event": "lost", "time": time.time(), "events": self._lost} if self._lost else None
        for event in (self.latest(in_any_case), lost):
            if event is not None:
                self._pending.append(lines([event]))
                self._bytes += len(self._pending[-1])
        self._lost = 0

    def _flush(self) -> None:
        while self._pending or self._batch:
            if not self._batch:
                self._batch = self._next()
            try:
                self._put(self._batch)
            except UNREACHABLE as error:
                if not self._failing:
                    where = f"the log {self.job} cannot be written to {self.store.uri}"
                    self.say(f"{where} ({error}); trying again, and the work goes on")
                self._failing = True
                return
            self._failing, self._batch = False, b""

    def _next(self) -> bytes:
        """What the next segment holds, the same at every try: one whose answer was lost may be done."""
        count, size = 0, 0
        with self._lock:
            while count < len(self._pending) and size < SEGMENT_BYTES:
                size += len(self._pending[count])
                count += 1
            data = b"".join(self._pending[:count])
            del self._pending[:count]
            self._bytes -= size
        return data

    def _put(self, data: bytes) -> None:
        name = segment_name(self.job, self._number)
        if not self.store.create(name, data) and self.store.read(name) != data:
            raise FileExistsError(f"{self.store.where(name)} was written by another")
        self._number += 1


def jobs(store: Store) -> list[str]:
    """Ids of all jobs that have a log, oldest first."""
    return [
        name.removeprefix("logs/").removesuffix(".jsonl")
        for name in store.names(HEADS)
        if "/" not in name[5:]
    ]


def head(store: Store, job: str) -> list[Event]:
    return parsed(store.read(head_name(job)))


def segment(store: Store, job: str, number: int) -> bytes | None:
    """The segment's lines; None where it is not written yet."""
    try:
        return store.read(segment_name(job, number))
    except Missing:
        return None


def parsed(data: bytes) -> list[Event]:
    return [json.loads(line) for line in data.splitlines()]


def segments(store: Store, job: str) -> Iterator[bytes]:
    """The head, then each segment, oldest first."""
    yield store.read(head_name(job))
    number = 0
    while (data := segment(store, job, number)) is not None:
        yield data
        number += 1


def read(store: Store, job: str) -> Iterator[Event]:
    """All events of a job, so far; no more than a segment is in memory."""
    for data in segments(store, job):
        yield from parsed(data)


def last(store: Store, job: str) -> list[Event]:
    """The events of its two newest segments, in which it says how far it is; how it began before there are
    any.
    """
    names = store.names(f"{SEGMENTS}{job}/")[-2:]
    return [event for name in names for event in parsed(store.read(name))] or head(store, job)


def is_live(begun: Sequence[Event]) -> bool:
    """Whether a head is of a job that tells in segments."""
    return any(event["event"] == "job" for event in begun)


def expired(store: Store, now: datetime) -> dict[str, int]:
    """Names and bytes of what is older than KEPT_DAYS, less the newest job's, which tells what to expect."""
    until = (now - timedelta(days=KEPT_DAYS)).strftime(STAMP)
    found: dict[str, int] = {}
    for job in [job for job in jobs(store)[:-1] if job < until]:
        found |= {head_name(job): store.size(head_name(job)), **store.sizes(f"{SEGMENTS}{job}/")}
    return found
