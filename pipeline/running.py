"""The job that works on a corpus now, as anybody can tell who reads the corpus: by its lease and its log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from infra import logs
from infra.corpus import LEASE_S, died, lease_name, newest_lease
from infra.forecast import Ahead
from infra.storage import Store
from infra.telemetry import LOOKED_BACK, clock, told_ahead

POLL_S = 1.0
"""Between two looks for the next segment of a log that is followed."""
LOOK_S = 5.0
"""Between two looks at the lease."""
AGAIN = "run the command again, it goes on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    purpose: str
    """The command."""
    job: str | None
    """None where the command keeps no log."""
    host: str
    pid: int
    begun: Mapping[str, Any] = field(default_factory=dict)
    """What the log begins with."""
    gone_since: float | None = None
    """When there was the last sign of a driver that ended without a word; None while it lives."""
    progress: Mapping[str, Any] | None = None
    """How far it is, as it last wrote."""

    def facts(self) -> dict[str, Any]:
        """The events that it was told by, less what the next job goes by."""
        begun = {name: self.begun.get(name) for name in ("version", "engine", "pardalis")}
        since = self.begun.get("time")
        told = {
            name: value for name, value in (self.progress or {}).items() if name not in ("event", "known")
        }
        return {
            "id": self.job,
            "command": self.purpose,
            "since": since and instant(since),
            "host": self.host,
            "pid": self.pid,
            **begun,
            "driver": "alive" if self.gone_since is None else "gone",
            "gone_since": self.gone_since and instant(self.gone_since),
            "progress": told or None,
        }

    def lines(self) -> Iterator[str]:
        named = f"`{self.purpose}`" + (f", job {self.job}" if self.job else "")
        where = f"process {self.pid} on {self.host}"
        if self.gone_since is not None:
            yield f"  {named}: its driver ({where}) is gone since {instant(self.gone_since)}; {AGAIN}"
        else:
            since = f" since {instant(self.begun['time'])}" if self.begun else ""
            yield f"  running: {named},{since} {where}"
        if self.progress is not None:
            yield from (f"    {line}" for line in told(self.progress))


def told(progress: Mapping[str, Any]) -> Iterator[str]:
    """An event of progress, for people."""
    ahead = Ahead(**{**progress["ahead"], "unknown": tuple(progress["ahead"]["unknown"])})
    if "step" in progress:
        left = "?" if ahead.step_left_s is None else clock(ahead.step_left_s)
        rows = f", {progress['rows_per_s']:.1f} rows/s" if progress["rows"] else ""
        done = f"{progress['done']}/{progress['total']} {progress['unit']}{rows}, {left} left"
        yield f"{progress['step']}: {done}, as of {instant(progress['time'])}"
    yield told_ahead(ahead)


def instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def of(store: Store) -> Running | None:
    """The job that holds the lease, or let it expire without a word on how it ended."""
    number = newest_lease(store)
    if not number:
        return None
    holder = json.loads(store.read(lease_name(number)))
    if not holder["expires"]:  # it was given back
        return None
    job, begun = of_lease(store, number)
    events = [] if job is None else logs.last(store, job)
    lives = is_alive(holder)
    if not lives and any(event["event"] in logs.CLOSING for event in events):
        return None
    heard = max([holder["expires"] - LEASE_S, *(event["time"] for event in events if "time" in event)])
    return Running(
        purpose=holder["purpose"],
        job=job,
        host=holder["host"],
        pid=holder["pid"],
        begun=begun,
        gone_since=None if lives else heard,
        progress=next((one for one in reversed(events) if one["event"] == "progress"), None),
    )


def of_lease(store: Store, number: int) -> tuple[str | None, Mapping[str, Any]]:
    """The job that began under a lease, and what it began with."""
    for job in reversed(logs.jobs(store)[-LOOKED_BACK:]):
        begun = logs.head(store, job)[0]
        if begun.get("lease") == number:
            return job, begun
    return None, {}


def is_alive(holder: Mapping[str, Any]) -> bool:
    return bool(holder["expires"] > time.time()) and not died(holder)


def is_over(store: Store, number: int) -> bool:
    """Whether who began under this lease can write no more."""
    newest = newest_lease(store)
    return newest != number or not is_alive(json.loads(store.read(lease_name(number))))


def followed(store: Store, job: str) -> Iterator[dict[str, Any]]:
    """The events of a job as they come, to its end; where it ends without a word, an event ``gone`` says so.

    No wait is without end: a driver that is gone does not renew its lease.
    """
    begun = logs.head(store, job)
    yield from begun
    if not logs.is_live(begun):
        return
    number, looked, ends = 0, 0.0, False
    while True:
        data = logs.segment(store, job, number)
        if data is not None:
            events = logs.parsed(data)
            yield from events
            if any(event["event"] in logs.CLOSING for event in events):
                return
            number += 1
        elif ends:  # and nothing came since that was seen
            yield {"event": "gone", "time": time.time(), "fix": AGAIN}
            return
        elif time.monotonic() - looked >= LOOK_S:
            looked, ends = time.monotonic(), is_over(store, begun[0]["lease"])
        else:
            time.sleep(POLL_S)
