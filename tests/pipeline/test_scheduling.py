"""Which shard is made next: none is lost, none is made for ever, and the first to make one is taken."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine import JobFailed
from pipeline.scheduling import RETRIES, Running, Schedule, WorkersConfig
from pipeline.step import Task


def tasks(num: int) -> list[Task]:
    return [Task(slot=f"{number:03d}", reads={}) for number in range(num)]


def schedule(num: int, *, speculative: bool = True, **settings: float) -> Schedule:
    return Schedule.of("embed", tasks(num), WorkersConfig(**settings), speculative=speculative)


def begin(plan: Schedule, now: float) -> Running:
    running = plan.begin(now)
    assert running is not None
    return running


@given(st.integers(1, 12), st.integers(1, 4), st.randoms(use_true_random=False))
def test_whoever_dies_and_however_slow_some_are_each_shard_is_taken_once(
    num: int, num_workers: int, draw: Random
) -> None:
    plan = schedule(num, slow_s=2.0)
    busy: list[Running] = []
    made: list[str] = []
    lost = dict.fromkeys((task.slot for task in tasks(num)), 0)
    now = 0.0
    for _ in range(100_000):
        if plan.is_done:
            break
        now += 1.0
        while len(busy) < num_workers and (running := plan.begin(now)):
            busy.append(running)
        assert len(busy) <= num_workers
        running = draw.choice(busy)
        busy.remove(running)
        if draw.random() < 0.3 and lost[running.task.slot] < RETRIES:
            lost[running.task.slot] += 1
            plan.lose(running, "shot")
        elif plan.end(running, now) is not None:
            made.append(running.task.slot)
    assert plan.is_done
    assert sorted(made) == [task.slot for task in tasks(num)]


def test_a_shard_whose_worker_died_is_made_next_and_says_how_many_began_it() -> None:
    plan = schedule(3)
    first = begin(plan, 0)
    plan.lose(first, "shot")
    again = begin(plan, 1)
    assert again.task is first.task
    assert plan.end(again, 2) == 2


def test_a_shard_that_kills_every_worker_ends_the_job_by_its_name() -> None:
    plan = schedule(1)
    for _ in range(RETRIES):
        plan.lose(begin(plan, 0), "shot")
    with pytest.raises(JobFailed, match=r"'embed', shard 000: its worker was lost 4 times \(lastly: shot\)"):
        plan.lose(begin(plan, 0), "shot")


def slow_one(**settings: float) -> tuple[Schedule, Running]:
    """Three shards that took a second each, and one that is at it."""
    plan = schedule(4, slow=4.0, slow_s=3.0, **settings)
    slow = begin(plan, 0)
    for now in range(3):
        plan.end(begin(plan, now), now + 1)
    return plan, slow


def test_an_idle_worker_begins_what_is_far_slower_than_others_and_the_first_is_taken() -> None:
    plan, slow = slow_one()
    assert plan.begin(4.0) is None  # four times the median, and not longer
    beside = begin(plan, 4.1)
    assert beside.task is slow.task
    assert plan.begin(100) is None  # two are enough
    assert plan.end(beside, 5) == 2
    assert plan.is_done
    assert plan.end(slow, 6) is None


def test_the_slow_one_may_still_be_first_and_the_death_of_the_other_costs_nothing() -> None:
    plan, slow = slow_one()
    beside = begin(plan, 10)
    plan.lose(beside, "shot")
    assert plan.waiting == 0
    assert plan.end(slow, 11) == 2
    assert plan.is_done


def test_where_others_servers_are_asked_nothing_is_begun_twice() -> None:
    plan = schedule(4, speculative=False, slow_s=0.0)
    begin(plan, 0)
    for now in range(3):
        plan.end(begin(plan, now), now + 1)
    assert plan.begin(1000) is None


def test_who_gives_no_sign_of_life_is_silent_after_the_deadline() -> None:
    plan = schedule(2, deadline_s=10.0)
    heard, silent = begin(plan, 0), begin(plan, 0)
    heard.heard = 5
    assert plan.silent(10) == []
    assert plan.silent(10.5) == [silent]
