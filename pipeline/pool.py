"""Run a step's tasks on Ray. The only module of this package that imports Ray.

Only a shard's manifest travels back from who made it, so no image passes through the driver or the object
store. A worker that dies loses nothing but its own shard, which is made again with the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from infra.storage import Store
from infra.telemetry import Bar
from pipeline import numerics
from pipeline.engine import Done, JobFailed, make
from pipeline.step import Do, Step, Task, Workers

RETRIES = 3
"""Deaths of a worker that one shard may cost before the job fails."""

POLL_S = 1.0


class Worker:
    """Opens a step once, then makes shards of it. Opening the next step forgets the last."""

    def __init__(self) -> None:
        self._opened: tuple[list[Any], Do] | None = None
        self._progress = (0, 0, "")
        numerics.keep_memory()

    def run(self, step: Step, task: Task, store: Store) -> Done:
        numerics.use_threads(step.workers.cpus)  # here: OpenMP keeps the number by thread, and Ray picks one
        identity = [*step.identity(), step.erasing]
        if self._opened is None or self._opened[0] != identity:
            self._opened = (identity, step.open())
        return make(step, self._opened[1], task, store, self._report)

    def _report(self, done: int, total: int, note: str) -> None:
        self._progress = (done, total, note)

    def progress(self) -> tuple[int, int, str]:
        """How far the task at work is; answered by a second thread."""
        return self._progress


@dataclass(slots=True)
class OnRay:
    """Actors on the cluster that this process joined. The pool is kept while steps want the same shape."""

    _pool: list[ActorHandle[Worker]] = field(default_factory=list)
    _shape: Workers | None = None

    def run(self, step: Step, tasks: Sequence[Task], store: Store, bar: Bar) -> Iterator[Done]:
        if not tasks:
            return
        idle = list(self._workers(step.workers, len(tasks)))
        shared = ray.put(step)
        waiting = list(reversed(tasks))
        running: dict[Any, tuple[ActorHandle[Worker], Task]] = {}
        try:
            while waiting or running:
                while waiting and idle:
                    worker, task = idle.pop(), waiting.pop()
                    running[worker.run.remote(shared, task, store)] = (worker, task)
                ready, _ = ray.wait(list(running), timeout=POLL_S)
                for ref in ready:
                    worker, task = running[ref]
                    yield result(ref, step, task)
                    idle.append(worker)
                    del running[ref]
                if step.fitted and running:
                    watch([worker for worker, _ in running.values()], bar)
        finally:
            if running:  # a shard failed, and others are at work: another run must not share their memory
                self.close()

    def _workers(self, shape: Workers, wanted: int) -> list[ActorHandle[Worker]]:
        """As many of this shape as the cluster holds and the tasks want; the old pool is let go first."""
        if self._shape != shape or len(self._pool) < min(wanted, fits(shape)):
            self.close()
            actor = ray.remote(Worker).options(
                num_cpus=shape.cpus,
                num_gpus=shape.gpus,
                max_restarts=-1,
                max_task_retries=RETRIES,
                max_concurrency=2,  # one thread works, the other answers how far it is
            )
            count = min(wanted, fits(shape))
            self._pool = [actor.remote() for _ in range(count)]  # type: ignore[misc]  # Ray: handle or class
            self._shape = shape
        return self._pool

    def close(self) -> None:
        """Let the workers go, so that others may have their CPUs."""
        for worker in self._pool:
            ray.kill(worker)
        self._pool, self._shape = [], None


def fits(shape: Workers) -> int:
    """Workers of this shape that the cluster holds at once; at least one, which then waits for its place."""
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray has no hint here
    by_cpu = total.get("CPU", 0) / shape.cpus
    by_gpu = total.get("GPU", 0) / shape.gpus if shape.gpus else math.inf
    return max(1, int(min(by_cpu, by_gpu)))


def result(ref: Any, step: Step, task: Task) -> Done:
    try:
        done: Done = ray.get(ref)
    except RayActorError as error:
        raise JobFailed(
            f"step {step.name!r}, shard {task.slot}: its worker died {RETRIES + 1} times "
            f"({str(error).splitlines()[0]}); lower what it needs, or take the shard's inputs out"
        ) from error
    return done


def watch(workers: Sequence[ActorHandle[Worker]], bar: Bar) -> None:
    """Show how far long work is. A worker that is just being replaced is asked again later."""
    ready, _ = ray.wait([worker.progress.remote() for worker in workers], timeout=POLL_S)
    for ref in ready:
        try:
            done, total, note = ray.get(ref)
        except RayActorError:
            continue
        if total:
            bar.total = total
            bar.at(done, note)
