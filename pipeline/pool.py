"""Run a step's tasks on Ray. The only module of this package that imports Ray.

Only a shard's manifest travels back from who made it, so no image passes through the driver or the object
store. A worker that dies or falls silent loses nothing but its own shard, which another makes with the same
bytes; where one is slow an idle worker begins the same, and the first is taken. No wait is without end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util import get_node_ip_address

from infra import metrics
from infra.refs import signs
from infra.storage import Store
from infra.telemetry import Bar
from pipeline import numerics, refs
from pipeline.engine import Done, JobFailed, make
from pipeline.scheduling import Running, Schedule, WorkersConfig
from pipeline.step import Do, Step, Task, Workers

POLL_S = 1.0
"""Between two looks at how large the cluster is, and who is silent."""
SENT_S = 120.0
"""For a directory to come: 8 MB of 34,000 shards."""
STILLBORN, TOGETHER_S = 5, 2.0
"""Times in a row that workers may die before any answers; within so many seconds it is one time."""
WATCHED_S, WATCH_S = 60.0, 5.0
"""A worker that is silent for so long is asked how far it is, as often at most."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A directory in the cluster's memory: a worker fetches it with the first task that looks into it."""

    sha256: str
    at: Any
    """Its files, which it may share with others."""


def send(directory: refs.Directory, sent: dict[int, Any]) -> Sent:
    """Once, however many tasks and directories share its files. ``sent`` is of one run, whose tasks hold
    them: later, others may have their place in memory.
    """
    files = id(directory.files)
    if files not in sent:
        sent[files] = ray.put(directory.files)
    return Sent(directory.sha256, sent[files])


Progress = tuple[int, int, str, int]
"""Done, of how many, a note, and the files that the worker has opened: what changes is a sign of life."""


class Worker:
    """Opens a step once, then makes shards of it. Opening the next step forgets the last."""

    def __init__(self) -> None:
        self._opened: tuple[list[Any], Do] | None = None
        self._files: dict[Any, Mapping[str, refs.Ref]] = {}
        self._progress = (0, 0, "")
        numerics.keep_memory()

    def node(self) -> str:
        """Where it is; the first that it is asked, so that no shard waits for a worker that has no place."""
        return str(get_node_ip_address())  # type: ignore[no-untyped-call]  # Ray has no hint

    def run(self, step: Step, task: Task, directories: Mapping[str, Sent], store: Store) -> Done:
        numerics.use_threads(step.workers.cpus)  # here: OpenMP keeps the number by thread, and Ray picks one
        found = numerics.here()
        # A device that it did not reserve is another's.
        machine = found if step.workers.gpus else replace(found, gpu=None)
        with numerics.working_on(machine):
            numerics.check(step.numerics)
            self._progress = (0, 0, "")
            identity = [*step.identity(), step.erasing]
            if self._opened is None or self._opened[0] != identity:
                self._opened = (identity, step.open())
            looks = {role: self._directory(sent) for role, sent in directories.items()}
            self._files = {sent.at: looks[role].files for role, sent in directories.items()}
            return make(step, self._opened[1], replace(task, directories=looks), store, self._report)

    def _directory(self, sent: Sent) -> refs.Directory:
        """Of the task before mostly: what many directories list, they share."""
        if sent.at not in self._files:
            self._files[sent.at] = ray.get(sent.at, timeout=SENT_S)
        return refs.Directory(sent.sha256, self._files[sent.at])

    def _report(self, done: int, total: int, note: str) -> None:
        self._progress = (done, total, note)

    def progress(self) -> Progress:
        """How far the task at work is; answered by a second thread."""
        return (*self._progress, signs.files)


@dataclass(slots=True)
class Member:
    """A worker of the pool, and what it was asked: first where it is, then for shards."""

    actor: ActorHandle[Worker]
    asked: Any
    node: str = ""
    running: Running | None = None
    told: Progress = (0, 0, "", 0)
    """The progress that it told last."""

    @property
    def is_idle(self) -> bool:
        return bool(self.node) and self.running is None


@dataclass(slots=True)
class OnRay:
    """Actors on the cluster that this process joined. The pool is kept while steps want the same shape."""

    config: WorkersConfig = field(default_factory=WorkersConfig)
    _pool: list[Member] = field(default_factory=list)
    _shape: Workers | None = None
    _memory_gib: float = 0.0
    _stillborn: int = 0
    _died: float = -math.inf
    """When one was counted last."""
    _looked: float = -math.inf
    _watched: float = -math.inf
    _up: float = 0.0
    """When a worker was last there."""

    def run(self, step: Step, tasks: Sequence[Task], store: Store, bar: Bar) -> Iterator[Done]:
        if not tasks:
            return
        memory_gib = self.config.memory_of(step.name)
        if (self._shape, self._memory_gib) != (step.workers, memory_gib):
            self.close()
            self._shape, self._memory_gib = step.workers, memory_gib
        # A model is fitted once: two that fit it would take twice the time of both.
        schedule = Schedule.of(
            step.name, tasks, self.config, speculative=step.speculative and not step.fitted
        )
        shared = ray.put(step)
        sent: dict[int, Any] = {}
        self._up = time.monotonic()
        try:
            while not schedule.is_done:
                self._look(schedule)
                for member in [one for one in self._pool if one.is_idle]:
                    running = schedule.begin(time.monotonic())
                    if running is None:
                        break  # for the other idle ones there is nothing either
                    member.running = running
                    if running.is_beside:
                        metrics.jobs.stragglers.labels(step.name).inc()
                    task = running.task
                    told = {role: send(directory, sent) for role, directory in task.directories.items()}
                    light = replace(task, directories={})
                    member.asked = member.actor.run.remote(shared, light, told, store)
                yield from self._answers(schedule)
                self._watch(bar if step.fitted else None)
        finally:
            metrics.jobs.workers.labels(step.name).set(0)
            metrics.jobs.shards_waiting.labels(step.name).set(0)
            # Those still at work are slow ones whose shard another made, or a shard failed: another run must
            # not share their memory.
            for member in [one for one in self._pool if one.running is not None]:
                self._let_go(member)

    def _look(self, schedule: Schedule) -> None:
        """Once in a while: have as many workers as there is room and work for, and end those that are
        silent. Raises :class:`JobFailed` where none comes.
        """
        now = time.monotonic()
        if now - self._looked < POLL_S and self._pool:
            return
        self._looked = now
        for running in schedule.silent(now):
            member = next(one for one in self._pool if one.running is running)
            self._lose(schedule, member, running, f"no sign of life in {self.config.deadline_s:g} s")
        if any(member.node for member in self._pool):
            self._up = now
        shape = self._shape or Workers()
        nodes = alive()
        memory = reserved(nodes, self._memory_gib)
        room = max(1, fits(nodes, shape, memory) + self.config.ahead)
        for _ in range(min(schedule.wanted, room, self.config.most or room) - len(self._pool)):
            self._add(shape, memory)
        metrics.jobs.workers.labels(schedule.step).set(sum(bool(member.node) for member in self._pool))
        metrics.jobs.shards_waiting.labels(schedule.step).set(schedule.waiting)
        if now - self._up > self.config.start_s:
            raise JobFailed(
                f"step {schedule.step!r}: no worker of {reservation(shape, memory)} came up within "
                f"{self.config.start_s:g} s on {len(nodes)} nodes; add a node that holds one, or lower "
                "pipeline.workers.memory_gib, or what pipeline.workers.large has of the step"
            )

    def _add(self, shape: Workers, memory: int) -> None:
        # Ray is to restart none and to try nothing again: who waits for a lost node would wait for ever.
        actor = ray.remote(Worker).options(
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
            memory=memory,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,  # one thread works, the other answers how far it is
        )
        made: Any = actor.remote()
        self._pool.append(Member(made, made.node.remote()))

    def _answers(self, schedule: Schedule) -> Iterator[Done]:
        """Shards that are done by now, or within a moment."""
        waited: dict[Any, Member] = {one.asked: one for one in self._pool if not one.is_idle}
        if waited:
            ray.wait(list(waited), timeout=POLL_S)
        ready, _ = ray.wait(list(waited), num_returns=len(waited), timeout=0) if waited else ([], [])
        for ref in ready:
            member = waited[ref]
            running = member.running
            try:
                answer = ray.get(ref)
            except RayError as error:
                if isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
                    raise  # the step's own error, as if it had been raised here
                if running is not None:
                    self._lose(schedule, member, running, first_line(error))
                else:
                    self._let_go(member)
                    self.count_stillborn(error)
                continue
            self._stillborn = 0
            if running is None:
                member.node = answer
                continue
            member.running = None
            tries = schedule.end(running, time.monotonic())
            if tries is not None:
                yield replace(answer, node=member.node, tries=tries)

    def _lose(self, schedule: Schedule, member: Member, running: Running, why: str) -> None:
        """A worker that is gone, or is to go, and the shard that it was at."""
        self._let_go(member)
        metrics.jobs.worker_deaths.labels(schedule.step).inc()
        schedule.lose(running, why)

    def count_stillborn(self, error: RayError) -> None:
        """Those that die together, as when their node goes, count once."""
        now = time.monotonic()
        if now - self._died < TOGETHER_S:
            return
        self._died = now
        self._stillborn += 1
        if self._stillborn >= STILLBORN:
            told = f"{STILLBORN} times in a row workers died as they started ({first_line(error)})"
            raise JobFailed(f"{told}; see that all nodes have this version of pardalis and its packages")

    def _watch(self, bar: Bar | None) -> None:
        """Show how far a fit is, and take what changed in long work for a sign of life."""
        now = time.monotonic()
        if bar is None and now - self._watched < WATCH_S:
            return
        self._watched, wait_s = now, min(WATCHED_S, self.config.deadline_s / 4)
        long = [
            one for one in self._pool if one.running and (bar is not None or now - one.running.heard > wait_s)
        ]
        busy: dict[Any, Member] = {one.actor.progress.remote(): one for one in long}
        ready, _ = ray.wait(list(busy), num_returns=len(busy), timeout=POLL_S) if busy else ([], [])
        for ref in ready:
            member = busy[ref]
            try:
                told = ray.get(ref)
            except RayError:
                continue  # it died, which its shard tells
            if told != member.told and member.running is not None:
                member.told, member.running.heard = told, time.monotonic()
            done, total, note, _ = told
            if bar is not None and total:
                bar.total = total
                bar.at(done, note)

    def _let_go(self, member: Member) -> None:
        self._pool.remove(member)
        ray.kill(member.actor)

    def close(self) -> None:
        """Let the workers go, so that others may have their CPUs."""
        for member in list(self._pool):
            self._let_go(member)
        self._shape = None


def machine(config: WorkersConfig) -> numerics.Machine:
    """Of what kind the workers are: of one with a GPU, where the cluster has any."""
    wanted = config.gpus if config.gpus is not None else any(node.get("GPU", 0.0) for node in alive())
    if not wanted:
        return replace(numerics.here(), gpu=None)
    look: Any = ray.remote(num_cpus=0, num_gpus=0.01)(numerics.here)
    try:
        found: numerics.Machine = ray.get(look.remote(), timeout=config.start_s)
    except GetTimeoutError as error:
        raise JobFailed(
            f"no worker with a GPU answered within {config.start_s:g} s; see that the cluster has one free, "
            "or say pipeline.workers.gpus = false"
        ) from error
    return found


def alive() -> list[dict[str, float]]:
    """What each node has; nothing while the head is away, which comes back or ends this process."""
    try:
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # no hint
    except RayError:
        return []


def reserved(nodes: Sequence[dict[str, float]], memory_gib: float) -> int:
    """Bytes of one worker: what the settings say, or all of the largest node where none has so much."""
    largest = max((node.get("memory", 0.0) for node in nodes), default=0.0)
    asked_for = memory_gib * (1 << 30)
    return int(min(asked_for, largest) if largest else asked_for)


def fits(nodes: Sequence[dict[str, float]], shape: Workers, memory: int) -> int:
    """Workers of this shape that the nodes hold at once."""
    return sum(
        int(
            min(
                node.get("CPU", 0.0) / shape.cpus,
                node.get("GPU", 0.0) / shape.gpus if shape.gpus else math.inf,
                node.get("memory", 0.0) / memory,
            )
        )
        for node in nodes
    )


def reservation(shape: Workers, memory: int) -> str:
    """What one reserves, as words."""
    return f"{shape.cpus} CPUs, {shape.gpus:g} GPUs and {memory / (1 << 30):.1f} GiB"


def first_line(error: RayError) -> str:
    return str(error).strip().partition("\n")[0]
