"""What a person and a machine see of running work: progress on stderr, events as JSON lines.

Rates and times stay here: they never enter a shard or a manifest, which must not depend on who ran them.
Credentials do not even come here: lines and events are masked as they are made.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn

from infra import logs
from infra.forecast import Ahead, Forecast, Known
from infra.redaction import masked_here, masked_tree
from infra.storage import Store

SAY_EVERY_S = 2.0
SAY_PLAN_EVERY_S = 30.0
LOOKED_BACK = 8
"""Jobs in which it is looked for what a step took: those that train tell nothing of it."""
TERMINATED = 128 + signal.SIGTERM


def clock(seconds: float) -> str:
    """Minutes and seconds, such as 3:07; from an hour on with hours, such as 1:03:07."""
    whole = int(seconds)
    hours = f"{whole // 3600}:{whole // 60 % 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return f"{hours}:{whole % 60:02d}"


@dataclass(slots=True)
class Bar:
    """One piece of work with a known amount. The only mutable thing here, since progress is."""

    name: str
    total: int
    unit: str
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    note: str = ""
    _said: float = field(default_factory=time.monotonic)

    def advance(self, amount: int, note: str = "") -> None:
        self.at(self.done + amount, note)

    def at(self, done: int, note: str = "") -> None:
        self.done, self.note = done, note or self.note
        now = time.monotonic()
        if now - self._said >= SAY_EVERY_S and self.done < self.total:
            self._said = now
            self._show()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def rate(self) -> float:
        return self.done / max(self.seconds, 1e-9)

    def _show(self) -> None:
        left = clock((self.total - self.done) / self.rate) if self.done else "?"
        text = f"{self.name:<10} {self.done:>6}/{self.total} {self.unit}  {self.rate:.1f}/s  {left} left"
        say(f"{text}  {self.note}".rstrip())


def say(text: str) -> None:
    """A line for the person at the terminal; stdout belongs to results."""
    sys.stderr.write(masked_here(text) + "\n")
    sys.stderr.flush()


def told_ahead(ahead: Ahead) -> str:
    """A forecast in a line.

    >>> told_ahead(Ahead(steps=18, done=5, share=0.614, left_s=250.0))
    'plan 5/18 steps, 61 % of the known work, about 4:10 left'
    >>> told_ahead(Ahead(steps=18, done=5, share=0.614, left_s=250.0, unknown=("vq", "pack")))
    'plan 5/18 steps, 61 % of the known work, at least 4:10 left (unknown: vq, pack)'
    >>> told_ahead(Ahead(steps=18, done=0, unknown=("filter",)))
    'plan 0/18 steps, ? left'
    """
    steps = f"plan {ahead.done}/{ahead.steps} steps"
    if ahead.left_s is None or ahead.share is None:
        return f"{steps}, ? left"
    how = "at least" if ahead.unknown else "about"
    unknown = f" (unknown: {', '.join(ahead.unknown)})" if ahead.unknown else ""
    return f"{steps}, {ahead.share:.0%} of the known work, {how} {clock(ahead.left_s)} left{unknown}".replace(
        "%", " %", 1
    )


@dataclass(slots=True)
class Log:
    """The events of one command: in memory, and in the corpus's store as they come where it is :meth:`kept`;
    else by :meth:`save`.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    """All but those of single shards, of which there may be 340,000 a step."""
    forecast: Forecast = field(default_factory=Forecast)
    job: str = ""
    """Its id, and the name of its log; none where no store keeps it."""
    _bar: Bar | None = None
    _rows: int = 0
    _writer: logs.Writer | None = None
    _told: dict[str, Any] = field(default_factory=dict)
    _said: float = field(default_factory=time.monotonic)

    def event(self, kind: str, /, **facts: Any) -> None:
        self.events.append(self._written(kind, facts))

    def shard(self, *, rows: int, **facts: Any) -> None:
        """A shard was made: written, and not held in memory."""
        self._rows += rows
        if self._writer is not None:
            self._written("shard", facts)

    def _written(self, kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        event = {"event": kind, "time": time.time(), **masked_tree(facts)}
        if self._writer is not None:
            self._writer.add(event)
        return event

    @contextmanager
    def bar(self, name: str, *, total: int, unit: str, **facts: Any) -> Iterator[Bar]:
        """Show progress while the block runs; then one line, and one event with the rate."""
        bar = Bar(name, total, unit)
        self._bar, self._rows = bar, 0
        yield bar
        self.event("work", name=name, done=bar.done, unit=unit, seconds=round(bar.seconds, 3), **facts)
        if total:
            said = f"{bar.done:>6} {unit}, {bar.rate:.1f}/s," if bar.total > 1 else " " * 6 + "done"
            say(f"{name:<10} {said} in {clock(bar.seconds)}  {bar.note}".rstrip())

    @contextmanager
    def kept(self, store: Store, command: str, **facts: Any) -> Iterator[str]:
        """Write what comes into the store while the block runs, and at its end how it ended; yields the id.

        Asked to end by SIGTERM, as Ray and Kubernetes ask, it ends as if by ``sys.exit``.
        """
        self.forecast.earlier = known(store)
        begun = {"event": "job", "time": time.time(), "command": command, **masked_tree(facts)}
        self.job = logs.begin(store, command, [begun])
        self.events.append(begun)
        self._writer = logs.Writer(store=store, job=self.job, say=say, latest=self._progress)
        self._writer.start()
        closing: dict[str, Any] = {"event": "done"}
        try:
            with ended_by_signal():
                yield self.job
        except Exception as error:
            closing = {"event": "failed", "kind": type(error).__name__, "message": str(error)}
            raise
        except BaseException as error:
            closing = {"event": "stopped", "kind": type(error).__name__}
            raise
        finally:
            closing = {**masked_tree(closing), "time": time.time()}
            self.events.append(closing)
            self._writer.close(closing)
            self._writer = None

    def _progress(self, in_any_case: bool) -> dict[str, Any] | None:  # noqa: FBT001  # a callback
        """How far the job is, if it moved; asked by the thread that writes, which also tells the person."""
        bar = self._bar
        if bar is not None:
            self.forecast.at(bar.name, bar.done / max(bar.total, 1))
        ahead = self.forecast.ahead()
        if time.monotonic() - self._said >= SAY_PLAN_EVERY_S and ahead.done < ahead.steps:
            self._said = time.monotonic()
            say(told_ahead(ahead))
        told: dict[str, Any] = {}
        if bar is not None:
            told = {
                "step": bar.name,
                "done": bar.done,
                "total": bar.total,
                "unit": bar.unit,
                "rows": self._rows,
            }
        told |= {"plan_steps": ahead.steps, "plan_done": ahead.done}
        if told == self._told and not in_any_case:
            return None
        self._told = told
        rates = {} if bar is None else {"rows_per_s": self._rows / max(bar.seconds, 1e-9), "rate": bar.rate}
        return {
            "event": "progress",
            "time": time.time(),
            **told,
            **{name: round(rate, 3) for name, rate in rates.items()},
            "ahead": ahead.json(),
            "known": {name: one.json() for name, one in self.forecast.known().items()},
        }

    def save(self, store: Store, command: str) -> str:
        """Write all at once, as ``logs/TIME-COMMAND.jsonl``, and return its name. Called while an error
        passes, it says which.
        """
        error = sys.exc_info()[1]
        if error is not None:
            self.event("error", kind=type(error).__name__, message=str(error))
        return logs.head_name(logs.begin(store, command, self.events))


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """SIGTERM ends the block by SystemExit; only where nobody else has said what it does."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(TERMINATED)

    is_mine = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if is_mine:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if is_mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def known(store: Store) -> dict[str, Known]:
    """What the newest job tells of each step: shards, and seconds of a worker for one."""
    for job in reversed(logs.jobs(store)[-LOOKED_BACK:]):
        for event in reversed(logs.last(store, job)):
            if event["event"] == "progress" and event["known"]:
                return {name: Known(**told) for name, told in event["known"].items()}
    return {}
