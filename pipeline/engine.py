"""Run a step's tasks, in this process or elsewhere: what an engine is, and the one that is this process.

The unit of work and of retry is the shard: who makes it reads what the task names, computes, and publishes
the shard itself. :mod:`pipeline.pool` does so on Ray.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from infra.artifact import Shard, publish_shard
from infra.storage import Store
from infra.telemetry import Bar
from pipeline import numerics
from pipeline.step import Do, Step, Task


class JobFailed(RuntimeError):
    """A shard could not be made, however often it was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A shard, and who made it when: that is told, and never written into the corpus."""

    slot: str
    shard: Shard
    began: float
    """In seconds since 1970, by the clock of who made it."""
    seconds: float
    node: str
    tries: int = 1
    """Workers that began it: those that died of it, and one that was set beside a slow one."""


class Engine(Protocol):
    """What runs tasks: this process, or workers on a cluster."""

    def run(self, step: Step, tasks: Sequence[Task], store: Store, bar: Bar) -> Iterator[Done]:
        """Each shard as it is done, in any order."""

    def close(self) -> None:
        """Give back what is held; a later run takes it again."""


def make(step: Step, do: Do, task: Task, store: Store, report: Any) -> Done:
    began, clock = time.time(), time.monotonic()
    shard = publish_shard(store, step.name, step.key(task), do(task, report))
    # Arrow keeps what it freed: 30 MiB after 40,000 records, which the next shard would come on top of.
    pa.default_memory_pool().release_unused()
    seconds = time.monotonic() - clock
    return Done(slot=task.slot, shard=shard, began=began, seconds=seconds, node=socket.gethostname())


@dataclass(frozen=True, slots=True)
class Inline:
    """In this process: for tests, small jobs, and to step through a shard under a debugger."""

    def run(self, step: Step, tasks: Sequence[Task], store: Store, bar: Bar) -> Iterator[Done]:
        numerics.use_threads(step.workers.cpus)
        numerics.keep_memory()
        do = step.open()

        def report(done: int, total: int, note: str) -> None:
            if step.fitted:
                bar.total = total
                bar.at(done, note)

        for task in tasks:
            yield make(step, do, task, store, report)

    def close(self) -> None:
        """Nothing is held."""
