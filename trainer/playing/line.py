"""Jobs, one after the other: a thread draws, and whoever comes meanwhile stands in line.

The surprising rule: a job that nobody asks about is dropped. A page that was closed holds up nobody.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from infra import ending
from infra.redaction import masked_here
from infra.serving.callers import Caller, Room
from infra.serving.refusal import Refusal
from infra.telemetry import say
from trainer.playing.progress import Progress, Stopped, now

KEPT = 64
"""Jobs that are told of when they are over."""
State = Literal["waiting", "running", "done", "failed", "stopped"]


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    caller: Caller
    work: Callable[[Progress], Any]
    """In the thread that draws."""
    tell: Callable[[Any], Mapping[str, Any]]
    """What is answered of what the work made: in the event loop."""
    progress: Progress
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    state: State = "waiting"
    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Line:
    """Asked by the event loop's thread alone."""

    room: Room
    _jobs: OrderedDict[str, Job] = field(default_factory=OrderedDict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # first come, first served
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "drawing"))

    def enter(self, job: Job) -> None:
        """503 where the line is full."""
        held = ExitStack()
        held.enter_context(self.room.place(job.caller))
        self._jobs[job.id] = job
        self._tasks[job.id] = asyncio.create_task(self._served(job, held))

    def told(self, caller: Caller, name: str) -> dict[str, Any]:
        job = self._job(caller, name)
        job.progress.seen = now()
        found: dict[str, Any] = {"job": job.id, "state": job.state, **job.answer}
        if job.state == "waiting":
            found["place"] = self._ahead(job)
        return {**found, "progress": job.progress.told()}

    def stop(self, caller: Caller, name: str) -> None:
        job = self._job(caller, name)
        job.progress.stopped = True
        if job.state == "waiting":
            self._tasks[job.id].cancel()

    def close(self) -> None:
        """Whatever is being drawn ends at its next token."""
        for job in self._jobs.values():
            job.progress.stopped = True
        self._thread.shutdown(cancel_futures=True)

    def _job(self, caller: Caller, name: str) -> Job:
        job = self._jobs.get(name)
        if job is None or job.caller != caller:
            fix = f"ask for it again; the latest {KEPT} are told of"
            raise Refusal(404, "no such job", value=name, fix=fix)
        return job

    def _ahead(self, job: Job) -> int:
        """Jobs that are served before it."""
        unserved = [one.id for one in self._jobs.values() if one.state in ("running", "waiting")]
        return unserved.index(job.id)

    async def _served(self, job: Job, held: ExitStack) -> None:
        try:
            with held:
                async with self._turn:
                    await self._run(job)
        except asyncio.CancelledError:
            job.state = "stopped"
        finally:
            del self._tasks[job.id]
            over = [one for one in self._jobs.values() if one.state not in ("running", "waiting")]
            for one in over[:-KEPT]:
                del self._jobs[one.id]

    async def _run(self, job: Job) -> None:
        if job.progress.abandoned:
            job.state = "stopped"
            return
        job.state = "running"
        try:
            made = await asyncio.get_running_loop().run_in_executor(self._thread, job.work, job.progress)
            job.answer = {"answer": job.tell(made)}
            job.state = "done"
        except Stopped:
            job.state = "stopped"
        except Exception as error:  # noqa: BLE001  # the edge: the trace stays here, and a line leaves
            refusal = of_error(error)
            job.answer = {"error": refusal.error, "value": refusal.value, "fix": refusal.fix}
            job.state = "failed"


def of_message(text: str) -> Refusal:
    """Our messages say what is wrong, and after a semicolon what to do.

    >>> told = of_message("the mask brushes nothing; make white what is to be drawn anew")
    >>> told.error, told.fix
    ('the mask brushes nothing', 'make white what is to be drawn anew')
    """
    wrong, _, fix = text.rpartition("; ")
    return Refusal(422, wrong or fix, fix=fix if wrong else "ask for something else")


def of_error(error: Exception) -> Refusal:
    """What is told of a job that failed: a message where our own code raised it."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return Refusal(422, "the device has no room for that", fix="ask for fewer samples or neighbors")
    found = ending.ending(error, ())
    if found.code == ending.MISTAKE:
        return of_message(masked_here(found.text))
    say(f"a job: a fault of the service: {type(error).__name__}")
    ending.keep_trace(error)
    return Refusal(500, "a fault of the service", fix="tell its operator the time")
