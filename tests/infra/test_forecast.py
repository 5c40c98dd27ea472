"""How long a plan has left: worked by hand, and silent where nothing was measured."""

from __future__ import annotations

import pytest

from infra.forecast import Forecast, Known, Part

PLAN = (
    Part(name="filter"),
    Part(name="embed", reads=("filter",)),
    Part(name="model", reads=("embed",), fitted=True),
    Part(name="pack", reads=("embed", "model")),
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def begun(clock: Clock, earlier: dict[str, Known], *, found: int, missing: int, made: int) -> Forecast:
    """Two workers make a shard in 4 s: 2 s a shard."""
    plan = Forecast(earlier=earlier, clock=clock)
    plan.plan(PLAN)
    plan.begin(PLAN[0], found=found, missing=missing)
    for _ in range(made):
        plan.made("filter", 4.0)
    clock.now += 2.0 * made
    return plan


def test_nothing_is_told_before_anything_was_measured(clock: Clock) -> None:
    told = begun(clock, {}, found=0, missing=10, made=0).ahead()
    assert (told.left_s, told.share, told.done, told.steps) == (None, None, 0, 4)
    assert told.unknown == ("filter", "embed", "model", "pack")


def test_a_step_at_work_is_told_by_its_own_shards_and_steps_never_timed_by_name(clock: Clock) -> None:
    told = begun(clock, {}, found=5, missing=10, made=4).ahead()
    assert told.left_s == told.step_left_s == pytest.approx(12.0)
    assert told.unknown == ("embed", "model", "pack")
    assert told.share == pytest.approx(0.4)


def test_later_steps_take_what_they_took_a_shard_and_keep_as_many_workers_busy(clock: Clock) -> None:
    earlier = {
        "filter": Known(there=10, total=10, seconds=99.0),
        "embed": Known(there=0, total=20, seconds=1.0),  # two shards for each of filter's
        "model": Known(there=0, total=1, seconds=30.0),
        "pack": Known(there=0, total=5, seconds=8.0),
    }
    told = begun(clock, earlier, found=0, missing=10, made=4).ahead()
    # filter: 6 at 2 s; embed: 20 at 1 s by two workers; the model by one; pack: 5 at 8 s by two.
    assert told.left_s == pytest.approx(12 + 10 + 30 + 20)
    assert told.unknown == ()
    assert told.share == pytest.approx(16 / (16 + 24 + 20 + 30 + 40))


def test_a_delivery_that_adds_shards_is_forecast_as_these_at_every_step(clock: Clock) -> None:
    earlier = {name: Known(there=90, total=90, seconds=2.0) for name in ("filter", "embed", "pack")}
    earlier["model"] = Known(there=1, total=1, seconds=50.0)
    plan = begun(clock, earlier, found=90, missing=10, made=10)
    plan.plan([Part(name="model", reads=("embed",), fitted=True, pinned=True)])
    plan.end("filter")
    told = plan.ahead()
    assert told.left_s == pytest.approx((10 + 10) * 2.0 / 2)
    assert (told.done, told.step_left_s) == (2, None)


def test_a_build_that_died_half_way_has_all_left_that_it_did_not_come_to(clock: Clock) -> None:
    earlier = {
        "filter": Known(there=100, total=100, seconds=4.0),
        "embed": Known(there=60, total=100, seconds=4.0),
        "model": Known(there=1, total=1, seconds=9.0),
    }
    plan = begun(clock, earlier, found=90, missing=10, made=10)
    plan.end("filter")
    told = plan.ahead()
    assert told.unknown == ("pack",)
    assert told.left_s == pytest.approx(40 * 4.0 / 2 + 9.0)


def test_a_model_is_as_far_as_its_worker_says(clock: Clock) -> None:
    plan = Forecast(clock=clock)
    plan.plan(PLAN[2:3])
    plan.begin(PLAN[2], found=0, missing=1)
    clock.now += 30
    plan.begun["model"].share = 0.25
    told = plan.ahead()
    assert told.left_s == pytest.approx(90)
    assert told.share == pytest.approx(0.25)
    plan.made("model", 30.0)
    plan.end("model")
    assert (plan.ahead().left_s, plan.ahead().share, plan.ahead().done) == (0.0, 1.0, 1)


def test_the_next_job_goes_by_what_this_one_measured_and_else_by_what_it_was_told(clock: Clock) -> None:
    plan = begun(clock, {"pack": Known(there=7, total=8, seconds=3.0)}, found=5, missing=10, made=4)
    assert plan.known() == {
        "filter": Known(there=9, total=15, seconds=4.0),
        "pack": Known(there=7, total=8, seconds=3.0),
    }
    plan.settle(Part(name="pack"), 8)
    assert plan.known()["pack"] == Known(there=8, total=8, seconds=3.0)


def test_a_finished_plan_has_nothing_left() -> None:
    plan = Forecast()
    plan.plan(PLAN)
    for part in PLAN:
        plan.settle(part, 3)
    told = plan.ahead()
    assert (told.done, told.steps, told.left_s, told.unknown) == (4, 4, 0.0, ())


def test_shards_made_in_a_cheaper_way_tell_nothing_of_others(clock: Clock) -> None:
    plan = begun(clock, {"filter": Known(there=15, total=15, seconds=9.0)}, found=5, missing=10, made=4)
    plan.made("filter", 0.1, is_usual=False)
    assert plan.known()["filter"] == Known(there=10, total=15, seconds=9.0)
