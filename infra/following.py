"""Follow a job that was submitted: its log as it comes, and how it ends.

The surprising rule: what ends the stream of a log says nothing of the job, which goes on without us; the job
server is asked, and may itself be away for a minute. A stream that is opened again begins at the log's first
line, so of each only what was not shown yet is shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from infra.redaction import masked_here

LOOK_S = 30.0
"""Of silence, after which the job server is asked whether it is still there."""
ANSWER_S = 20.0
AWAY_S = 60.0
"""Without an answer, after which we give up: a head that is started again takes 20."""
AGAIN_S, SELDOM_S = 1.0, 60.0
"""Before a stream is opened again: twice as long each time that nothing new came, since all is sent again."""
UNANSWERED = (OSError, RuntimeError)
"""What Ray's client raises: of requests, and of every answer that is no 200."""
T = TypeVar("T")


class Jobs(Protocol):
    """What is asked of Ray's client of a job server."""

    def get_job_info(self, job_id: str, /) -> Any: ...
    def get_job_logs(self, job_id: str, /) -> str: ...
    def tail_job_logs(self, job_id: str, /) -> AsyncIterator[str]: ...


class Lost(ConnectionError):
    """The job server does not answer any more; the job may go on."""


@dataclass(slots=True)
class Shown:
    """Prints a log that may come again and again from its first character: each whole line once, masked. Half
    a line may not look like what it holds.
    """

    write: Callable[[str], None]
    _taken: int = 0
    """Characters, of which those of ``_half`` are not printed."""
    _at: int = 0
    """In the stream that is open."""
    _half: str = ""

    @property
    def taken(self) -> int:
        return self._taken

    def begin(self) -> None:
        self._at = 0

    def add(self, text: str) -> None:
        new = text[max(0, self._taken - self._at) :]
        self._at += len(text)
        self._taken += len(new)
        lines, end, half = new.rpartition("\n")
        if end:
            self.write(masked_here(self._half + lines + end))
            self._half = ""
        self._half += half

    def end(self, whole: str | None) -> None:
        """``whole``: the log, where no stream reached its end."""
        if whole is not None:
            self.begin()
            self.add(whole)
        self.write(masked_here(self._half))
        self._half = ""


def to_its_end(jobs: Jobs, job: str, write: Callable[[str], None], say: Callable[[str], None]) -> Any:
    """Show the log until the job ends; what the job server says of it then. Raises :class:`Lost`."""
    return asyncio.run(_to_its_end(jobs, job, Shown(write), say))


async def _to_its_end(jobs: Jobs, job: str, shown: Shown, say: Callable[[str], None]) -> Any:
    away_since, pause = None, AGAIN_S
    while True:
        before = shown.taken
        is_whole = await _stream(jobs, job, shown)
        try:
            info = _answer(lambda: jobs.get_job_info(job))
            is_over = info.status.is_terminal()
            rest = _answer(lambda: jobs.get_job_logs(job)) if is_over and not is_whole else None
        except UNANSWERED as error:
            away_since = away_since or time.monotonic()
            left = AWAY_S - (time.monotonic() - away_since)
            if left <= 0:
                raise Lost(str(error)) from error
            say(f"the job server does not answer ({error}); it is asked for another {left:.0f} s")
        else:
            away_since = None
            if is_over:
                shown.end(rest)
                return info
        pause = AGAIN_S if shown.taken > before else min(2 * pause, SELDOM_S)
        await asyncio.sleep(pause)


async def _stream(jobs: Jobs, job: str, shown: Shown) -> bool:
    """Whether it reached its end: not where a fault cut it, or silence of a server that is away."""
    shown.begin()
    stream = jobs.tail_job_logs(job)
    while True:
        chunk = asyncio.ensure_future(_next(stream))
        while not (await asyncio.wait({chunk}, timeout=LOOK_S))[0]:
            if not _goes_on(jobs, job):
                chunk.cancel()
                await asyncio.wait({chunk})
                return False
        if chunk.exception() is not None:
            return False
        if (text := chunk.result()) is None:
            return True
        shown.add(text)


async def _next(stream: AsyncIterator[str]) -> str | None:
    async for text in stream:
        return text
    return None


def _goes_on(jobs: Jobs, job: str) -> bool:
    try:
        return not _answer(lambda: jobs.get_job_info(job)).status.is_terminal()
    except UNANSWERED:
        return False


def _answer(ask: Callable[[], T]) -> T:
    """Ray's client waits for ever for a head that was cut off: a thread asks it, for which nobody waits."""
    thread = ThreadPoolExecutor(1)
    try:
        return thread.submit(ask).result(timeout=ANSWER_S)
    finally:
        thread.shutdown(wait=False)
