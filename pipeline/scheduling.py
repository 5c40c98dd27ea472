"""Which shard is made next, which is made once more, and when a job gives up: of any engine with workers.

Nothing here knows Ray, or a clock: instants are told, in seconds.
"""

from __future__ import annotations

import collections
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from infra.settings import Section
from pipeline.engine import JobFailed
from pipeline.step import Task

RETRIES = 3
"""Workers that one shard may cost before the job fails, beside the first."""
ENOUGH = 3
"""Shards whose seconds tell what is slow."""
RECENT = 101
"""Shards over whose seconds the median goes: a step's shards differ, and early ones open models."""


class WorkersConfig(Section):
    """How workers are kept. Nothing of it decides what is made, so it enters no key."""

    memory_gib: float = Field(default=2.0, gt=0)
    """What one reserves, so that as many run at once as their memory allows: with a few million images the
    largest steps take 1.6."""
    large: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """GiB that a worker of a step reserves instead, by the step's name. ``pardalis plan`` tells which."""
    most: int | None = Field(default=None, ge=1)
    """Workers at most; None: what the cluster holds."""
    ahead: int = Field(default=0, ge=0)
    """Workers that may wait for machines which an autoscaler has yet to start."""
    gpus: bool | None = None
    """Whether steps that can use a GPU do; None: if the cluster has one as the job begins. Say true where an
    autoscaler starts such nodes when they are asked for."""
    start_s: float = Field(default=900.0, gt=0)
    """Until the first is up: an autoscaler may have to boot a machine."""
    deadline_s: float = Field(default=3600.0, gt=0)
    """Between two signs of life: a file that is opened, or how far a fit says it is. A worker that is silent
    for longer is killed."""
    slow: float = Field(default=4.0, gt=1)
    """Times the median that a shard takes before an idle worker begins it too."""
    slow_s: float = Field(default=30.0, ge=0)
    """Seconds that it takes at least before that."""

    def memory_of(self, step: str) -> float:
        """GiB that a worker of the step reserves."""
        return self.large.get(step, self.memory_gib)


@dataclass(slots=True)
class Running:
    """A worker at a shard."""

    task: Task
    heard: float
    """When it began, or gave its last sign of life."""
    began: float
    is_beside: bool = False
    """Whether a slow one is at the same."""


@dataclass(slots=True)
class Schedule:
    """Of the tasks of one step."""

    step: str
    config: WorkersConfig
    speculative: bool
    _waiting: collections.deque[Task]
    _running: list[Running] = field(default_factory=list)
    _tries: collections.Counter[str] = field(default_factory=collections.Counter)
    _lost: collections.Counter[str] = field(default_factory=collections.Counter)
    _done: set[str] = field(default_factory=set)
    _seconds: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=RECENT))

    @staticmethod
    def of(step: str, tasks: Iterable[Task], config: WorkersConfig, *, speculative: bool) -> Schedule:
        return Schedule(step, config, speculative, collections.deque(tasks))

    @property
    def is_done(self) -> bool:
        return not self._waiting and all(one.task.slot in self._done for one in self._running)

    @property
    def wanted(self) -> int:
        """Workers that have something to do."""
        return len(self._waiting) + sum(one.task.slot not in self._done for one in self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def begin(self, now: float) -> Running | None:
        """What an idle worker is to do: the next shard, else a slow one beside its worker."""
        is_beside = not self._waiting
        task = self._slow(now) if is_beside else self._waiting.popleft()
        if task is None:
            return None
        self._tries[task.slot] += 1
        running = Running(task, now, now, is_beside)
        self._running.append(running)
        return running

    def _slow(self, now: float) -> Task | None:
        """The shard that is longest with one worker, where that is far longer than others took."""
        if not self.speculative or len(self._seconds) < ENOUGH:
            return None
        limit = max(self.config.slow_s, self.config.slow * statistics.median(self._seconds))
        at_work = collections.Counter(one.task.slot for one in self._running)
        slow = [
            one
            for one in self._running
            if now - one.began > limit and at_work[one.task.slot] == 1 and one.task.slot not in self._done
        ]
        return min(slow, key=lambda one: one.began).task if slow else None

    def end(self, running: Running, now: float) -> int | None:
        """Of the first to make the shard, how many workers began it; of a later one, None."""
        self._running.remove(running)
        slot = running.task.slot
        if slot in self._done:
            return None
        self._done.add(slot)
        self._seconds.append(now - running.began)
        return self._tries[slot]

    def lose(self, running: Running, why: str) -> None:
        """Its worker is gone: the shard is made next, unless another is at it. Raises :class:`JobFailed`."""
        self._running.remove(running)
        slot = running.task.slot
        self._lost[slot] += 1
        if slot in self._done or any(one.task.slot == slot for one in self._running):
            return
        if self._lost[slot] > RETRIES:
            raise JobFailed(
                f"step {self.step!r}, shard {slot}: its worker was lost {self._lost[slot]} times "
                f"(lastly: {why}); lower what it needs, or take the shard's inputs out"
            )
        self._waiting.appendleft(running.task)

    def silent(self, now: float) -> list[Running]:
        """Those of which nothing was heard for too long."""
        return [one for one in self._running if now - one.heard > self.config.deadline_s]
