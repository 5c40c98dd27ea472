"""What a person and a machine see of running work: progress on stderr, events as JSON lines.

Rates and times stay here: they never enter a shard or a manifest, which must not depend on who ran them.
Credentials do not even come here: lines and events are masked as they are made.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from infra.redaction import masked_here, masked_tree
from infra.storage import Store

SAY_EVERY_S = 2.0


def clock(seconds: float) -> str:
    """Minutes and seconds, such as 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


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


@dataclass(slots=True)
class Log:
    """The events of one command, in memory until :meth:`save`."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def event(self, kind: str, /, **facts: Any) -> None:
        self.events.append({"event": kind, "time": time.time(), **masked_tree(facts)})

    @contextmanager
    def bar(self, name: str, *, total: int, unit: str, **facts: Any) -> Iterator[Bar]:
        """Show progress while the block runs; then one line, and one event with the rate."""
        bar = Bar(name, total, unit)
        yield bar
        self.event("work", name=name, done=bar.done, unit=unit, seconds=round(bar.seconds, 3), **facts)
        if total:
            said = f"{bar.done:>6} {unit}, {bar.rate:.1f}/s," if bar.total > 1 else " " * 6 + "done"
            say(f"{name:<10} {said} in {clock(bar.seconds)}  {bar.note}".rstrip())

    def save(self, store: Store, command: str) -> str:
        """Write ``logs/TIME-COMMAND.jsonl`` and return its name. Called while an error passes, it says which.

        Of two commands at the same microsecond, the later one takes the next.
        """
        error = sys.exc_info()[1]
        if error is not None:
            self.event("error", kind=type(error).__name__, message=str(error))
        lines = "".join(json.dumps(event, sort_keys=True) + "\n" for event in self.events)
        while True:
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            name = f"logs/{stamp}-{command}.jsonl"
            if store.create(name, lines.encode()):
                return name


def saved(store: Store) -> list[dict[str, Any]]:
    """The events of the newest command that wrote a log."""
    names = store.names("logs/")
    if not names:
        raise ValueError(f"no command left a log at {store.uri}; give --corpus a corpus that one has written")
    return [json.loads(line) for line in store.read(names[-1]).splitlines()]
