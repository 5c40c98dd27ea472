"""Laws of the line: one job after the other, in their order, and nobody's is held up by who has left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from infra.serving.callers import Room
from infra.serving.refusal import Refusal
from trainer.playing.line import KEPT, Job, Line
from trainer.playing.progress import PATIENCE_S, Progress, now

ANA, BEN = b"ana", b"ben"


def line(most: int = 4, callers: int = 1) -> Line:
    return Line(room=Room(max_requests=most, max_bytes=1, callers=callers))


def job(work: Callable[[Progress], Any], caller: bytes = ANA) -> Job:
    progress = Progress(total=10, seen=now())
    return Job(caller=caller, work=work, tell=lambda made: {"made": made}, progress=progress)


async def over(line: Line, *jobs: Job) -> None:
    async with asyncio.timeout(10):
        while any(one.state in ("waiting", "running") for one in jobs):  # noqa: ASYNC110  # a page asks too
            await asyncio.sleep(0.001)


def test_jobs_are_done_one_after_the_other_in_their_order() -> None:
    at_work: list[int] = []
    order: list[int] = []

    def work(number: int) -> Callable[[Progress], int]:
        def found(_progress: Progress) -> int:
            at_work.append(number)
            assert at_work == [number]
            order.append(number)
            at_work.remove(number)
            return number

        return found

    async def asked() -> None:
        mine = line()
        jobs = [job(work(number)) for number in range(4)]
        for one in jobs:
            mine.enter(one)
        await over(mine, *jobs)
        assert [mine.told(ANA, one.id)["answer"] for one in jobs] == [{"made": n} for n in range(4)]
        assert order == [0, 1, 2, 3]
        mine.close()

    asyncio.run(asked())


def test_who_waits_is_told_how_many_are_before_and_who_comes_to_a_full_line_is_refused() -> None:
    begun, go = threading.Event(), threading.Event()

    def work(_progress: Progress) -> None:
        begun.set()
        go.wait(10)

    async def asked() -> None:
        mine, jobs = line(3), [job(work) for _ in range(3)]
        for one in jobs:
            mine.enter(one)
        await asyncio.to_thread(begun.wait, 10)
        told = [mine.told(ANA, one.id) for one in jobs]
        assert [one["state"] for one in told] == ["running", "waiting", "waiting"]
        assert [one.get("place") for one in told] == [None, 1, 2]
        with pytest.raises(Refusal) as refused:
            mine.enter(job(lambda _progress: None))
        assert refused.value.status == 503
        go.set()
        await over(mine, *jobs)
        assert mine.room.requests == 0
        mine.enter(job(lambda _progress: None))
        mine.close()

    asyncio.run(asked())


def test_half_of_the_line_is_shared_out_among_the_callers() -> None:
    async def asked() -> None:
        mine, go = line(4, callers=2), threading.Event()
        jobs = [job(lambda _progress: go.wait(10)) for _ in range(3)]
        for one in jobs:
            mine.enter(one)
        with pytest.raises(Refusal):
            mine.enter(job(lambda _progress: None))
        jobs.append(job(lambda _progress: None, BEN))
        mine.enter(jobs[-1])
        go.set()
        await over(mine, *jobs)
        mine.close()

    asyncio.run(asked())


def test_a_job_is_its_callers_alone() -> None:
    async def asked() -> None:
        mine, one = line(), job(lambda _progress: None)
        mine.enter(one)
        for ask in (mine.told, mine.stop):
            with pytest.raises(Refusal) as refused:
                ask(BEN, one.id)
            assert refused.value.status == 404
        await over(mine, one)
        mine.close()

    asyncio.run(asked())


def test_a_job_is_stopped_while_it_waits_and_while_it_is_at_work() -> None:
    begun = threading.Event()

    def work(progress: Progress) -> None:
        begun.set()
        for _ in range(10_000_000):
            progress.step()

    async def asked() -> None:
        mine, jobs = line(), [job(work), job(work)]
        for one in jobs:
            mine.enter(one)
        await asyncio.to_thread(begun.wait, 10)
        mine.stop(ANA, jobs[1].id)
        mine.stop(ANA, jobs[0].id)
        await over(mine, *jobs)
        assert [one.state for one in jobs] == ["stopped", "stopped"]
        assert 0 < jobs[0].progress.done < 10_000_000
        assert jobs[1].progress.done == 0
        mine.close()

    asyncio.run(asked())


def test_a_job_that_nobody_asks_about_is_dropped_before_it_begins() -> None:
    async def asked() -> None:
        mine = line()
        forgotten = job(lambda _progress: pytest.fail("it was begun"))
        forgotten.progress.seen -= PATIENCE_S + 1
        mine.enter(forgotten)
        await over(mine, forgotten)
        assert forgotten.state == "stopped"
        mine.close()

    asyncio.run(asked())


def test_a_job_that_fails_says_why_and_the_next_is_done() -> None:
    def wrong(_progress: Progress) -> None:
        raise Refusal(422, "no such thing", value="x", fix="ask for another")

    def full(_progress: Progress) -> None:
        raise torch.OutOfMemoryError

    async def asked() -> None:
        mine = line()
        jobs = [job(wrong), job(full), job(lambda _progress: 1)]
        for one in jobs:
            mine.enter(one)
        await over(mine, *jobs)
        told = [mine.told(ANA, one.id) for one in jobs]
        assert [one["state"] for one in told] == ["failed", "failed", "done"]
        assert (told[0]["error"], told[0]["fix"]) == ("no such thing", "ask for another")
        assert "fewer samples" in told[1]["fix"]
        mine.close()

    asyncio.run(asked())


def test_the_latest_jobs_are_told_of() -> None:
    async def asked() -> None:
        mine, jobs = line(1000), [job(lambda _progress: None) for _ in range(KEPT + 2)]
        for one in jobs:
            mine.enter(one)
        await over(mine, *jobs)
        await asyncio.sleep(0)
        with pytest.raises(Refusal):
            mine.told(ANA, jobs[0].id)
        assert mine.told(ANA, jobs[-KEPT].id)["state"] == "done"
        mine.close()

    asyncio.run(asked())
